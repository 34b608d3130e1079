"""What the sides of a comparison are held against: the name of each number, what is wanted of it, and the table of both
sides, as Markdown. Measures nothing; compare.py does."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.processes import ALL, WRITER
from benchmarks.report import COMPARED, met

Numbers = dict[str, float]
"""What one round came to, by the names below."""

ACCEPTED, PROCESSED = "accepted/s, {} connections", "processed/s, {} connections"
MANY, FEW = 256, 32
RATES = [name.format(connections) for connections in (MANY, FEW) for name in (ACCEPTED, PROCESSED)]
P99_MS = "p99 of the 202, ms, 64 connections"
ALONE = "orders/s, 64 connections"
BESIDE = "orders/s, 64 connections, beside the GETs"
SHARE = "of the orders/s without GETs"
GETS = "GETs/s, 256 connections"
GETS_BESIDE = "GETs/s, 256 connections, beside orders on 64"
CPU = "CPU of an order, us: {}"
LOADER = "wrk, beside it"
WORKED_OUT = "orders/s that the writer bears, worked out and not measured"
CALLS = "system calls of an order: {}"
CALM = "p99 of 480 orders/s, ms"
FAULTS_ALL = "p99 of them beside 4 MiB of faults, ms: all clients"
FAULTS = "p99 of them beside 4 MiB of faults, ms: clients on another front"
FAULTS_SHARE = "of the p99 without faults"
ELSEWHERE = "clients on another front, of 48"


class Goal(NamedTuple):
    """What is wanted of the newer side: of its "ratio" to the earlier one, or of what it is "now"."""

    of: str
    wanted: str


# For two cores. The numbers without a goal are there to understand these by.
GOALS = {
    ACCEPTED.format(MANY): Goal("ratio", ">= 1.25"),
    PROCESSED.format(MANY): Goal("ratio", ">= 1.25"),
    ACCEPTED.format(FEW): Goal("ratio", ">= 1.00"),
    PROCESSED.format(FEW): Goal("ratio", ">= 1.00"),
    P99_MS: Goal("ratio", "<= 1.00"),
    CPU.format(ALL): Goal("now", "<= 80"),
    CPU.format(WRITER): Goal("now", "<= 25"),
    WORKED_OUT: Goal("now", ">= 40,000"),
    GETS_BESIDE: Goal("ratio", ">= 3"),
    BESIDE: Goal("ratio", ">= 0.90"),
    SHARE: Goal("now", ">= 0.90"),
    FAULTS_SHARE: Goal("now", "<= 2"),
}
METHOD = """\
All servers run all the while; one is loaded at a time, from an empty queue, and they take turns at who is first.
Medians of {rounds}; a ratio is the median of the rounds' own, with their quartiles.

The load generators run on the same cores and take their part of them. The CPU of an order is user and system time,
counted until it is processed, too. The GETs are of records that are there, each a random one. One client sends 4 MiB of
faults again and again; those beside it send at a steady pace, and what they wait for their turn counts. Where one
process holds all connections, nobody is on another front, and all of them count. What is worked out is a second divided
by the writer's part of an order: it has a core to itself then, and the others have cores enough."""


@dataclass(slots=True)
class Side:
    """One of them: its name, the processes it has, and its rounds."""

    name: str
    processes: str = ""
    rounds: list[Numbers] = field(default_factory=list)

    def of(self, name: str) -> list[float]:
        """One number, of those rounds that have it."""
        return [each[name] for each in self.rounds if name in each]


def render(before: Side, others: Sequence[Side], head: Sequence[str], rounds: str) -> str:
    """The section of RESULTS.md, with a table for each of the others."""
    lines = [COMPARED, "", *head, "", METHOD.format(rounds=rounds)]
    for now in others:
        lines += ["", f"Before: {before.name} ({before.processes}). Now: {now.name} ({now.processes}).", ""]
        lines += ["| | before | now | ratio | wanted | |", "|---|---:|---:|---:|---:|---|"]
        names = dict.fromkeys(name for side in (now, before) for each in side.rounds for name in each)
        lines += [_row(name, before, now) for name in names]
    return "\n".join(lines)


def ratios(name: str, before: Side, now: Side) -> list[float]:
    """Of rounds that followed each other: the machine's speed changes from minute to minute."""
    rounds = zip(before.rounds, now.rounds, strict=True)
    return [new[name] / old[name] for old, new in rounds if old.get(name) and name in new]


def number(value: float) -> str:
    """As many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _row(name: str, before: Side, now: Side) -> str:
    found = ratios(name, before, now)
    cells = [number(statistics.median(each)) if each else "" for each in (before.of(name), now.of(name))]
    cells.append(f"{statistics.median(found):.2f}{_spread(found)}" if found else "")
    if (goal := GOALS.get(name)) is None:
        verdict = ["", ""]
    else:
        values = found if goal.of == "ratio" else now.of(name)
        kept = bool(values) and met((name, statistics.median(values), goal.wanted))
        verdict = [f"{goal.of} {goal.wanted}", "PASS" if kept else "**MISSED**"]
    return f"| {' | '.join([name, *cells, *verdict])} |"


def _spread(found: Sequence[float]) -> str:
    if len(found) < 2:
        return ""
    low, _, high = statistics.quantiles(found, n=4, method="inclusive")
    return f" ({low:.2f} to {high:.2f})"
