"""`decoupled dead edit`: another body for a dead letter, checked and shown before it is stored. The one that it had is
kept."""

from __future__ import annotations

import difflib
import os
import shlex
import shutil
import subprocess
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import click
import msgspec

from decoupled.cli import private
from decoupled.cli.dead_letters import dead, opened
from decoupled.cli.person import who
from decoupled.cli.target import refusals, target
from decoupled.core import limits
from decoupled.core.dead_letters import DeadLetter
from decoupled.core.signed_ids import record_id
from decoupled.core.workload import Workload
from decoupled.pipeline.editing import NotFit, edited
from decoupled.pipeline.loading import load
from decoupled.server.configuration import from_process


@dead.command()
@target
@click.argument("message_id")
@click.option(
    "--body",
    "file",
    type=click.File("rb"),
    help="File with the new body, or - for standard input.  [default: $VISUAL or $EDITOR, on a file of your own]",
)
@click.option("--workloads", help="Comma-separated, as `serve` takes them.  [default: those that it would serve here]")
@click.option("--unchecked", is_flag=True, help="Whatever its workload says of it; it has to be JSON all the same.")
def edit(
    data: Path, stack: str | None, message_id: str, file: IO[bytes] | None, workloads: str | None, unchecked: bool
) -> None:
    """Change the body of a dead letter, by its id. The body before is kept with it (`dead show`), and who changed it
    when. What was dead stays so: redrive it then."""
    letter = _of(data, stack, message_id)
    if letter.body is None:
        raise click.ClickException(f"the body of {message_id} is not kept, so that there is nothing to change")
    workload = None if unchecked else _workload(letter.workload, workloads)
    if file is not None:
        _change(data, stack, letter, file.read(limits.MAX_ENTRY_BYTES + 1).strip(), workload)
        return
    draft = _Draft(letter)
    try:
        with refusals():
            _change(data, stack, letter, draft.edited(), workload)
    except click.ClickException as error:
        if (kept := draft.keep()) is None:
            raise
        more = f"What you wrote is in {kept}: mend it there, and give it to --body"
        raise click.ClickException(f"{error.message}\n{more}") from error
    except BaseException:  # Ctrl-C, say
        if (kept := draft.keep()) is not None:
            click.echo(f"What you wrote is in {kept}", err=True)
        raise
    draft.discard()


def _of(data: Path, stack: str | None, message_id: str) -> DeadLetter:
    with opened(data, stack) as store:
        letter = store.get(record_id(message_id))
    if letter is None:
        raise click.ClickException(f"{message_id} is not dead here")
    return letter


def _workload(name: str, workloads: str | None) -> Workload:
    flags: dict[str, Any] = {}
    if workloads is not None:
        flags["workloads"] = tuple(it.strip() for it in workloads.split(","))
    options = from_process(flags)
    known = load(options.workloads, options.root)
    if name not in known:
        raise click.ClickException(
            f"the workload {name!r}, which says what a body may be, is none of those here ({', '.join(known)}):"
            " name it with --workloads, or have the body --unchecked"
        )
    return known[name]


def _change(data: Path, stack: str | None, letter: DeadLetter, text: bytes, workload: Workload | None) -> None:
    if _same(letter.body or "", text):
        click.echo("It says the same as before; nothing was changed.")
        return
    try:
        wanted, note = edited(letter, text, who(), workload)
    except NotFit as error:
        raise click.ClickException(str(error)) from error
    click.echo(_diff(letter, wanted))
    if note:
        click.echo(f"Note: {note}", err=True)
    with opened(data, stack) as store:
        (outcome,) = store.edit([wanted])
    if outcome.done is None:
        raise click.ClickException(f"{letter.id}: nothing done: {outcome.why_not}")
    click.echo(f"{outcome.done}; to put it back: decoupled dead redrive {letter.id}")


# --- what is shown ----------------------------------------------------------------


def _diff(before: DeadLetter, after: DeadLetter) -> str:
    lines = difflib.unified_diff(
        _lines(before.body or ""),
        _lines(after.body or ""),
        f"{before.id} as it is",
        f"{before.id} as it will be",
        lineterm="",
    )
    return "\n".join("".join(c if c.isprintable() else repr(c)[1:-1] for c in line) for line in lines)


def _lines(text: str) -> list[str]:
    try:
        value = _exact.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text.splitlines()
    return msgspec.json.format(_sorted.encode(value), indent=2).decode().splitlines()


def _same(before: str, text: bytes) -> bool:
    """Whether it says the same, in whatever form."""
    try:
        return _sorted.encode(_exact.decode(before)) == _sorted.encode(_exact.decode(text))
    except (msgspec.DecodeError, RecursionError):
        return before.encode(errors="replace") == text


_exact = msgspec.json.Decoder(Any, float_hook=Decimal)
_sorted = msgspec.json.Encoder(order="sorted", decimal_format="number")

# --- an editor ----------------------------------------------------------------


class _Draft:
    """The body in a file that only its user may read, for an editor."""

    def __init__(self, letter: DeadLetter) -> None:
        self._editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""
        if not self._editor:
            raise click.UsageError("there is no $EDITOR: name a file with --body, or - for standard input")
        self._directory = Path(tempfile.mkdtemp(prefix="decoupled-"))  # 0700
        self._file = self._directory / f"{letter.id}.json"
        body = letter.body or ""
        try:
            text = msgspec.json.format(body, indent=2)
        except msgspec.DecodeError:
            text = body
        with private.opened(self._file) as file:
            file.write(text.encode(errors="replace") + b"\n")
        self._before = self._file.read_bytes()

    def edited(self) -> bytes:
        """What the person made of it, without the spaces that were put in. Raises ClickException."""
        try:
            ended = subprocess.run([*shlex.split(self._editor), str(self._file)], check=False)  # noqa: S603  of their choice
        except (OSError, ValueError) as error:
            raise click.ClickException(f"the editor {self._editor!r} cannot be run: {error}") from error
        if ended.returncode != 0:
            raise click.ClickException(f"the editor ended with {ended.returncode}; nothing was changed")
        with self._file.open("rb") as file:
            text = file.read(4 * limits.MAX_ENTRY_BYTES)  # with the spaces
        try:
            return msgspec.json.format(text, indent=-1)
        except msgspec.DecodeError:
            return text.strip()  # which is told then

    def keep(self) -> Path | None:
        """Where it is, if anything was made of it; else it is gone."""
        if self._file.exists() and self._file.read_bytes() != self._before:
            return self._file
        self.discard()
        return None

    def discard(self) -> None:
        """With whatever the editor has put beside it."""
        shutil.rmtree(self._directory, ignore_errors=True)
