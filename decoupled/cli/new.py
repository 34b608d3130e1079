"""`decoupled new`: a small project of the user's own, from templates/project/."""

from __future__ import annotations

import keyword
import re
import sys
from pathlib import Path

import click

from decoupled.cli.kit import kit

NAME = "shop"  # what the project in templates/ is called
HIDDEN = ("gitignore", "dockerignore")  # what others would take for their own


@click.command()
@click.argument("name")
def new(name: str) -> None:
    """Make a project: one workload, its test, its options, in a directory of that NAME."""
    taken = {"decoupled", "functions", "tests", *sys.stdlib_module_names}
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) or keyword.iskeyword(name) or name in taken:
        raise click.ClickException(f"{name!r} cannot be a project's name: a-z, then a-z, 0-9 and _, and no module's")
    target = Path(name)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise click.ClickException(f"{name} is there already, and is not an empty directory")
    source = kit("templates/project")
    for file in sorted(source.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            _write(file, target / _renamed(file.relative_to(source), name), name)
    click.echo(f"Made {name}. Next:\n\n  cd {name}\n  python -m unittest\n  decoupled serve\n")
    click.echo("README.md says how to send something, and how to put it on AWS.")


def _renamed(path: Path, name: str) -> Path:
    """A file that git would take for its own is kept under another name."""
    parts = [name if part == NAME else f".{part}" if part in HIDDEN else part for part in path.parts]
    return Path(*parts)


def _write(source: Path, target: Path, name: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(re.sub(rf"\b{NAME}\b", name, source.read_text(encoding="utf-8")), encoding="utf-8")
