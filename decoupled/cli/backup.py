"""`decoupled backup`: one file of a data directory, while its server runs or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from decoupled.cli.data_files import back_up
from decoupled.cli.keys import of_data
from decoupled.core.backups import Step


@click.command()
@of_data
@click.argument("place", metavar="FILE|DIR", type=click.Path(path_type=Path))
def backup(data: Path, place: Path) -> None:
    """Copy all that is worth keeping of a data directory into one FILE, or into DIR under a name by its time, while
    its server goes on. It is verified before it gets its name. The server writes it, as its own user."""
    with shown() as show:
        sealed = back_up(data, place, lambda told: show(told.step))
    click.echo(f"verified, {sealed.says()}")


@contextmanager
def shown() -> Iterator[Callable[[Step], None]]:
    """A bar of how it goes, for whoever looks."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("beginning", total=None)
        yield lambda step: progress.update(bar, description=step.what, completed=step.done, total=step.of or None)
