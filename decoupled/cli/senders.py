"""`decoupled senders`: who may send signed webhooks to a server of this machine. A server that runs takes a change over
within a second or two."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import click

from decoupled.cli.keys import check_lasts, of_data, routes, show
from decoupled.cli.target import DURATION, senders_of
from decoupled.core import limits
from decoupled.core import senders as kept
from decoupled.core.senders import Sender
from decoupled.core.signatures import Preset
from decoupled.core.times import now_ms, rfc3339


@click.group()
def senders() -> None:
    """Senders of webhooks to one machine: add, list, revoke, rotate. They are let in by `serve --auth signatures`."""


@senders.command()
@of_data
@click.argument("name")
@click.option("--preset", type=click.Choice(get_args(Preset)), required=True, help="How it signs.")
@click.option("--workloads", required=True, help="Comma-separated: those that it may send to.")
def add(data: Path, name: str, preset: Preset, workloads: str) -> None:
    """A new sender, NAME, that signs with the secret on standard input. It may send, and see nothing."""
    may_use, secret = routes(workloads), _secret()
    senders_of(data).change(lambda known: (kept.add(known, name, preset, may_use, secret, now_ms()), None))
    click.echo(f"added {name}")


@senders.command("list")
@of_data
def list_(data: Path) -> None:
    """All senders: how they sign, where they may send, and how many secrets of theirs count until when."""
    rows: list[tuple[str, ...]] = [("sender", "preset", "workloads", "secrets", "newest")]
    show([*rows, *map(_row, senders_of(data).look() or [])])


def _row(sender: Sender) -> tuple[str, ...]:
    now = now_ms()
    valid = [secret for secret in sender.secrets if secret.is_valid(now)]
    ends = [rfc3339(secret.replaced_at) for secret in valid if secret.replaced_at is not None]
    told = f"{len(valid)}, {len(ends)} of them until {max(ends)}" if ends else str(len(valid))
    return sender.name, sender.preset, ",".join(sender.workloads), told, rfc3339(sender.secrets[-1].created_at)


@senders.command()
@of_data
@click.argument("name")
def revoke(data: Path, name: str) -> None:
    """Take a sender away. What it has sent stays."""
    gone = senders_of(data).change(lambda known: kept.revoke(known, name))
    click.echo(f"revoked {gone.name}")


@senders.command()
@of_data
@click.argument("name")
@click.option(
    "--overlap", "overlap_s", type=DURATION, default="1d", show_default=True, help="How long the old one counts."
)
def rotate(data: Path, name: str, overlap_s: float) -> None:
    """Another secret, on standard input, for the sender NAME. Until the overlap ends, the old one counts, too."""
    check_lasts("--overlap", overlap_s or None)
    secret = _secret()
    senders_of(data).change(lambda known: (kept.rotate(known, name, secret, now_ms(), overlap_s=overlap_s), None))
    click.echo(f"rotated {name}")


def _secret() -> str:
    """Asked for on a terminal, and not shown; an argument would be, in the list of processes."""
    if sys.stdin.isatty():
        return str(click.prompt("Secret", hide_input=True))
    try:
        given = sys.stdin.buffer.read(limits.MAX_SENDER_SECRET_CHARS * 4 + 2).decode()
    except UnicodeDecodeError as error:
        raise click.UsageError("the secret on standard input is no UTF-8") from error
    secret = given.removesuffix("\n").removesuffix("\r")
    if not secret:
        raise click.UsageError("the secret is read from standard input, and there is none")
    return secret
