"""`make bench BASE=commit`: this tree beside an earlier commit, in one run, number for number: comparison.py says which
and what is wanted of them. The commit is installed as its README says, into an environment of its own. Both serve all
the while; one is loaded at a time, in turn, until its queue is empty.

`--options` gives this tree's server options, and once more, a further server of this tree with others. BASE=. installs
nothing: the first of these is then what the others are compared with."""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import comparison, faults, loads, report
from benchmarks.comparison import Numbers, Side
from benchmarks.processes import WRITER, counting_calls, cpu_s, of_an_order, running, told
from tests.support.server import DECOUPLED, ROOT, Server, serving

THIS = "."
READERS, WRITERS = 256, 64  # connections of GETs and of orders, where both are there
WARM_S = 2


@dataclass(frozen=True, slots=True)
class Served:
    """A side's server, and the file with its records' paths."""

    side: Side
    server: Server
    paths: Path


def main() -> None:
    """Measure, print, perhaps keep; exit with 1 if a ratio of what was accepted or processed is below `--least`."""
    arguments = _arguments()
    loads.need_wrk()
    (ROOT / "build").mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=ROOT / "build"))  # beside the sources: on a real disk
    load_before = os.getloadavg()[0]
    try:
        disk = report.disk(directory)
        before, *others = _measured(directory, arguments)
    finally:
        shutil.rmtree(directory)
    head = report.heading(arguments.command, "load generators (wrk, one thread each)", disk, load_before)
    text = comparison.render(before, others, head, f"{arguments.rounds} rounds, {arguments.seconds} s a load")
    print(text)
    if arguments.write:
        report.keep(text)
    medians = [statistics.median(comparison.ratios(name, before, now)) for now in others for name in comparison.RATES]
    if min(medians) < arguments.least:
        sys.exit(f"a ratio is below {arguments.least}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench BASE=commit", description=__doc__)
    parser.add_argument("base", help="the earlier commit; . for none")
    parser.add_argument("--options", action="append", help="of this tree's server, as in '--concurrency 3'")
    parser.add_argument("--rounds", type=_count, default=9)
    parser.add_argument("--seconds", type=_count, default=4, help="of each load")
    parser.add_argument("--records", type=_count, default=100_000, help="that the GETs ask for")
    parser.add_argument("--least", type=float, default=0.0, help="fail if an accepted or processed ratio is below")
    parser.add_argument("--write", action="store_true", help="keep the table in benchmarks/RESULTS.md")
    arguments = parser.parse_args()
    arguments.options = arguments.options or [""]
    if arguments.base == THIS and len(arguments.options) < 2:
        parser.error("BASE=. compares this tree with itself: give --options twice")
    more = shlex.join(sys.argv[2:])
    arguments.command = f"make bench BASE={arguments.base}" + (f' ARGS="{more}"' if more else "")
    return arguments


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


# --- who is compared --------------------------------------------------------------


def _measured(directory: Path, arguments: argparse.Namespace) -> list[Side]:
    """All sides; the first is what the others are compared with."""
    with ExitStack() as stack:
        programs = [(f"this tree {text}".strip(), DECOUPLED, shlex.split(text)) for text in arguments.options]
        if arguments.base != THIS:
            commit = _commit(arguments.base)
            program = stack.enter_context(_installed(commit, directory / "base"))
            programs.insert(0, (commit, program, []))
        all_served = [stack.enter_context(_served(directory, *each)) for each in programs]
        for served in all_served:
            _say(f"{served.side.name}: {arguments.records:,} records")
            loads.make_records(served.server, arguments.records, served.paths)
            loads.wrk(served.server.url, WRITERS, WARM_S)
            loads.wait_until_empty(served.server.data)
        for number in range(arguments.rounds):
            _round(all_served[:: 1 if number % 2 else -1], arguments.seconds)
        for served in all_served:
            _add(served, _system_calls, arguments.seconds)
            served.side.processes = told(running(served.server.pid))
        return [served.side for served in all_served]


def _commit(name: str) -> str:
    """Its short hash. Ends the benchmark where there is none of that name."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "--verify", f"{name}^{{commit}}"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or sys.exit(f"{name} is no commit: {found.stderr.strip()}")


@contextmanager
def _installed(commit: str, checkout: Path) -> Iterator[Path]:
    """The `decoupled` command of that commit."""
    _run("git", "-C", str(ROOT), "worktree", "add", "--quiet", "--detach", str(checkout), commit)
    try:
        _say(f"installing {commit}")
        _run("make", "--quiet", "-C", str(checkout), ".venv/run.stamp")
        yield checkout / ".venv" / "bin" / "decoupled"
    finally:
        _run("git", "-C", str(ROOT), "worktree", "remove", "--force", str(checkout))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)


@contextmanager
def _served(directory: Path, name: str, program: Path, options: Sequence[str]) -> Iterator[Served]:
    data = Path(tempfile.mkdtemp(dir=directory)) / "data"
    with serving(data, "--log-level", "WARNING", *options, program=(str(program),)) as server:
        yield Served(Side(name), server, data.with_name("paths"))


# --- what is measured -------------------------------------------------------------


def _round(all_served: Sequence[Served], seconds: int) -> None:
    """Each load of all sides one after the other, so that they find the machine in the same state."""
    for served in all_served:
        served.side.rounds.append({})
    for measure in (_many, _few, _latency, _gets, _gets_beside_orders, _beside_faults):
        for served in all_served:
            _add(served, measure, seconds)


def _add(served: Served, measure: Callable[[Served, int], Numbers], seconds: int) -> None:
    """To the last round. Ends with an empty queue."""
    found = measure(served, seconds)
    loads.wait_until_empty(served.server.data)
    served.side.rounds[-1].update(found)
    numbers = "; ".join(f"{name}: {comparison.number(value)}" for name, value in found.items())
    _say(f"round {len(served.side.rounds)}, {served.side.name}: {numbers}")


def _many(served: Served, seconds: int) -> Numbers:
    """And what an order costs, until it is processed."""
    before, wrk_before_s = running(served.server.pid), _loaders_s()
    since = loads.now(served.server.data)
    load = loads.wrk(served.server.url, comparison.MANY, seconds)
    processed = loads.processed_per_s(served.server.data, since)
    wrk_s = _loaders_s() - wrk_before_s
    loads.wait_until_empty(served.server.data)
    cost_us = of_an_order(cpu_s(before, running(served.server.pid)), load.requests)
    cost_us[comparison.LOADER] = wrk_s * 1e6 / load.requests
    named = {comparison.CPU.format(role): us for role, us in cost_us.items()}
    return {**_rates(comparison.MANY, load, processed), **named, comparison.WORKED_OUT: 1e6 / cost_us[WRITER]}


def _few(served: Served, seconds: int) -> Numbers:
    since = loads.now(served.server.data)
    load = loads.wrk(served.server.url, comparison.FEW, seconds)
    return _rates(comparison.FEW, load, loads.processed_per_s(served.server.data, since))


def _rates(connections: int, load: loads.Load, processed_per_s: float) -> Numbers:
    return {
        comparison.ACCEPTED.format(connections): load.per_s,
        comparison.PROCESSED.format(connections): processed_per_s,
    }


def _latency(served: Served, seconds: int) -> Numbers:
    load = loads.wrk(served.server.url, WRITERS, seconds)
    return {comparison.P99_MS: load.p99_ms, comparison.ALONE: load.per_s}


def _gets(served: Served, seconds: int) -> Numbers:
    return {comparison.GETS: loads.gets(served.server.url, served.paths, READERS, seconds).per_s}


def _gets_beside_orders(served: Served, seconds: int) -> Numbers:
    got, ordered = loads.gets_beside_orders(served.server.url, served.paths, (READERS, WRITERS), seconds)
    return {
        comparison.GETS_BESIDE: got.per_s,
        comparison.BESIDE: ordered.per_s,
        comparison.SHARE: ordered.per_s / served.side.rounds[-1][comparison.ALONE],
    }


def _beside_faults(served: Served, seconds: int) -> Numbers:
    calm_ms = faults.orders_alone(served.server, seconds)
    beside = faults.orders_beside_faults(served.server, seconds)
    return {
        comparison.CALM: calm_ms,
        comparison.FAULTS_ALL: beside.p99_ms,
        comparison.FAULTS: beside.elsewhere_p99_ms,
        comparison.FAULTS_SHARE: beside.elsewhere_p99_ms / calm_ms,
        comparison.ELSEWHERE: beside.elsewhere,
    }


def _system_calls(served: Served, seconds: int) -> Numbers:
    with counting_calls(served.server.pid) as calls:
        load = loads.wrk(served.server.url, comparison.MANY, seconds)
    if not calls:
        _say("system calls are not counted: perf is not on this machine, or may not count them")
    return {comparison.CALLS.format(role): count / load.requests for role, count in calls.items()}


def _loaders_s() -> float:
    """CPU of the load generators that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _say(what: str) -> None:
    print(f"... {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
