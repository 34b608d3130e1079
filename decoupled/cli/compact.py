"""`decoupled compact`: a data directory's file made anew, without what is free in it."""

from __future__ import annotations

from pathlib import Path

import click

from decoupled.cli.data_files import compact_data
from decoupled.cli.target import default_data, refusals
from decoupled.core.limits import MIB


@click.command()
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Data directory.  [default: .data]")
def compact(data: Path | None) -> None:
    """Make the file of a data directory, whose server is stopped, anew, without what is free in it. From then on it
    gives room back by itself, also where an earlier version has made it. The disk needs room for the new file beside
    the old one; until it is whole, the old one stays."""
    with refusals():
        before, after = compact_data(data or default_data())
    click.echo(f"{before / MIB:,.1f} MiB before, {after / MIB:,.1f} MiB now")
