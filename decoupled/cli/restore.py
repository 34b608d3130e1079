"""`decoupled restore`: a data directory of a backup, or of a replica as it was at a moment."""

from __future__ import annotations

from pathlib import Path

import click

from decoupled.cli.backup import shown
from decoupled.cli.data_files import restore_data
from decoupled.cli.keys import of_data


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True), required=False)
@click.option("--at", "when", metavar="TIME", help="Of a replica, and when: 2026-11-30T10:15:00Z, '10m ago' or now.")
@click.option("--replica", metavar="URL|DIR", help="Where that is.  [default: `replica` of decoupled.toml]")
@of_data
def restore(source: Path | None, when: str | None, replica: str | None, data: Path) -> None:
    """Make a data directory that is not there yet of SOURCE: a backup, or a directory of them, of which the newest is
    taken. What was in flight is visible again once a server starts; what was accepted after the backup is unknown to
    it, so that its clients may have to send it again.

    With --at, of the replica that Litestream keeps, as it was just before that moment; it is audited, too."""
    if when is not None or replica is not None:
        if source is not None:
            raise click.UsageError("SOURCE is a backup, and --at is about a replica: choose one")
        from decoupled.cli.point_in_time import restore_at

        restore_at(replica, when or "now", data)
        return
    if source is None:
        raise click.UsageError("name a SOURCE, a backup; or, of a replica, a moment: --at TIME")
    with shown() as show:
        file, holds, said = restore_data(source, data, show)
    click.echo(f"restored {file} to {data}: {holds.says()}")
    for sentence in said:
        click.echo(sentence)
