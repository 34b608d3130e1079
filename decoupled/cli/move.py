"""`decoupled move`: all of a system to another engine, while it goes on; and what can be taken back of that."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from decoupled.cli.move_sides import Sides, from_stack, to_stack
from decoupled.cli.target import default_data, plain, refusals
from decoupled.core.upkeep_limits import MOVE_WRITES_S
from decoupled.core.workload import Unavailable
from decoupled.pipeline.loading import load
from decoupled.pipeline.moving import Differs, Move
from decoupled.server.configuration import from_process


@click.command()
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Data directory.  [default: .data]")
@click.option("--stack", help="Name of a CloudFormation stack, instead of a data directory.")
@click.option(
    "--to", required=True, metavar="STACK|DIR", help="The stack that it goes to; with --stack, a new data directory."
)
@click.option("--dry-run", is_flag=True, help="Say what would go over, how long that takes and what it writes.")
@click.option("--cut-over", is_flag=True, help="Stop here, and hand over the rest: what waits, and what is dead.")
@click.option("--back-out", is_flag=True, help="Accept here again, as long as nothing was handed over.")
@click.option("--verify", is_flag=True, help="Read all of it once more, and look each up on the other side.")
@click.option("--drain", is_flag=True, help="With --cut-over: process here what is due, before the rest goes over.")
@click.option("--url", default="", help="Where clients that come here are told to go.  [default: the stack's API]")
@click.option(
    "--writes", type=click.FloatRange(1, 40_000), default=MOVE_WRITES_S, help="So many records a second at most."
)
@click.option("--workloads", help="Comma-separated, as `serve` takes them.  [default: those that it would serve here]")
def move(
    data: Path | None,
    stack: str | None,
    to: str,
    dry_run: bool,
    cut_over: bool,
    back_out: bool,
    verify: bool,
    drain: bool,
    url: str,
    writes: float,
    workloads: str | None,
) -> None:
    """Move a data directory to a stack on AWS, or a stack to a data directory: first, and as often as you like, what
    has ended, while requests go on; then, with --cut-over, the rest. It can be killed anywhere; the same command goes
    on. Exit status 1: it did not come to its end, and says why."""
    if data is not None and stack is not None:
        raise click.UsageError("--data and --stack name two systems; choose one")
    asked = [name for name, it in zip(_ASKED, (dry_run, cut_over, back_out, verify), strict=True) if it]
    if len(asked) > 1:
        raise click.UsageError("choose one of --dry-run, --cut-over, --back-out and --verify")
    with refusals(), _sides(data, stack, to, workloads) as sides, _Bars() as bars:
        try:
            course = Move(sides.source, sides.target, sides.marks, writes, bars)
            for line in _done(course, sides, *asked, url=url or sides.url, drain=drain):
                bars.say(line)
        except Differs as differs:
            raise click.ClickException(f"{plain(str(differs))}\n{_hint(sides)}") from differs
        except (ValueError, Unavailable, KeyboardInterrupt) as end:
            raise click.ClickException("\n".join([plain(str(end)) or "interrupted", *_what_next(sides, end)])) from end


def _sides(data: Path | None, stack: str | None, to: str, workloads: str | None) -> AbstractContextManager[Sides]:
    if stack is not None:
        return from_stack(stack, Path(to))
    options = from_process({"workloads": workloads and tuple(name.strip() for name in workloads.split(","))})
    return to_stack(data or default_data(), to, load(options.workloads, options.root))


_ASKED = ("dry run", "cut over", "back out", "verify")


def _done(course: Move, sides: Sides, asked: str = "copy", *, url: str, drain: bool) -> Iterator[str]:
    """Do what was asked for. What to say of it."""
    here, there = sides.source.name, sides.target.name
    match asked:
        case "dry run":
            yield from course.notes()
        case "verify":
            course.verify()
            yield f"every id of {here} is in {there}, and says the same"
        case "back out":
            course.back_out()
            yield f"{here} accepts again; what had ended stays in {there} as well"
        case "cut over":
            course.cut_over(there, url, drain)
            yield f"every id of {here} is in {there}, and says the same; clients go there now"
        case _:
            course.copy()
            copied = course.progress.done.get("records", 0)
            yield f"in {there}, and the same: {copied:,} that have ended; {here} goes on"


def _what_next(sides: Sides, end: BaseException) -> Iterator[str]:
    """After an end before the end; above all, whether clients are refused until somebody does something."""
    if not isinstance(end, ValueError):
        yield "the same command goes on from there"
    with contextlib.suppress(ValueError, Unavailable):  # who is away cannot be asked
        if sides.source.state() == "stopped":
            yield f"{sides.source.name} accepts nothing until it has moved, or --back-out has taken that back"


def _hint(sides: Sides) -> str:
    match sides.source.state():
        case "open":
            return f"nothing was changed, and {sides.source.name} goes on"
        case "stopped":
            return "nothing was handed over: see to it and go on with --cut-over, or take all back with --back-out"
        case _:
            return "it has been handed over already: tell of this, and delete nothing"


class _Bars:
    """One for each step; what is waited for, as a line."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        console = Console(stderr=True)
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._bars = dict[str, TaskID]()

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, what: str, done: int, of: int) -> None:
        if not of and what.startswith("waiting"):
            self._progress.console.print(plain(what))
            return
        if what not in self._bars:
            self._bars[what] = self._progress.add_task(what, total=of)
        self._progress.update(self._bars[what], completed=done, total=max(done, of))

    def say(self, line: str) -> None:
        """To standard output."""
        self._progress.stop()
        click.echo(line)
