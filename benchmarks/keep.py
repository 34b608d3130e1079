"""`make bench-keep`: what years of data cost, and what is done to keep them, beside the same server without. Prints
what was measured beside what is wanted, and exits with 1 if a number is missed; `--write` keeps it in KEEP.md.

A part is a module with a function that takes a directory of its own and what was asked for."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from benchmarks import keep_backup, keep_retention, keep_year, loads
from benchmarks.parts import Benchmark, main
from benchmarks.report import Target

METHOD = """\
The year-old database has messages of the last year, of which 3 in 100 were rejected, 2 in 1,000 are dead, a tenth has
the id of a key, and 10,000 wait until long after; a server's own statements go on with it. A load on it has the same on
a new file beside it, in turn; a ratio is the median of the rounds' ratios. What comes at a pace counts from when it was
due. The index of ids is read once before the loads, as keys do within an hour; without that it is measured, too."""
RECORDS = 50_000_000
QUICK = {"records": 2_000_000, "seconds": 3, "rounds": 3}

PARTS: dict[str, Callable[[Path, argparse.Namespace], list[Target]]] = {
    "year": keep_year.year_old,
    "backup": keep_backup.under_load,
    "retention": keep_retention.under_load,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=RECORDS, help="of the year-old database; 600 bytes each")
    parser.add_argument("--seconds", type=int, default=5, help="of each load")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="fewer of all of these")
    return parser


def _measure(name: str, directory: Path, asked: argparse.Namespace) -> list[Target]:
    loads.need_wrk()
    if asked.quick:
        vars(asked).update(QUICK)
    return PARTS[name](directory, asked)


if __name__ == "__main__":
    main(Benchmark("bench-keep", __doc__, "Kept", "KEEP.md", "clients", METHOD), PARTS, _parser(), _measure)
