"""`make bench`: real orders against a real `decoupled serve`, durable, its processor running, and beside it a yardstick
measured in the same run. Prints what was measured and whether each target is met; `--write` keeps it in RESULTS.md.

Load comes from wrk, on the same machine, with one thread. The loads of a round follow each other at once, so that they
find the machine in the same state; a number is the median of the rounds, a ratio the median of the rounds' ratios.
Before each, the queue is empty."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import report
from decoupled.core.workload import Message
from decoupled.engines.sqlite.database import FILE_NAME, Database
from decoupled.engines.sqlite.messages import SqliteQueue
from tests.support.server import ROOT, serving

SCRIPT = ROOT / "benchmarks" / "orders.lua"
CONNECTIONS = (32, 64, 256)
PREFILL_ROWS = 20_000  # a transaction
PREFILL_CACHE_KIB = 256 * 1024  # the rows of an index come in any order
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


@dataclass
class Measured:
    """All that one run found out."""

    yardstick: dict[int, list[Load]] = field(default_factory=lambda: {c: [] for c in CONNECTIONS})
    ceiling: dict[int, list[Load]] = field(default_factory=lambda: {c: [] for c in CONNECTIONS})
    accepted: dict[int, list[Load]] = field(default_factory=lambda: {c: [] for c in CONNECTIONS})
    minute: Load | None = None
    minute_processed_per_s: float = 0.0
    backlog: dict[int, list[tuple[float, float]]] = field(default_factory=dict)  # waiting → (accepted/s, processed/s)
    peak_rss_mb: float = 0.0


def main() -> None:
    """Measure, print, and perhaps keep."""
    arguments = _arguments()
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing; it makes the load. Debian, Ubuntu: sudo apt-get install wrk. macOS: brew install wrk")
    (ROOT / "build").mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=ROOT / "build"))  # beside the sources: on a real disk
    measured, load_before = Measured(), os.getloadavg()[0]
    try:
        disk = report.disk(directory)
        _steady(measured, directory, arguments)
        _backlogs(measured, directory, arguments)
    finally:
        shutil.rmtree(directory)
    text = report.render(measured, disk, load_before, arguments.command)
    print(text)
    if arguments.write:
        (ROOT / "benchmarks" / "RESULTS.md").write_text(text + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about one minute; numbers to look at, not to quote")
    parser.add_argument("--write", action="store_true", help="keep the results in benchmarks/RESULTS.md")
    arguments = parser.parse_args()
    arguments.rounds, arguments.round_s, arguments.minute_s = (3, 2, 10) if arguments.quick else (9, 3, 60)
    arguments.waiting = (1_000, 100_000) if arguments.quick else (1_000, 1_000_000)
    arguments.repetitions, arguments.seconds = (1, 3) if arguments.quick else (7, 5)  # with messages waiting
    arguments.command = "make bench" + (f" ARGS='{' '.join(sys.argv[1:])}'" if sys.argv[1:] else "")
    return arguments


# --- what is measured ---------------------------------------------------------


def _steady(measured: Measured, directory: Path, arguments: argparse.Namespace) -> None:
    """Yardstick, ceiling and orders in turn; then a minute of orders end to end."""
    data = directory / "steady"
    with (
        _nothing("uvicorn") as yardstick,
        _nothing("ours") as ceiling,
        serving(data, "--log-level", "WARNING") as server,
    ):
        for url in (yardstick, ceiling, server.url):
            wrk(url, 32, 2)  # imports, pages, branch predictors
        for number in range(arguments.rounds):
            for connections in CONNECTIONS:
                _say(f"round {number + 1} of {arguments.rounds}: {connections} connections")
                measured.yardstick[connections].append(wrk(yardstick, connections, arguments.round_s))
                measured.accepted[connections].append(wrk(server.url, connections, arguments.round_s))
                measured.ceiling[connections].append(wrk(ceiling, connections, arguments.round_s))
                wait_until_empty(data)
        _say(f"{arguments.minute_s} s of orders, end to end")
        since_ms = time.time_ns() // 1_000_000
        measured.minute = wrk(server.url, 64, arguments.minute_s)
        measured.minute_processed_per_s = processed_per_s(data, since_ms)
        wait_until_empty(data)
        measured.peak_rss_mb = max(measured.peak_rss_mb, server.peak_rss_mb())


def _backlogs(measured: Measured, directory: Path, arguments: argparse.Namespace) -> None:
    """The same load on a queue in which few messages wait, and on one in which many do: in turn, each time from the
    same file, and with nothing left for the kernel to write."""
    for waiting in arguments.waiting:
        _say(f"putting {waiting:,} messages on a queue")
        prefill(directory / str(waiting), waiting)
    data = directory / "backlog"
    for repetition in range(arguments.repetitions):
        for waiting in arguments.waiting[:: 1 if repetition % 2 else -1]:
            _say(f"round {repetition + 1} of {arguments.repetitions}: {waiting:,} messages waiting")
            shutil.copytree(directory / str(waiting), data)
            os.sync()
            with serving(data, "--log-level", "WARNING") as server:
                since_ms = time.time_ns() // 1_000_000
                load = wrk(server.url, 64, arguments.seconds)
                measured.backlog.setdefault(waiting, []).append((load.per_s, processed_per_s(data, since_ms)))
                measured.peak_rss_mb = max(measured.peak_rss_mb, server.peak_rss_mb())
            shutil.rmtree(data)


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


# --- tools --------------------------------------------------------------------


def wrk(url: str, connections: int, seconds: int) -> Load:
    """One load. Ends the benchmark when a request was refused or a connection failed: the rest would mean nothing."""
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--timeout",
        "30s",
        "-s",
        str(SCRIPT),
        url,
    ]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"^RESULT (.*)$", output, re.MULTILINE)
    if found is None:
        sys.exit(f"wrk did not finish:\n{output}")
    requests, microseconds, refused, broken, p50, p99 = map(int, found[1].split())
    if refused or broken:
        sys.exit(f"{refused} requests refused, {broken} connections broken, of {requests} to {url}:\n{output}")
    return Load(requests * 1e6 / microseconds, requests, p50 / 1000, p99 / 1000)


@contextmanager
def _nothing(kind: str) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.yardstick", kind], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None  # noqa: S101  it was asked for
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def _ask(data: Path, sql: str, *parameters: int) -> int:
    """A number out of the data directory, read beside the server."""
    with closing(sqlite3.connect(f"file:{data / FILE_NAME}?mode=ro", uri=True)) as connection:
        answer: int = connection.execute(sql, parameters).fetchone()[0]
    return answer


def processed_per_s(data: Path, since_ms: int) -> float:
    now_ms = time.time_ns() // 1_000_000
    sql = "SELECT count(*) FROM messages WHERE status = 'processed' AND finished_at BETWEEN ? AND ?"
    return _ask(data, sql, since_ms, now_ms) * 1000 / (now_ms - since_ms)


def wait_until_empty(data: Path) -> None:
    deadline = time.monotonic() + EMPTY_WITHIN_S
    while _ask(data, "SELECT EXISTS (SELECT 1 FROM messages WHERE status = 'queued')"):
        if time.monotonic() > deadline:
            sys.exit(f"messages still wait after {EMPTY_WITHIN_S} s")
        time.sleep(0.1)


def _say(what: str) -> None:
    print(f"... {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
