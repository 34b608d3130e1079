"""`decoupled audit`: counts that nothing was lost, and says what is wrong, what was looked at and what could not be."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from decoupled.cli.acknowledging import acknowledge_all
from decoupled.cli.data_files import audit_of
from decoupled.cli.invariants import look_at_workloads
from decoupled.cli.replay import options_of
from decoupled.cli.stack_audit import audit_stack
from decoupled.cli.target import default_data, plain, refusals
from decoupled.core import acknowledged, upkeep_limits
from decoupled.core.audit import Fault, Report
from decoupled.core.identifiers import is_id
from decoupled.core.times import rfc3339
from decoupled.server.options import Options

DAYS_SHOWN = 60


class _NotUnderstood(click.ClickException):
    """There is nothing to audit, or not all of it can be read."""

    exit_code = 2


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True), required=False)
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Data directory.  [default: .data]")
@click.option("--stack", help="Name of a CloudFormation stack, instead of a data directory.")
@click.option(
    "--read-units",
    type=click.FloatRange(1),
    default=upkeep_limits.AUDIT_READ_UNITS_S,
    show_default=True,
    help="Of the stack's table, a second at most; each is 8 KB.",
)
@click.option(
    "--ledger",
    type=click.File("rb"),
    help="Ids that clients got a 202 for: one a line, or what `decoupled spike` has written.",
)
@click.option("--workloads", help="Comma-separated, as `serve` takes them.  [default: those that it would serve here]")
@click.option(
    "--acknowledge",
    metavar="TEXT",
    help="What came of looking into all faults that this audit finds: they stay in reports, and alarm nobody any more,"
    " unless they grow.",
)
@click.option("--quick", is_flag=True, help="Only the ledger and the fields of messages.")
@click.option("--json", "as_json", is_flag=True, help="All of it, as one JSON object.")
def audit(
    file: Path | None,
    data: Path | None,
    stack: str | None,
    read_units: float,
    ledger: IO[bytes] | None,
    workloads: str | None,
    acknowledge: str | None,
    quick: bool,
    as_json: bool,
) -> None:
    """Account for every message that was ever accepted: of a data directory, while its server runs or not, of a FILE
    that is a copy of one, or of a stack on AWS. Reads only; --acknowledge writes.

    Exit status 0: nothing is wrong, or nothing but what was acknowledged. 1: something is.
    2: there was nothing to audit, or not all of it could be read."""
    if sum(named is not None for named in (file, data, stack)) > 1:
        raise click.UsageError("FILE, --data and --stack name two things to audit; choose one")
    if acknowledge is not None and (file is not None or stack is not None or not acknowledge.strip()):
        raise click.UsageError("--acknowledge TEXT is of faults of a data directory, and says what was found out")
    try:
        with refusals():
            options = options_of(workloads)
            ids = () if ledger is None else _ids(ledger)
            with _progress(as_json) as progress:
                if stack is not None:
                    report = audit_stack(stack, read_units, ids, quick, options, progress)
                else:
                    place = file or data or default_data(stack)
                    report = _audit(place, ids, quick, options, progress)
                    if acknowledge is not None:
                        acknowledge_all(place, report, acknowledge)
    except click.ClickException as error:
        raise _NotUnderstood(error.message) from error
    click.echo(msgspec.json.encode(report).decode()) if as_json else _say(report)
    sys.exit(1 if report.alarming else 0)


def _audit(place: Path, ids: Iterable[str], quick: bool, options: Options, progress: _Bars) -> Report:
    found = audit_of(place, quick)
    with contextlib.closing(found.database):
        report = found.run(progress, ids)
        if not quick:
            look_at_workloads(report, found, options, progress)
        acknowledged.mark(report.faults, found.acknowledged())
    return report


@contextlib.contextmanager
def _progress(hidden: bool) -> Iterator[_Bars]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden) as progress:
        yield _Bars(progress)


class _Bars:
    """One for each thing that is looked at."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars = dict[str, TaskID]()

    def __call__(self, what: str, done: int, of: int) -> None:
        if what not in self._bars:
            self._bars[what] = self._progress.add_task(what, total=of)
        self._progress.update(self._bars[what], completed=done, total=of)


def _ids(ledger: Iterator[bytes]) -> Iterator[str]:
    """Raises ValueError for a line that has none."""
    for number, line in enumerate(ledger, 1):
        if not (text := line.strip()):
            continue
        try:
            found = msgspec.json.decode(text)["id"] if text.startswith(b"{") else text.decode()
        except (ValueError, KeyError, TypeError):
            found = ""
        if not isinstance(found, str) or not is_id(found):
            raise ValueError(f"line {number} of the ledger has no id: {text[:60]!r}")
        yield found


def _say(report: Report) -> None:
    click.echo(report.balance)
    if report.days:
        Console().print(_days(report))
    for what in report.checked:
        click.echo(f"looked at: {what}")
    for what in report.unchecked:
        click.echo(f"not looked at: {what}")
    for what in report.remarks:
        click.echo(f"note: {what}")
    for one in report.differences:
        says = (
            f"{one.id} of {one.workload}: was {one.was}: {_short(one.before)}; would be {one.now}: {_short(one.after)}"
        )
        click.echo(_printable(f"differs: {says}"))
    for fault in report.faults:
        click.echo(_printable(f"{_looked_into(fault)}{fault.says}"))
    faults = report.alarming
    more = f", beside {len(report.faults) - len(faults):,} that were looked into" if faults != report.faults else ""
    click.echo(f"{len(faults)} kinds of faults in {report.of}{more}" if faults else f"nothing is wrong{more}")


def _looked_into(fault: Fault) -> str:
    known = fault.acknowledged
    return f"looked into by {known.by}, {rfc3339(known.at)}, {known.why}: " if known is not None else ""


def _days(report: Report) -> Table:
    """The last ones, of each workload."""
    table = Table(box=None, pad_edge=False)
    for name in ("day", "workload", "accepted", "processed", "rejected", "dead", "queued"):
        table.add_column(name, justify="left" if name in ("day", "workload") else "right")
    shown = report.days[-DAYS_SHOWN:]
    for day in shown:
        numbers = (day.accepted, day.processed, day.rejected, day.dead, day.queued)
        table.add_row(day.day, plain(day.workload), *(f"{number:,}" for number in numbers))
    if len(report.days) > len(shown):
        table.caption = f"the last {len(shown)} of {len(report.days):,} rows; --json has all"
    return table


def _short(told: Any) -> str:
    text = told if isinstance(told, str) else msgspec.json.encode(told).decode()
    return text if len(text) <= 200 else f"{text[:200]}…"


def _printable(text: str) -> str:
    """Nothing in it is a command to the terminal: ids and errors may come from a damaged file."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
