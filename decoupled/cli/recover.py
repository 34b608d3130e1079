"""`decoupled recover`: saves what can be read of a damaged data directory into a new one."""

from __future__ import annotations

from pathlib import Path

import click

from decoupled.cli.data_files import recover_data
from decoupled.cli.target import default_data, refusals

GAPS_SHOWN = 20


@click.command()
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Data directory.  [default: .data]")
@click.option("--to", "target", type=click.Path(path_type=Path, file_okay=False), required=True, help="A new one.")
def recover(data: Path | None, target: Path) -> None:
    """Save what can be read of a damaged data directory, whose server is stopped, into a new one. Exit status 1: not
    everything could be read; what is missing is told, as far as it is known."""
    with refusals():
        recovered = recover_data(data or default_data(), target)
    for table, count in recovered.saved.items():
        click.echo(f"{count:,} {table} saved")
    for table, count in recovered.nonsense.items():
        if count:
            click.echo(f"{count:,} rows of {table} make no sense any more", err=True)
    for table, gaps in recovered.gaps.items():
        for first, last in gaps[:GAPS_SHOWN]:
            click.echo(f"{table} from number {first} to {'the end' if last is None else last} cannot be read", err=True)
        if len(gaps) > GAPS_SHOWN:
            click.echo(f"and {len(gaps) - GAPS_SHOWN:,} other places of {table}", err=True)
    for message_id in recovered.lost:
        click.echo(f"lost: message {message_id}", err=True)
    if recovered.keyless is not None:
        click.echo(f"no API keys: {recovered.keyless}", err=True)
    if recovered.moved is not None:
        click.echo(recovered.moved, err=True)
    if recovered.keyless or any(recovered.gaps.values()) or any(recovered.nonsense.values()):
        raise SystemExit(1)
