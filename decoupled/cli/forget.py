"""`decoupled forget`: erases what a customer sent and what came of it, and proves that nothing is left of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from decoupled.cli.target import target
from decoupled.core import upkeep_limits
from decoupled.core.forgetting import Asked, Report
from decoupled.core.forgetting import unfinished as why_unfinished
from decoupled.core.identifiers import is_id
from decoupled.core.limits import MIB
from decoupled.core.signed_ids import record_id
from decoupled.core.workload import ANONYMOUS

Show = Callable[[str, int, int], None]


@click.command()
@target
@click.option("--caller", help="All that this caller has sent, and what came of it: key:NAME is the caller of a key.")
@click.option("--id", "message_id", help="One message, and all that it emitted.")
@click.option("--all-anonymous", is_flag=True, help="With --caller anonymous: all who did not say who they are.")
@click.option("--unfinished", is_flag=True, help="Give up what still waits, too.")
@click.option(
    "--keep",
    multiple=True,
    metavar="COLLECTION",
    help="Leave the caller's items of it, such as shop/stock, which others have a share in; they are nobody's then.",
)
@click.option(
    "--read-units",
    type=click.FloatRange(1),
    default=upkeep_limits.AUDIT_READ_UNITS_S,
    show_default=True,
    help="Of a stack's table, a second at most; each is 8 KB.",
)
@click.option("--dry-run", is_flag=True, help="Say what there is, and erase nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="The report, as one JSON object.")
def forget(
    data: Path,
    stack: str | None,
    caller: str | None,
    message_id: str | None,
    all_anonymous: bool,
    unfinished: bool,
    keep: tuple[str, ...],
    read_units: float,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Erase the contents of messages for good, and what is kept beside them: bodies, results, errors, items. Of each
    message its id, status and times stay, so that sent again it has no effect. Then search all bytes of the file,
    or all of a stack's table.

    Exit status 0: nothing is left. 1: something is, and what to do; or nothing was erased, and why."""
    from decoupled.cli.forget_target import OfData, OfStack

    asked = msgspec.structs.replace(_asked(caller, message_id, all_anonymous, unfinished), keep=keep)
    where: OfData | OfStack = OfData(data) if stack is None else OfStack(stack, read_units)
    if cost := where.cost(asked):
        click.echo(cost, err=True)
    with _shown(as_json) as show:
        there, again = where.survey(asked, show)
    _check(there, asked, again)
    if dry_run:
        there.notes += where.copies(asked)
        _say(there, as_json, "there is")
        return
    if not yes:
        _ask(there)
    with _shown(as_json) as show:
        report = where.forget(asked, show)
    _say(report, as_json, "erased")
    sys.exit(0 if report.proven else 1)


def _asked(caller: str | None, message_id: str | None, all_anonymous: bool, unfinished: bool) -> Asked:
    if (caller is None) == (message_id is None):
        raise click.UsageError("name a caller or an id: --caller or --id")
    if message_id is not None and not is_id(record_id(message_id)):
        raise click.UsageError(f"{message_id[:80]!r} can be no id of a message")
    if caller == "":
        raise click.UsageError("a caller has a name")
    if all_anonymous != (caller == ANONYMOUS):
        raise click.UsageError(
            f"{ANONYMOUS} are all who did not say who they are: with --all-anonymous, --caller {ANONYMOUS} means all of"
            " them. One of them is found by the ids of messages"
        )
    return Asked(caller=caller, id=None if message_id is None else record_id(message_id), unfinished=unfinished)


def _check(there: Report, asked: Asked, again: bool) -> None:
    if not there.erased and not again:
        hint = " (the caller of the API key ana is key:ana)" if asked.caller is not None else ""
        raise click.ClickException(f"nothing that could be erased is here of {asked.says}{hint}")
    if unknown := [name for name in asked.keep if f"kept items of {name}" not in there.erased]:
        raise click.ClickException(f"there are no items of {unknown[0]!r:.80} that {asked.says} owns")
    if there.unfinished and not asked.unfinished:
        raise click.ClickException(why_unfinished(there))


def _ask(there: Report) -> None:
    click.echo(f"of {there.of}: {_counts(there.erased)}", err=True)
    total = str(sum(there.erased.values()))
    if click.prompt("Type how many that is, to erase it for good", default="", show_default=False, err=True) != total:
        raise click.ClickException("that is not how many; nothing was erased")


def _say(report: Report, as_json: bool, done: str) -> None:
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
        return
    click.echo(f"of {report.of} {done}: {_counts(report.erased)}")
    where = f"{report.searched_bytes / MIB:,.1f} MiB, the whole file and its log"
    if report.searched_items:
        where = f"{report.searched_items:,} records and items, the whole table"
    if report.searched_bytes or report.searched_items:
        click.echo(f"searched for {report.searched_for:,} texts of it in {where}: {_found(report)}")
    if report.since:
        click.echo(f"came meanwhile, and is there: {_counts(report.since)}")
    for note in report.notes:
        click.echo(f"note: {note}")


def _found(report: Report) -> str:
    elsewhere = f"; rows of others have some of these texts in {report.elsewhere:,} places" if report.elsewhere else ""
    found = f"{report.left:,} places have some of it" if report.left else "none of that is left"
    found = found if report.searched_for else "nothing is proven"
    return ("nothing is left" if report.proven else found) + elsewhere


def _counts(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in kinds.items()) or "nothing"


@contextmanager
def _shown(hidden: bool) -> Iterator[Show]:
    """A bar of how it goes, for whoever looks."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=hidden or not console.is_terminal) as progress:
        bar = progress.add_task("beginning", total=None)
        yield lambda what, done, upto: progress.update(bar, description=what, completed=done, total=upto or None)
