"""`decoupled restore`: a data directory of a backup."""

from __future__ import annotations

from pathlib import Path

import click

from decoupled.cli.backup import shown
from decoupled.cli.keys import of_data
from decoupled.cli.target import restore_data


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@of_data
def restore(source: Path, data: Path) -> None:
    """Make a data directory that is not there yet of SOURCE: a backup, or a directory of them, of which the newest is
    taken. What was in flight is visible again once a server starts; what was accepted after the backup is unknown to
    it, so that its clients may have to send it again."""
    with shown() as show:
        file, holds, said = restore_data(source, data, show)
    click.echo(f"restored {file} to {data}: {holds.says()}")
    for sentence in said:
        click.echo(sentence)
