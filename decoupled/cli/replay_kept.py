"""`decoupled replay --kept`: what has ended is run through the code that is here once more, where its body is kept, and
held against what it came to: so a deploy is tried on yesterday's messages. Nothing is stored."""

from __future__ import annotations

import asyncio
import difflib
import itertools
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from decoupled.cli.side_by_side import differing, json, lines, text
from decoupled.cli.target import item_of, kept_of, plain
from decoupled.core.alike import alike
from decoupled.core.comparing import Compared, compared
from decoupled.server.options import Options
from decoupled.server.workers.single import Single

MAX_KINDS = 100  # of differences that are told apart; the rest is one more

_NO_BODIES = "No message that has ended has kept its body: `body_ttl` keeps them (docs/keeping.md)."


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which of them: of a workload, or of `served`, those that are loaded here, without those that `call` others to
    decide; so many at most, that ended since so many seconds; of each kind of difference, so many examples."""

    workload: str | None
    served: Collection[str]
    calling: Collection[str]
    newer_than_s: float | None
    limit: int | None
    examples: int


def replay_kept(data: Path, options: Options, chosen: Chosen, as_json: bool) -> None:
    """One after the other, the newest first. Ends with status 1 if one is not unchanged."""
    if chosen.workload is not None and chosen.workload not in chosen.served:
        served = ", ".join(chosen.served)
        raise click.ClickException(f"the workload {chosen.workload!r} is none of those here ({served}): --workloads")
    summary = _Summary(chosen.examples)
    kept, read = kept_of(data), item_of(data, None)
    since = 0 if chosen.newer_than_s is None else int((time.time() - chosen.newer_than_s) * 1000)
    worker, newest, found = Single(options), kept.newest(), 0
    with asyncio.Runner() as runner, _progress(newest) as (looked_to, replayed):
        try:
            for message, record in kept.find(chosen.workload, since, looked_to):
                if summary.all == chosen.limit:
                    break  # what is left out is none of these
                found += 1
                if message.workload not in chosen.served or message.workload in chosen.calling:
                    summary.left_out[message.workload] = summary.left_out.get(message.workload, 0) + 1
                    continue
                came_to = compared(record, runner.run(worker.decide(message)), read)
                summary.add(came_to)
                replayed()
                if as_json:
                    click.echo(json.encode(came_to).decode())
        finally:
            runner.run(worker.close())
            kept.close()
    if not as_json:
        summary.show() if found else click.echo(_NO_BODIES)
    for workload, count in sorted(summary.left_out.items()):
        why = "to decide is to call others (--call-out does)" if workload in chosen.served else "it is not served here"
        click.echo(f"{count:,} left out: {workload}: {why}", err=True)
    sys.exit(0 if summary.all == summary.unchanged else 1)


@contextmanager
def _progress(newest: int) -> Iterator[tuple[Callable[[int], None], Callable[[], None]]]:
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[n]:,} replayed"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        shown, counted = progress.add_task("", total=newest, n=0), itertools.count(1)
        yield (
            lambda number: progress.update(shown, completed=newest - number),
            lambda: progress.update(shown, n=next(counted)),
        )


# --- what is shown ----------------------------------------------------------------


@dataclass(slots=True)
class _Kind:
    count: int = 0
    examples: list[Compared] = field(default_factory=list)


@dataclass(slots=True)
class _Summary:
    """Those that are not unchanged by workload and by how. Bounded, however many there are."""

    wanted: int  # examples of each kind
    kinds: dict[tuple[str, str], _Kind] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    all: int = 0
    unchanged: int = 0
    otherwise: int = 0  # of the unchanged: items are not as they would leave them

    def add(self, one: Compared) -> None:
        """Count one more."""
        self.all += 1
        if one.verdict == "unchanged":
            self.unchanged += 1
            self.otherwise += bool(one.items)
            return
        key = (one.workload, _how(one))
        if key not in self.kinds and len(self.kinds) == MAX_KINDS:
            key = ("", "of many more kinds")
        kind = self.kinds.setdefault(key, _Kind())
        kind.count += 1
        if len(kind.examples) < self.wanted:
            kind.examples.append(one)

    def show(self) -> None:
        """The most of a kind first."""
        console = Console(width=None if sys.stdout.isatty() else 240, highlight=False)
        console.print(f"{self.all:,} replayed that have ended; nothing is stored")
        console.print(f"\n{self.unchanged:>9,}  unchanged")
        if self.otherwise:
            told = "have items that are not as they would leave them: others may have written those since (--json)"
            console.print(f"           {self.otherwise:,} of these {told}", soft_wrap=True)
        for (workload, how), kind in sorted(self.kinds.items(), key=lambda it: -it[1].count):
            console.print(plain(f"\n{kind.count:>9,}  {workload}  {how}"), soft_wrap=True)
            for one in kind.examples:
                console.print(plain(_whole(one)), soft_wrap=True)


def _how(one: Compared) -> str:
    match one.verdict:
        case "fails":
            return f"would fail: {_alike(one.after)}"
        case "later":
            return f"would wait: {_alike(one.after)}"
        case _ if one.was == one.now == "processed":
            return f"would differ: {differing(one.before, one.after)}"
        case _:
            return f"would differ: {_came_to(one.was, one.before)}  ->  {_came_to(one.now, one.after)}"


def _came_to(status: str, value: object) -> str:
    return f"rejected: {_alike(value)}" if status == "rejected" else status


def _alike(told: object) -> str:
    return alike("", str(told))[2:]


def _whole(one: Compared) -> str:
    before = _said(one.was, one.before)
    after = _said(one.now, one.after)
    diff = [line for line in difflib.ndiff(before, after) if line[0] != "?"]
    told = [f"  {one.id}", *diff, *(one.traceback or "").splitlines()]
    return "\n".join(f"           {line}" for line in told)


def _said(status: str, value: object) -> list[str]:
    return [f"{status}:", *lines(value)] if isinstance(value, dict) else [f"{status}: {_plain(value)}"]


def _plain(value: object) -> str:
    return value if isinstance(value, str) else text(value)
