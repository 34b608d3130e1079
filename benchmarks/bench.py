"""`make bench`: real orders against a real `decoupled serve`, durable, its processor running, and beside it a yardstick
measured in the same run. Prints what was measured and whether each target is met; `--write` keeps it in RESULTS.md.

Load comes from wrk, on the same machine, with one thread. The loads of a round follow each other at once, so that they
find the machine in the same state; a number is the median of the rounds, a ratio the median of the rounds' ratios.
Before each, the queue is empty."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import report
from benchmarks.loads import Load, need_wrk, now, prefill, processed_per_s, wait_until_empty, wrk
from benchmarks.processes import cpu_s, of_an_order, running
from tests.support.server import ROOT, serving

CONNECTIONS = (32, 64, 256)


@dataclass
class Measured:
    """All that one run found out."""

    yardstick: dict[int, list[Load]] = field(default_factory=lambda: {c: [] for c in CONNECTIONS})
    ceiling: dict[int, list[Load]] = field(default_factory=lambda: {c: [] for c in CONNECTIONS})
    accepted: dict[int, list[Load]] = field(default_factory=lambda: {c: [] for c in CONNECTIONS})
    minute: Load | None = None
    minute_processed_per_s: float = 0.0
    minute_cpu_us: dict[str, float] = field(default_factory=dict)  # of an order: all, and by role
    backlog: dict[int, list[tuple[float, float]]] = field(default_factory=dict)  # waiting → (accepted/s, processed/s)
    peak_rss_mb: float = 0.0


def main() -> None:
    """Measure, print, and perhaps keep."""
    arguments = _arguments()
    need_wrk()
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
        report.keep(text)


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
        since, before = now(data), running(server.pid)
        measured.minute = wrk(server.url, 64, arguments.minute_s)
        measured.minute_processed_per_s = processed_per_s(data, since)
        wait_until_empty(data)
        measured.minute_cpu_us = of_an_order(cpu_s(before, running(server.pid)), measured.minute.requests)
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
                since = now(data)
                load = wrk(server.url, 64, arguments.seconds)
                processed = processed_per_s(data, since, waiting)
                measured.backlog.setdefault(waiting, []).append((load.per_s, processed))
                measured.peak_rss_mb = max(measured.peak_rss_mb, server.peak_rss_mb())
            shutil.rmtree(data)


# --- tools --------------------------------------------------------------------


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


def _say(what: str) -> None:
    print(f"... {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
