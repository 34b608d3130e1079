"""Of `make bench-keep`: a server on a year-old database: how fast it starts and answers, beside one on a new file."""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

from benchmarks import loads, paced, year
from benchmarks.report import Target
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.database import FILE_NAME, Database
from decoupled.engines.sqlite.stats import SqliteStats
from tests.support.server import DECOUPLED, Server, serving, wait_for

QUIET = ("--log-level", "WARNING")
CONNECTIONS = 64
READERS = 16  # connections of those who GET as fast as they can
GETS_S = 500  # that come at a pace of their own
COLD_GETS_S = 100  # where each waits for the disk, four times at first
COLD = "of whose file nothing is in memory"
PATHS = 50_000  # of records, over the whole year
KEYED = {"Idempotency-Key": "%"}  # another one with each order: see orders.lua
LOOKS = 5


def year_old(directory: Path, asked: argparse.Namespace) -> list[Target]:
    """All of it, on one file, which stays for the next time."""
    data = year.directory(asked.records)
    of = f"{asked.records:,} messages"
    start_s, cold_start_s = _start_s(data, _warm), _start_s(data, _forgotten)
    targets = [
        (f"start with {of}, until /health is ok, s", start_s, "< 2"),
        ("the same, longer than on a new file, s", start_s - _start_s(directory / "new", _warm), "< 0.5"),
        (f"the same, {COLD}, s", cold_start_s, "< 2"),
    ]
    _read_ids(data)
    with serving(data, *QUIET) as old, serving(directory / "fresh", *QUIET) as fresh:
        targets += [
            (f"orders accepted with {of}, of those on a new file", _ratio(old, fresh, asked, {}), ">= 0.80"),
            ("the same, with a key on each", _ratio(old, fresh, asked, KEYED), ">= 0.80"),
            *_gets(old, fresh, directory, asked),
            ("`decoupled status`: its look, s", _look_s(data), "< 0.1"),
            ("`decoupled status --every 0.1`: the whole command, s", _status_s(data), "< 2"),
            *_cold(old, fresh, asked),
        ]
    return targets


# --- start ------------------------------------------------------------------------


def _start_s(data: Path, before: Callable[[Path], None]) -> float:
    """The median of some starts."""
    found = []
    for _ in range(LOOKS):
        before(data / FILE_NAME)
        began = time.monotonic()
        with serving(data, *QUIET) as server:
            wait_for(partial(_health, server), lambda status: status == "ok")
            found.append(time.monotonic() - began)
    return statistics.median(found)


def _health(server: Server) -> str:
    status: str = server.get("/health").json["status"]
    return status


def _warm(file: Path) -> None:
    """As it is after the server that ran until now."""


def _forgotten(file: Path) -> None:
    """As after a boot: the kernel is told that nobody needs it."""
    descriptor = os.open(file, os.O_RDONLY)
    os.fsync(descriptor)  # what is not on the disk is not forgotten
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def _read_ids(data: Path) -> None:
    """As it is where keys have come for an hour: each was looked for at a random place of the index of all ids."""
    with closing(Database(data / FILE_NAME, read_only=True)) as database:
        database.execute("SELECT count(*) FROM messages WHERE id > ''").fetchone()


# --- loads ------------------------------------------------------------------------


def _ratio(old: Server, fresh: Server, asked: argparse.Namespace, headers: Mapping[str, str]) -> float:
    ratios = []
    for number in range(asked.rounds + 1):
        found: dict[Server, float] = {}
        for server in (old, fresh)[:: 1 if number % 2 else -1]:
            found[server] = loads.wrk(server.url, CONNECTIONS, asked.seconds, headers).per_s
            wait_for(partial(server.rows, _WAITS), lambda rows: not rows[0][0], loads.EMPTY_WITHIN_S)
        if number:  # the first one warms
            ratios.append(found[old] / found[fresh])
    return statistics.median(ratios)


_WAITS = "SELECT EXISTS (SELECT 1 FROM messages WHERE status = 'queued' AND due_at IS NULL)"


def _gets(old: Server, fresh: Server, directory: Path, asked: argparse.Namespace) -> list[Target]:
    """At a pace, latency is what one waits for; flat out, it is mostly the queue of those who ask, so that it counts
    beside that of a new file."""
    paths = {server: _paths(server, asked.records) for server in (old, fresh)}
    paced_ms = [paced.gets(old.url, paths[old], GETS_S, asked.seconds).p99_ms for _ in range(asked.rounds)]
    ratios, flat_out_ms = [], []
    for number in range(asked.rounds + 1):
        found: dict[Server, loads.Load] = {}
        for server in (old, fresh)[:: 1 if number % 2 else -1]:
            (directory / "paths").write_text("\n".join(paths[server]))
            found[server] = loads.gets(server.url, directory / "paths", READERS, asked.seconds)
        if number:  # the first one warms
            ratios.append(found[old].per_s / found[fresh].per_s)
            flat_out_ms.append(found[old].p99_ms)
    flat_out = f"the same, flat out over {READERS} connections: their queue, mostly, ms"
    return [
        (f"p99 of a GET of any record, at {GETS_S} a second, ms", statistics.median(paced_ms), "< 10"),
        (flat_out, statistics.median(flat_out_ms), "< 50"),
        ("GETs a second, flat out, of those on a new file", statistics.median(ratios), ">= 0.50"),
    ]


def _cold(old: Server, fresh: Server, asked: argparse.Namespace) -> list[Target]:
    """As in the minutes after a boot: each look, and each key, reads the disk at some random place."""
    paths = _paths(old, asked.records)
    _forgotten(old.data / FILE_NAME)
    gets = paced.gets(old.url, paths, COLD_GETS_S, asked.seconds)
    _forgotten(old.data / FILE_NAME)
    found = {server: loads.wrk(server.url, CONNECTIONS, asked.seconds, KEYED).per_s for server in (old, fresh)}
    return [
        (f"p99 of a GET of any record, at {COLD_GETS_S} a second, {COLD}, ms", gets.p99_ms, "< 50"),
        (f"orders accepted with a key on each, {COLD}, of those on a new file", found[old] / found[fresh], ">= 0.20"),
    ]


def _paths(server: Server, seed: int) -> list[str]:
    """Of random records, over all there are."""
    ((last,),) = server.rows("SELECT max(seq) FROM messages")
    rows = server.rows(
        "SELECT id FROM messages WHERE seq IN (SELECT value FROM json_each(?))",
        str(random.Random(seed).sample(range(1, last + 1), min(PATHS, last))),
    )
    return [f"/orders/{message_id}" for (message_id,) in rows]


# --- status -----------------------------------------------------------------------


def _look_s(data: Path) -> float:
    """Of a tool that has just opened the file, the server's answer included."""
    found = []
    for _ in range(LOOKS):
        began = time.monotonic()
        stats = SqliteStats(DataDirectory(data))
        stats.look()
        found.append(time.monotonic() - began)
        stats.close()
    return statistics.median(found)


def _status_s(data: Path) -> float:
    command = [str(DECOUPLED), "status", "--every", "0.1", "--data", str(data)]
    found = []
    for _ in range(LOOKS):
        began = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        found.append(time.monotonic() - began)
    return statistics.median(found)
