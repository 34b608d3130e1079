"""`decoupled dead`: what is in the dead-letter queue, why, since when, until when, and how to put it back."""

from __future__ import annotations

import itertools
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from decoupled.cli import private
from decoupled.cli.target import DURATION, dead_letters_of, plain, target
from decoupled.core import dead_letters as letters
from decoupled.core import limits
from decoupled.core.dead_letters import DeadLetter, Outcome, Wanted
from decoupled.core.signed_ids import record_id
from decoupled.core.times import rfc3339
from decoupled.engines.protocols import DeadLetters

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def dead() -> None:
    """Dead letters: list, show, edit, redrive, export, import, purge."""


@contextmanager
def opened(data: Path, stack: str | None) -> Iterator[DeadLetters]:
    """Those of a data directory or a stack; what there is to note is said at the end."""
    store = dead_letters_of(data, stack)
    try:
        yield store
        for note in store.notes():
            click.echo(f"Note: {note}", err=True)
    finally:
        store.close()


def filters_of(command: F) -> F:
    """The options that say which are wanted."""
    for option in (
        click.option("--newer-than", type=DURATION, help="Dead since less than this: 15m, 2h, 3d."),
        click.option("--older-than", type=DURATION, help="Dead for longer than this: 15m, 2h, 3d."),
        click.option("--alike", help="Of this kind of error, as the page names it: `KeyError: no product '…'`."),
        click.option("--error", help="Of this error type, or with this in the error's text."),
        click.option("--workload", help="Of this workload."),
    ):
        command = option(command)
    return command


def wanted_by(filters: dict[str, Any]) -> Wanted:
    """Which are wanted, by those options."""
    now_ms = time.time_ns() // 1_000_000
    older, newer = filters["older_than"], filters["newer_than"]
    return Wanted(
        workload=filters["workload"],
        error=filters["error"],
        dead_before=None if older is None else now_ms - int(older * 1000),
        dead_after=None if newer is None else now_ms - int(newer * 1000),
        alike=filters["alike"],
    )


# --- look -----------------------------------------------------------------------


@dead.command("list")
@target
@filters_of
@click.option("--limit", default=50, type=click.IntRange(1), show_default=True, help="Rows of the table, oldest first.")
@click.option("--json", "as_json", is_flag=True, help="All of them, one JSON object a line, without bodies.")
def list_(data: Path, stack: str | None, limit: int, as_json: bool, **filters: Any) -> None:
    """What is dead, why, since when and until when."""
    with opened(data, stack) as store:
        found = store.find(wanted_by(filters))
        if as_json:
            for letter in found:
                click.echo(letters.encode(letter))
            return
        shown, total = [], 0
        for letter in found:
            total += 1
            if total <= limit:
                shown.append(letter)
        if not total:
            click.echo("No dead letters." if not any(filters.values()) else "No dead letters match.")
            return
        Console(width=None if sys.stdout.isatty() else 240).print(_table(shown))
        click.echo(f"{total:,} dead" + (f"; the oldest {limit} are shown (--limit)" if total > limit else ""))


def _table(shown: Iterable[DeadLetter]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("id", "workload", "why", "tries", "dead since", "until"):
        table.add_column(name, no_wrap=name in ("id", "workload", "tries"), overflow="fold")
    for letter in shown:
        why = f"{letter.error_type}: {letter.error}" if letter.buried_by == "processor" else letter.error
        why = why if len(why) <= 160 else why[:159] + "…"
        cells = (letter.id, letter.workload, why, str(letter.attempts), rfc3339(letter.dead_at), _until(letter))
        table.add_row(*(plain(cell) for cell in cells))
    return table


def _until(letter: DeadLetter) -> str:
    if letter.sqs_deletes_at is None:
        return "redriven or purged"
    when = rfc3339(letter.sqs_deletes_at)
    return f"redriven or purged (SQS's copy: {when})" if letter.recorded else f"{when}: then SQS deletes it"


@dead.command()
@target
@click.argument("message_id")
def show(data: Path, stack: str | None, message_id: str) -> None:
    """One dead letter whole, as JSON, with its body: by its id, as it is here or as its client has it."""
    with opened(data, stack) as store:
        letter = store.get(record_id(message_id))
    if letter is None:
        raise click.ClickException(f"{message_id} is not dead here")
    click.echo(letters.encode(letter))


# --- put back -------------------------------------------------------------------


@dead.command()
@target
@filters_of
@click.argument("message_ids", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--rate", type=click.FloatRange(0.1), help="At most so many a second.  [default: as fast as it goes]")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
def redrive(
    data: Path,
    stack: str | None,
    message_ids: Sequence[str],
    everything: bool,
    rate: float | None,
    dry_run: bool,
    **filters: Any,
) -> None:
    """Put dead letters back on the queue, with no attempts counted: by id, by filter, or --all. Repeating it, after a
    crash of this command too, is safe: a message has its effects once."""
    _check_choice(message_ids, everything, filters)
    with opened(data, stack) as store:
        missing, chosen = choose(store, message_ids, filters)
        _plan(chosen(), "would be redriven" if dry_run else "to redrive")
        if not dry_run:
            _report(apply(chosen(), store.redrive, _tell_failures, rate))
    fail_for(missing)


@dead.command()
@target
@filters_of
@click.argument("message_ids", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(
    data: Path, stack: str | None, message_ids: Sequence[str], everything: bool, yes: bool, **filters: Any
) -> None:
    """Give dead letters up, for good: their bodies are deleted, their records say so. Export them first."""
    _check_choice(message_ids, everything, filters)
    with opened(data, stack) as store:
        missing, chosen = choose(store, message_ids, filters)
        total = _plan(chosen(), "to purge")
        if (
            total
            and not yes
            and click.prompt("Type how many, to purge them", default="", show_default=False) != str(total)
        ):
            raise click.ClickException("that is not how many; nothing was purged")
        _report(apply(chosen(), store.purge, _tell_failures))
    fail_for(missing)


def _check_choice(message_ids: Sequence[str], everything: bool, filters: dict[str, Any]) -> None:
    by_filter = any(value is not None for value in filters.values())
    if bool(message_ids) + everything + by_filter != 1:
        raise click.UsageError("choose by ids, or by filters, or --all")


def choose(
    store: DeadLetters, message_ids: Sequence[str], filters: dict[str, Any]
) -> tuple[list[str], Callable[[], Iterable[DeadLetter]]]:
    """Ids that are not dead; and a way to walk what was chosen, which asks the store anew each time."""
    if not message_ids:
        wanted = wanted_by(filters)
        return [], lambda: store.find(wanted)
    found = {message_id: store.get(message_id) for message_id in dict.fromkeys(map(record_id, message_ids))}
    return (
        [message_id for message_id, letter in found.items() if letter is None],
        lambda: [letter for letter in found.values() if letter is not None],
    )


def _plan(chosen: Iterable[DeadLetter], doing: str) -> int:
    kinds = Counter((letter.workload, letter.error_type) for letter in chosen)
    total = sum(kinds.values())
    click.echo(f"{total:,} {doing}" + (":" if total else "."))
    for (workload, error_type), count in kinds.most_common():
        click.echo(f"  {count:>9,}  {workload}  {error_type}")
    return total


def _tell_failures(letter: DeadLetter, outcome: Outcome) -> None:
    if outcome.done is None:
        click.echo(f"{letter.id}: nothing done: {outcome.why_not}", err=True)


def _report(counts: Counter[str]) -> None:
    for what, count in sorted(counts.items()):
        click.echo(f"{count:,} {what}" if not what.startswith("not: ") else f"{count:,} left alone: {what[5:]}")


def fail_for(missing: Sequence[str]) -> None:
    """Name those that are not dead, and end with status 1 if there are any."""
    for message_id in missing:
        click.echo(f"{message_id} is not dead here", err=True)
    if missing:
        sys.exit(1)


def apply(
    letters: Iterable[DeadLetter],
    act: Callable[[Sequence[DeadLetter]], list[Outcome]],
    on_outcome: Callable[[DeadLetter, Outcome], None],
    rate: float | None = None,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Counter[str]:
    """Do it to all of them, a batch at a time and at most `rate` a second. Answers how many came to what."""
    size = limits.TOOL_BATCH if rate is None else max(1, min(limits.TOOL_BATCH, int(rate)))
    counts: Counter[str] = Counter()
    remaining, acted, start = iter(letters), 0, clock()
    while batch := list(itertools.islice(remaining, size)):
        for letter, outcome in zip(batch, act(batch), strict=True):
            counts[outcome.done or f"not: {outcome.why_not}"] += 1
            on_outcome(letter, outcome)
        acted += len(batch)
        if rate is not None and (ahead_s := start + acted / rate - clock()) > 0:
            pause(ahead_s)
    return counts


# --- keep -----------------------------------------------------------------------


@dead.command()
@target
@filters_of
@click.option(
    "--output",
    "-o",
    default="-",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="File, which only you may read; - is standard output.",
)
def export(data: Path, stack: str | None, output: Path, **filters: Any) -> None:
    """Write dead letters with their bodies as JSON, one a line. They stay where they are."""
    total = 0
    with opened(data, stack) as store, _written(output) as file:
        for letter in store.find(wanted_by(filters), bodies=True):
            file.write(letters.encode(letter).encode() + b"\n")
            total += 1
    click.echo(f"{total:,} exported", err=True)


@contextmanager
def _written(output: Path) -> Iterator[IO[bytes]]:
    if output == Path("-"):
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with private.replaced(output) as file:
        yield file


@dead.command("import")
@target
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def import_(data: Path, stack: str | None, file: Path) -> None:
    """Make dead letters of what was exported, here or elsewhere; redrive them then. Repeating it is harmless."""
    with file.open("rb") as lines:
        total = sum(1 for _ in letters.read(lines))  # all of it is checked before any of it is stored
    with opened(data, stack) as store, file.open("rb") as lines:
        counts = apply(letters.read(lines), store.restore, lambda _letter, _outcome: None)
    click.echo(f"{total:,} read")
    _report(counts)
