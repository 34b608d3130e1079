"""`decoupled replay`: what dead letters would come to in the code that is here, before they are redriven. Nothing is
stored. What has ended already is replayed by `replay_kept.py`."""

from __future__ import annotations

import asyncio
import difflib
import itertools
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from decoupled.cli.dead_letters import fail_for, filters_of, opened, wanted_by
from decoupled.cli.replay_kept import Chosen, replay_kept
from decoupled.cli.side_by_side import json, lines, text
from decoupled.cli.target import item_of, plain, target
from decoupled.core.alike import alike
from decoupled.core.comparing import Read
from decoupled.core.dead_letters import DeadLetter
from decoupled.core.signed_ids import record_id
from decoupled.engines.protocols import DeadLetters
from decoupled.pipeline.loading import load
from decoupled.pipeline.replay import Replayed, message_of, replayed
from decoupled.server.configuration import from_process
from decoupled.server.options import Options
from decoupled.server.workers.single import Single

MAX_KINDS = 100  # that are told apart in the summary; the rest is one more

_SAYS = {
    "processed": "would be processed",
    "rejected": "would be rejected",
    "dead": "would die again",
    "later": "would wait",
    "unknown": "cannot be replayed",
}
_SOLVED = ("processed", "rejected")


@click.command()
@target
@filters_of
@click.argument("message_ids", nargs=-1)
@click.option("--kept", is_flag=True, help="Instead what has ended, where `body_ttl` has kept bodies; newest first.")
@click.option("--workloads", help="Comma-separated, as `serve` takes them.  [default: those that it would serve here]")
@click.option("--call-out", is_flag=True, help="Those, too, whose workloads call others to decide: they do call them.")
@click.option("--limit", type=click.IntRange(1), help="So many at most.  [default: all]")
@click.option("--examples", default=1, type=click.IntRange(0, 100), help="How many are shown whole, of each kind.")
@click.option("--json", "as_json", is_flag=True, help="All of them, one JSON object a line.")
def replay(
    data: Path,
    stack: str | None,
    message_ids: Sequence[str],
    kept: bool,
    workloads: str | None,
    call_out: bool,
    limit: int | None,
    examples: int,
    as_json: bool,
    **filters: Any,
) -> None:
    """What dead letters would come to now, run through the code that is here: all of them, or by id or by filter.
    Nothing is stored. Exit status 1: some would be neither processed nor rejected; with --kept, some would not come to
    what they came to."""
    if message_ids and any(value is not None for value in filters.values()):
        raise click.UsageError("choose by ids, or by filters")
    options = options_of(workloads)
    served = load(options.workloads, options.root)
    calling = [name for name, it in served.items() if it.concurrent and not call_out]
    if kept:
        _check_kept(stack, message_ids, filters)
        chosen_kept = Chosen(filters["workload"], served, calling, filters["newer_than"], limit, examples)
        replay_kept(data, options, chosen_kept, as_json)
        return
    summary = _Summary(examples)
    with opened(data, stack) as store:
        missing: list[str] = []
        if message_ids:
            chosen: Iterable[DeadLetter] = _by_id(store, message_ids, missing)
        else:
            chosen = store.find(wanted_by(filters), bodies=True)
        _replay(itertools.islice(chosen, limit), options, item_of(data, stack), calling, summary, as_json)
    if not as_json:
        summary.show()
    if summary.left_out:
        names = ", ".join(sorted(calling))
        click.echo(f"{summary.left_out:,} left out: {names}: to decide is to call others (--call-out does)", err=True)
    fail_for(missing)
    if summary.unsolved:
        sys.exit(1)


def _check_kept(stack: str | None, message_ids: Sequence[str], filters: dict[str, Any]) -> None:
    if stack is not None:
        raise click.UsageError("a stack keeps no bodies of what has ended: there is nothing to replay but dead letters")
    if message_ids or any(filters[name] is not None for name in ("error", "alike", "older_than")):
        raise click.UsageError("what has ended is chosen by --workload, --newer-than and --limit")


def options_of(workloads: str | None) -> Options:
    """As `serve` would have them; a worker that says little, and is not replaced for what it has done."""
    flags: dict[str, Any] = {"log_level": "ERROR", "worker_messages": 0}
    if workloads is not None:
        flags["workloads"] = tuple(name.strip() for name in workloads.split(","))
    return from_process(flags)


def _by_id(store: DeadLetters, message_ids: Sequence[str], missing: list[str]) -> Iterator[DeadLetter]:
    for message_id in dict.fromkeys(map(record_id, message_ids)):
        if (letter := store.get(message_id)) is None:
            missing.append(message_id)
        else:
            yield letter


def _replay(
    letters: Iterable[DeadLetter],
    options: Options,
    read: Read,
    calling: Collection[str],
    summary: _Summary,
    as_json: bool,
) -> None:
    """One after the other; how many is not known before."""
    columns = (SpinnerColumn(), TextColumn("{task.completed:,} replayed"), TimeElapsedColumn())
    worker = Single(options)
    with asyncio.Runner() as runner, Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        shown = progress.add_task("", total=None)
        try:
            for letter in letters:
                if letter.workload in calling:
                    summary.left_out += 1
                    continue
                message = message_of(letter)
                decision = None if message is None else runner.run(worker.decide(message))
                came_to = replayed(letter, decision, read)
                summary.add(came_to)
                if as_json:
                    click.echo(json.encode(came_to).decode())
                progress.advance(shown)
        finally:
            runner.run(worker.close())


# --- what is shown ----------------------------------------------------------------


@dataclass(slots=True)
class _Kind:
    count: int = 0
    examples: list[Replayed] = field(default_factory=list)


@dataclass(slots=True)
class _Summary:
    """By workload, by what it died of and by what it would come to. Bounded, however many there are."""

    wanted: int  # examples of each kind
    kinds: dict[tuple[str, str, str, str], _Kind] = field(default_factory=dict)
    left_out: int = 0
    unsolved: int = 0

    def add(self, one: Replayed) -> None:
        """Count one more."""
        self.unsolved += one.now not in _SOLVED
        key = (one.workload, alike("", one.was)[2:], one.now, alike("", one.why)[2:])
        if key not in self.kinds and len(self.kinds) == MAX_KINDS:
            key = ("", "of many more kinds", one.now, "")
        kind = self.kinds.setdefault(key, _Kind())
        kind.count += 1
        if len(kind.examples) < self.wanted:
            kind.examples.append(one)

    def show(self) -> None:
        """The most of a kind first."""
        console = Console(width=None if sys.stdout.isatty() else 240, highlight=False)
        total = sum(kind.count for kind in self.kinds.values())
        console.print(f"{total:,} replayed; nothing is stored" if total else "No dead letters to replay.")
        for (workload, was, now, why), kind in sorted(self.kinds.items(), key=lambda it: -it[1].count):
            told = f"{_SAYS[now]}: {why}" if why else _SAYS[now]
            console.print(plain(f"\n{kind.count:>9,}  {workload}  {was}  ->  {told}"), soft_wrap=True)
            for one in kind.examples:
                console.print(plain(_whole(one)), soft_wrap=True)


def _whole(one: Replayed) -> str:
    told = [f"  {one.id}", f"- {one.was}", f"+ {_SAYS[one.now]}" + (f": {one.why}" if one.why else "")]
    if one.now == "processed":
        told += [f"+ result {text(one.result)}"]
    for written in one.writes:
        told.append(f"  item {written.key}")
        told += [line for line in difflib.ndiff(lines(written.before), lines(written.after)) if line[0] != "?"]
    told += [f"+ emits to {emitted.workload}: {text(emitted.body)}" for emitted in one.emits]
    told += (one.traceback or "").splitlines()
    return "\n".join(f"           {line}" for line in told)
