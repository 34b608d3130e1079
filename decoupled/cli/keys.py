"""`decoupled keys`: who may call a server of this machine. A server that runs takes a change over within a second or
two."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from decoupled.cli.target import DURATION, default_data, keys_of, refusals
from decoupled.core import api_keys, limits
from decoupled.core.api_keys import ApiKey
from decoupled.core.times import now_ms, rfc3339
from decoupled.pipeline.loading import NAME

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def keys() -> None:
    """API keys of one machine: add, list, change, revoke, rotate. `decoupled serve --auth keys` asks for them."""


def of_data(command: F) -> F:
    """The option --data; what is refused ends the command with status 1."""

    @click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Data directory.  [default: .data]")
    @functools.wraps(command)
    def checked(data: Path | None, **others: Any) -> Any:
        with refusals():
            return command(data=data or default_data(), **others)

    return checked  # type: ignore[return-value]  # click hands it the option that it declares


@keys.command()
@of_data
@click.argument("name")
@click.option("--workloads", help="Comma-separated: those that it may use.  [default: all]")
@click.option("--expires", "life_s", type=DURATION, help="When it ends: 12h, 90d.  [default: never]")
@click.option("--operator", is_flag=True, help="It may see what all callers have, and sign in to the page.")
@click.option(
    "--rate", type=float, help="Messages a second that it may send.  [default: as `serve --caller-rate` says]"
)
def add(data: Path, name: str, workloads: str | None, life_s: float | None, operator: bool, rate: float | None) -> None:
    """A key for a new caller, NAME, to whom belongs what is sent with it. The key is shown once: only its hash is
    kept."""
    check_lasts("--expires", life_s)
    _check_rate(rate)
    may_use = None if workloads is None else routes(workloads)
    key = keys_of(data).change(
        lambda known: api_keys.add(
            known, name, now_ms(), secrets.token_hex, life_s=life_s, workloads=may_use, operator=operator, rate=rate
        )
    )
    click.echo(key)


@keys.command("list")
@of_data
def list_(data: Path) -> None:
    """All keys: whose they are, what they may do, and until when."""
    rows: list[tuple[str, ...]] = [("id", "caller", "workloads", "may see", "rate", "made", "ends")]
    rows += [_row(key) for key in keys_of(data).look() or []]
    show(rows)


def show(rows: Sequence[Sequence[str]]) -> None:
    """As a table; whole, however narrow the terminal: an id is there to be copied."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _row(key: ApiKey) -> tuple[str, ...]:
    ends = "never" if key.until_ms is None else rfc3339(key.until_ms)
    return (
        key.id,
        key.name,
        "all" if key.workloads is None else ",".join(key.workloads),
        "everything" if key.operator else "its own",
        "as all" if key.rate is None else f"{key.rate:g}/s",
        rfc3339(key.created_at),
        ends if key.is_valid(now_ms()) else f"over since {ends}",
    )


@keys.command()
@of_data
@click.argument("name")
@click.option(
    "--rate", required=True, help="Messages a second that it may send; `none`: as `serve --caller-rate` says."
)
def change(data: Path, name: str, rate: str) -> None:
    """What the caller NAME may do from now on, whichever of its keys it uses. The keys stay the same."""
    try:
        number = None if rate == "none" else float(rate)
    except ValueError:
        raise click.UsageError(f"--rate: {rate!r} is no number, and not `none`") from None
    _check_rate(number)
    keys_of(data).change(lambda known: (api_keys.change(known, name, rate=number), None))


@keys.command()
@of_data
@click.argument("which", metavar="NAME-OR-ID")
def revoke(data: Path, which: str) -> None:
    """Take away all keys of a caller, or the one key with that id. What was sent with them stays the caller's."""
    gone = keys_of(data).change(lambda known: api_keys.revoke(known, which))
    for key in gone:
        click.echo(f"revoked {key.id} of {key.name}")


@keys.command()
@of_data
@click.argument("name")
@click.option(
    "--overlap", "overlap_s", type=DURATION, default="7d", show_default=True, help="How long the old one counts."
)
@click.option(
    "--expires", "life_s", type=DURATION, help="When the new one ends: 90d.  [default: it lasts as the old one]"
)
def rotate(data: Path, name: str, overlap_s: float, life_s: float | None) -> None:
    """A new key for the caller NAME, who stays the same and may do the same. The key is shown once."""
    check_lasts("--expires", life_s)
    check_lasts("--overlap", overlap_s or None)
    key = keys_of(data).change(
        lambda known: api_keys.rotate(known, name, now_ms(), secrets.token_hex, overlap_s=overlap_s, life_s=life_s)
    )
    click.echo(key)


def check_lasts(option: str, seconds: float | None) -> None:
    """Raises UsageError for longer than anything may last, and for no time at all."""
    if seconds is not None and not 1 <= seconds <= limits.MAX_API_KEY_LIFE_S:
        most = f"{limits.MAX_API_KEY_LIFE_S // 86_400:,}d"
        raise click.UsageError(f"{option} is 1s to {most}")


def _check_rate(rate: float | None) -> None:
    if rate is not None and not limits.MIN_RATE <= rate <= limits.MAX_RATE:
        raise click.UsageError(f"--rate is {limits.MIN_RATE:,} to {limits.MAX_RATE:,} messages a second")


def routes(workloads: str) -> list[str]:
    """The names that this list has, each once. Raises UsageError for what is none."""
    names = [name.strip() for name in workloads.split(",")]
    for name in names:
        if not NAME.fullmatch(name):
            raise click.UsageError(f"--workloads: {name!r} is no name of a workload, as in POST /{{workload}}")
    return sorted(set(names))
