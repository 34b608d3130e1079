"""Of `make bench-keep`: retention that removes what is due while a server takes all the load that it gets: what that
costs requests, and whether the room comes back."""

from __future__ import annotations

import argparse
import statistics
from functools import partial
from pathlib import Path

from benchmarks import loads, year
from benchmarks.keep_backup import Log
from benchmarks.report import Target
from decoupled.core import limits
from decoupled.core.upkeep_limits import FREE_PAGES, FREE_PART
from decoupled.engines.sqlite.database import FILE_NAME
from tests.support.server import Server, serving, wait_for

QUIET = ("--log-level", "WARNING")
SWEPT = (*QUIET, "--record-ttl", "1d")
CONNECTIONS = 64
MOST_RECORDS = 200_000  # 130 MB, of which most is due, and goes within a minute or two
PART_DUE = 0.85  # the dead stay, what waits does, and the last day
WITHIN_S = 900.0


def under_load(directory: Path, asked: argparse.Namespace) -> list[Target]:
    """Loads on a server that removes and on one that does not, in turn, of the same file. Another file of the same
    becomes as small as it may, without a load."""
    records = min(asked.records, MOST_RECORDS)
    data = _year(directory / "swept", records)
    ratios, removed_s = [], []
    with Log(data) as log:
        for number in range(asked.rounds + 1):
            alone, _ = _load(data, QUIET, asked.seconds)
            beside, removed = _load(data, SWEPT, asked.seconds)
            if number:  # the first one warms
                ratios.append(beside / alone)
                removed_s.append(removed / asked.seconds)
    return [
        ("orders accepted while retention removes, of those without", statistics.median(ratios), ">= 0.80"),
        ("records removed a second, while requests come without a pause", statistics.median(removed_s), ">= 20"),
        ("the most that SQLite's log had meanwhile, MiB", log.most_bytes / limits.MIB, "< 64"),
        ("a file of which all is removed that is due, of what it was", _left(directory / "left", records), "< 0.40"),
    ]


def _year(data: Path, records: int) -> Path:
    data.mkdir(mode=0o700)
    year.make(data / FILE_NAME, records)
    return data


def _load(data: Path, options: tuple[str, ...], seconds: int) -> tuple[float, int]:
    """Orders accepted a second, and how many records went meanwhile."""
    with serving(data, *options) as server:
        before = _one(server, _REMOVED)
        per_s = loads.wrk(server.url, CONNECTIONS, seconds).per_s
        return per_s, _one(server, _REMOVED) - before


def _left(data: Path, records: int) -> float:
    """What is left of the file; what waits stays, and so do the dead."""
    before = year.size(_year(data, records))
    with serving(data, *SWEPT) as server:
        wait_for(partial(_one, server, _REMOVED), lambda removed: removed > records * PART_DUE, WITHIN_S)
        wait_for(partial(_spare_pages, server), lambda spare: spare <= 0, WITHIN_S)
    return year.size(data) / before


def _spare_pages(server: Server) -> int:
    """That the file has and new rows will not need soon: see space.py."""
    free, pages = (_one(server, f"PRAGMA {name}") for name in ("freelist_count", "page_count"))
    return free - max(FREE_PAGES, int(pages * FREE_PART))


_REMOVED = "SELECT coalesce(sum(processed + rejected + dead), 0) FROM removed"


def _one(server: Server, statement: str) -> int:
    number: int = server.rows(statement)[0][0]
    return number
