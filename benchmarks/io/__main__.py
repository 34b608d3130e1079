"""`make bench-io`: whether one slow, sick, busy or buggy neighbour stops the others, on a real `decoupled serve` with
its defaults and receivers on this machine. Prints what was measured beside what is wanted, and exits with 1 if a number
is missed; `--write` keeps it in IO.md. Linux only: each receiver is an address of the loopback."""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from benchmarks import parts
from benchmarks.io.deliveries import fast, neighbour, slow
from benchmarks.io.queueing import backlog, bug, caller
from benchmarks.parts import Benchmark
from benchmarks.report import Target
from tests.support.client_outages import ten_minutes

METHOD = """\
Clients send notifications to `decoupled serve` (two workers), which delivers them to receivers in the clients' own
process. Exact by id: what was accepted came once, and its record says processed. The other parts use a workload of
their own, benchmarks/io/probe.py; the last one runs in virtual time."""


def outage(_data: Path, _seconds: float) -> list[Target]:
    """Five client libraries, each in five kinds of trouble for ten minutes of virtual time."""
    logging.disable(logging.CRITICAL)
    try:
        during, after = ten_minutes(random.random)
    finally:
        logging.disable(logging.NOTSET)
    ended = sum(each.get("dead", 0) for each in during.values())
    lost = sum(count for each in after.values() for status, count in each.items() if status != "processed")
    return [
        (f"ten minutes of trouble, {len(during)} ways: messages that died", ended, "= 0"),
        ("messages that are not processed when it is over", lost, "= 0"),
    ]


PARTS: dict[str, Callable[[Path, float], list[Target]]] = {
    "fast": fast,
    "slow": slow,
    "neighbour": neighbour,
    "caller": caller,
    "bug": bug,
    "backlog": backlog,
    "outage": outage,
}


def main() -> None:
    """Measure, print, and perhaps keep; exit with 1 if a number is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load; half of it for each of a long queue")
    benchmark = Benchmark("bench-io", __doc__, "Neighbours", "IO.md", "clients and receivers", METHOD)
    parts.main(benchmark, PARTS, parser, lambda name, directory, asked: _run(name, directory, asked.seconds))


def _run(name: str, directory: Path, seconds: float) -> list[Target]:
    """One part. What breaks it is told, counts as a missed number, and costs the other parts nothing."""
    began = time.monotonic()
    try:
        targets = PARTS[name](directory / name, seconds)
    except Exception as error:  # noqa: BLE001  whatever it was, the others are measured
        traceback.print_exc()
        targets = [(f"{name}: ended by {type(error).__name__}", 1, "= 0")]
    for what, measured, wanted in targets:
        print(f"    {what}: {measured:,.2f} (wanted {wanted})", file=sys.stderr, flush=True)
    print(f"    took {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return targets


if __name__ == "__main__":
    main()
