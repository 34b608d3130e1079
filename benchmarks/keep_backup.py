"""Of `make bench-keep`: backups of a server under all the load that it takes: whether they come to an end, and what
they cost it meanwhile."""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import threading
import time
from pathlib import Path

from benchmarks import loads, year
from benchmarks.report import Target
from decoupled.core import limits
from decoupled.engines.sqlite.database import FILE_NAME
from tests.support.server import DECOUPLED, Server, serving

QUIET = ("--log-level", "WARNING")
CONNECTIONS = 64
MOST_RECORDS = 10_000_000  # 6 GB: a backup of it takes some minutes
MOST_LOADS = 1_000  # during one backup
LOOK_S = 0.02  # between two looks at the log's size
GB = 1_000_000_000


def under_load(directory: Path, asked: argparse.Namespace) -> list[Target]:
    """All of it, on one file: loads with a backup and without, in turn."""
    records = min(asked.records, MOST_RECORDS)
    data = year.directory(records)
    ratios, seconds_a_gb = [], []
    with serving(data, *QUIET) as server, Log(data) as log:
        for number in range(asked.rounds + 1):
            alone = loads.wrk(server.url, CONNECTIONS, asked.seconds).per_s
            copy = directory / f"copy-{number}"
            beside, took_s = _with_a_backup(server, data, copy, asked.seconds)
            if number:  # the first one warms
                ratios.append(beside / alone)
                seconds_a_gb.append(took_s / copy.stat().st_size * GB)
            copy.unlink()
    of = f"of {records:,} messages, under load"
    return [
        (f"orders accepted with a backup {of}, of those without", statistics.median(ratios), ">= 0.80"),
        ("the most that SQLite's log had, MiB", log.most_bytes / limits.MIB, "< 64"),
        (f"a backup {of}, its verification included, s a GB", statistics.median(seconds_a_gb), "< 600"),
    ]


def _with_a_backup(server: Server, data: Path, copy: Path, seconds: int) -> tuple[float, float]:
    """Orders accepted a second by the loads that it outlasted, or by the only one; and how long it took."""
    began = time.monotonic()
    found: list[float] = []
    with subprocess.Popen([DECOUPLED, "backup", "--data", data, copy], stdout=subprocess.DEVNULL) as backup:
        for _ in range(MOST_LOADS):
            load = loads.wrk(server.url, CONNECTIONS, seconds).per_s
            if backup.poll() is None or not found:
                found.append(load)
            if backup.returncode is not None:
                break
        if backup.returncode != 0:
            raise RuntimeError(f"the backup has not come to its end: {backup.returncode}")
    return statistics.fmean(found), time.monotonic() - began


class Log:
    """How long SQLite's log becomes."""

    def __init__(self, data: Path) -> None:
        self._file = data / f"{FILE_NAME}-wal"
        self._done = threading.Event()
        self._looking = threading.Thread(target=self._look)
        self.most_bytes = 0

    def __enter__(self) -> Log:
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._looking.join()

    def _look(self) -> None:
        while not self._done.wait(LOOK_S):
            with contextlib.suppress(FileNotFoundError):  # between two servers there is none
                self.most_bytes = max(self.most_bytes, self._file.stat().st_size)
