"""What the benchmarks in parts have in common: which parts are asked for, where they have their files, how what was
measured is told and kept, and that a number that is missed is no success. Measures nothing itself."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from benchmarks import loads, report
from benchmarks.report import Target

Measure = Callable[[str, Path, argparse.Namespace], list[Target]]
"""A part, by its name, with a directory of its own, and what was asked for beside the parts."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One of them. `name` as make has it, `beside`: what runs on the same machine."""

    name: str
    about: str | None
    title: str
    page: str  # of benchmarks/, that its results are kept in
    beside: str
    method: str


def main(benchmark: Benchmark, names: Collection[str], parser: argparse.ArgumentParser, measure: Measure) -> None:
    """Measure, print, and perhaps keep; exit with 1 if a number is missed. `parser` has what is asked for beside the
    parts."""
    parser.prog, parser.description = f"make {benchmark.name}", benchmark.about
    parser.add_argument("--only", nargs="+", choices=names, metavar="PART", help=f"of {', '.join(names)}")
    parser.add_argument("--write", action="store_true", help=f"keep the results in benchmarks/{benchmark.page}")
    arguments = parser.parse_args()
    command = f"make {benchmark.name}" + (f" ARGS='{' '.join(sys.argv[1:])}'" if sys.argv[1:] else "")
    build = report.ROOT / "build"  # beside the sources: on a real disk
    build.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=f"{benchmark.name}-", dir=build))
    try:
        load_before, disk = os.getloadavg()[0], report.disk(directory)
        targets: list[Target] = []
        for name in arguments.only or names:
            print(f"... {name}", file=sys.stderr, flush=True)
            targets += measure(name, directory, arguments)
    finally:
        shutil.rmtree(directory)
    head = report.heading(command, benchmark.beside, disk, load_before)
    text = "\n".join([f"# {benchmark.title}", "", *head, "", benchmark.method, "", *report.verdicts(targets)])
    print(text)
    if arguments.write:
        (report.ROOT / "benchmarks" / benchmark.page).write_text(text + "\n")
    if missed := sum(not report.met(target) for target in targets):
        sys.exit(f"{missed} of {len(targets)} numbers are missed")


def of_loads(
    benchmark: Benchmark, parts: dict[str, Callable[[Path, int, int], list[Target]]], seconds: int, rounds: int
) -> None:
    """`main` for parts that are loads of so many seconds in so many rounds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=seconds, help="of each load")
    parser.add_argument("--rounds", type=int, default=rounds)

    def measure(name: str, directory: Path, asked: argparse.Namespace) -> list[Target]:
        loads.need_wrk()
        return parts[name](directory, asked.seconds, asked.rounds)

    main(benchmark, parts, parser, measure)
