"""What is put on a server, and what came of it: requests by wrk, messages that wait on its queue, records to ask for.
Measures speed and latency; what the server pays for it is told by processes.py."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from decoupled.core.workload import Message
from decoupled.engines.sqlite.database import FILE_NAME, Database
from decoupled.engines.sqlite.messages import SqliteQueue
from tests.support.server import ROOT, Server

SCRIPT = ROOT / "benchmarks" / "orders.lua"
PREFILL_ROWS = 20_000  # a transaction
PREFILL_CACHE_KIB = 256 * 1024  # the rows of an index come in any order
RECORDS_A_REQUEST = 1_000
EMPTY_WITHIN_S = 120
ORDER = (
    '{"customer":{"email":"ana@example.com","name":"Ana Ruiz"},"currency":"EUR","lines":[{"sku":"KB-104","quantity":2,'
    '"unit_price":"39.90"}],"shipping_address":{"line1":"1 Main Street","city":"Dublin","postal_code":"D01 F5P2",'
    '"country":"IE"}}'
)


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw. Latencies in milliseconds."""

    per_s: float
    requests: int
    p50_ms: float
    p99_ms: float


def need_wrk() -> None:
    """Ends the benchmark where it is missing."""
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing; it makes the load. Debian, Ubuntu: sudo apt-get install wrk. macOS: brew install wrk")


def wrk(url: str, connections: int, seconds: int, headers: Mapping[str, str] = {}) -> Load:
    """Orders, each with these headers. Ends the benchmark when a request was refused or a connection failed: the rest
    would mean nothing."""
    return _seen(url, *_wrk(url, connections, seconds, headers=headers).communicate())


def gets(url: str, paths: Path, connections: int, seconds: int) -> Load:
    """GETs of the records whose paths a file has, each a random one of them. Ends the benchmark as `wrk` does."""
    return _seen(url, *_wrk(url, connections, seconds, paths).communicate())


def gets_beside_orders(url: str, paths: Path, connections: tuple[int, int], seconds: int) -> tuple[Load, Load]:
    """GETs and orders at once, over so many connections each: a wrk for each, and what both saw."""
    reading = _wrk(url, connections[0], seconds, paths)
    load = wrk(url, connections[1], seconds)
    return _seen(url, *reading.communicate()), load


def _wrk(
    url: str,
    connections: int,
    seconds: int,
    paths: Path | None = None,
    headers: Mapping[str, str] = {},
) -> subprocess.Popen[str]:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(SCRIPT), url]
    command += ["--", str(paths)] if paths else []
    environment = os.environ | {"HEADERS": "\n".join(f"{name}: {value}" for name, value in headers.items())}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _seen(url: str, output: str, errors: str) -> Load:
    found = re.search(r"^RESULT (.*)$", output, re.MULTILINE)
    if found is None:
        sys.exit(f"wrk did not finish:\n{output}{errors}")
    requests, microseconds, refused, broken, p50, p99 = map(int, found[1].split())
    if refused or broken:
        sys.exit(f"{refused} requests refused, {broken} connections broken, of {requests} to {url}:\n{output}")
    return Load(requests * 1e6 / microseconds, requests, p50 / 1000, p99 / 1000)


# --- messages and records -----------------------------------------------------


def prefill(
    data: Path, messages: int, workload: str = "orders", body: str = ORDER, groups: Sequence[str] = ("",)
) -> list[str]:
    """Put messages on the queue of a server that is down, through the engine's own queue. The groups take turns, and
    their names stand for %s in the body. The messages' ids."""
    data.mkdir(parents=True)
    database = Database(data / FILE_NAME)
    database.execute(f"PRAGMA cache_size = -{PREFILL_CACHE_KIB}")
    queue = SqliteQueue(database)
    now_ms = queue.clock_ms()
    ids = [f"{now_ms:012x}{n:020x}" for n in range(messages)]
    kinds = [(body.replace("%s", group), group) for group in groups]
    for start in range(0, messages, PREFILL_ROWS):
        rows = range(start, min(start + PREFILL_ROWS, messages))
        each = [(ids[n], *kinds[n % len(kinds)]) for n in rows]
        outcomes = queue.send([Message(id_, workload, text, "bench", now_ms, group) for id_, text, group in each])
        if any(outcomes):
            sys.exit(f"the queue refused: {outcomes[0]}")
    database.close()
    return ids


def make_records(server: Server, records: int, paths: Path) -> None:
    """Have a server, of whatever version, accept and process orders; their records' paths go to a file, one a line."""
    entries = [json.loads(ORDER)] * RECORDS_A_REQUEST
    with paths.open("w") as file:
        for start in range(0, records, RECORDS_A_REQUEST):
            ids = server.accept("/orders", *entries[: records - start])
            file.writelines(f"/orders/{id_}\n" for id_ in ids)
    wait_until_empty(server.data)


@dataclass(frozen=True, slots=True)
class Moment:
    """Of a server: the clock, and the last row of its messages."""

    at_ms: int
    row: int


def now(data: Path) -> Moment:
    """This one."""
    return Moment(time.time_ns() // 1_000_000, _ask(data, "SELECT coalesce(max(seq), 0) FROM messages"))


def processed_per_s(data: Path, since: Moment, waiting: int = 0) -> float:
    """Since a moment at which so many messages waited, the last ones that there were, until now."""
    now_ms = time.time_ns() // 1_000_000
    sql = "SELECT count(*) FROM messages WHERE seq > ? AND status = 'processed' AND finished_at BETWEEN ? AND ?"
    processed = _ask(data, sql, since.row - waiting, since.at_ms, now_ms)
    return processed * 1000 / (now_ms - since.at_ms)


def wait_until_empty(data: Path) -> None:
    """Ends the benchmark when messages still wait after two minutes."""
    deadline = time.monotonic() + EMPTY_WITHIN_S
    while _ask(data, "SELECT EXISTS (SELECT 1 FROM messages WHERE status = 'queued')"):
        if time.monotonic() > deadline:
            sys.exit(f"messages still wait after {EMPTY_WITHIN_S} s")
        time.sleep(0.1)


def _ask(data: Path, sql: str, *parameters: int) -> int:
    """A number out of the data directory, read beside the server."""
    with closing(sqlite3.connect(f"file:{data / FILE_NAME}?mode=ro", uri=True)) as connection:
        answer: int = connection.execute(sql, parameters).fetchone()[0]
    return answer
