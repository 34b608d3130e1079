"""`decoupled unit`: what systemd runs a project's server by, and Litestream beside it, from templates/."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import click

from decoupled.cli.kit import kit
from decoupled.cli.target import refusals
from decoupled.core import limits
from decoupled.core.replicas import url_of
from decoupled.core.upkeep_limits import STOP_GENTLY_S
from decoupled.server.configuration import FILE, from_process
from decoupled.server.options import Options

HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108  ProtectHome and PrivateTmp hide them

FILES = {
    "service": "systemd/decoupled.service",
    "socket": "systemd/decoupled.socket",
    "litestream": "systemd/decoupled-litestream.service",
    "litestream.yml": "litestream.yml",
}


@click.command()
@click.argument("kind", type=click.Choice(list(FILES)))
def unit(kind: str) -> None:
    """Print a systemd unit that serves the project of this directory: the service, or the socket that keeps its clients
    while it restarts; or what replicates its data, Litestream, and its configuration. docs/keeping.md says where they
    go.

    The address, and how long it may take to stop, are those of decoupled.toml; print them again when these change."""
    with refusals():
        if not FILE.exists():
            raise click.ClickException(f"there is no {FILE} here: change to your project's directory")
        options = from_process()
        program, project = Path(sys.executable).with_name("decoupled"), Path.cwd()
        if kind == "litestream.yml" and options.replica is None:
            raise click.ClickException(f"{FILE} has no `replica`: a directory, or s3://BUCKET/PATH")
        if kind == "service":
            for path in (program, Path(sys.executable).resolve(), project):
                if any(path.is_relative_to(hidden) for hidden in HIDDEN):
                    click.echo(f"Careful: a service cannot see {path}. Put it under /srv or /opt.", err=True)
        click.echo(text_of(kind, options, program, project), nl=False)


def text_of(kind: str, options: Options, program: Path, project: Path) -> str:
    """The file."""
    text = kit(f"templates/{FILES[kind]}").read_text(encoding="utf-8")
    host = f"[{options.host}]" if ":" in options.host else options.host
    for mark, value in {
        "PROJECT": _path(project),
        "PROGRAM": _path(program),
        "ADDRESS": f"{host}:{options.port}",
        "STOP": str(stop_s(options)),
        "REPLICATOR": _path(program.with_name("litestream")),
        "DATABASE": json.dumps(str(options.data.absolute() / "decoupled.sqlite3")),
        "REPLICA": json.dumps(url_of(options.replica or "", Path.cwd())),
    }.items():
        text = text.replace(mark, value)
    return text


def stop_s(options: Options) -> int:
    """Seconds that a server may take to end in order, and some more: for a slow disk."""
    return (
        math.ceil(STOP_GENTLY_S + limits.FRONT_END_S + options.drain_s + limits.TRACE_END_S + limits.LOG_FLUSH_S) + 20
    )


def _path(path: Path) -> str:
    """As systemd reads it, to whom % is special, and a blank the end of a word."""
    text = str(path).replace("%", "%%")
    if any(character.isspace() or character in "\"'\\;" for character in text):
        raise click.ClickException(f"systemd could not read the path {path}: take one without blanks and quotes")
    return text
