"""The command line: parses and checks what was typed, then calls what does it. No logic of its own."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import click

from decoupled import __version__
from decoupled.server.configuration import FILE, choose
from decoupled.server.options import OPTIONS

F = TypeVar("F", bound=Callable[..., Any])


class Commands(click.Group):
    """Loads the modules of the tools when they are asked for: the server needs none of them."""

    tools: ClassVar = {
        "backup": "decoupled.cli.backup",
        "audit": "decoupled.cli.audit",
        "build": "decoupled.cli.build",
        "check": "decoupled.cli.check",
        "compact": "decoupled.cli.compact",
        "dashboard": "decoupled.cli.dashboard",
        "dead": "decoupled.cli.edit",  # which adds its own to those of dead_letters.py
        "deploy": "decoupled.cli.deploy",
        "destroy": "decoupled.cli.destroy",
        "forget": "decoupled.cli.forget",
        "headroom": "decoupled.cli.headroom",
        "keys": "decoupled.cli.keys",
        "move": "decoupled.cli.move",
        "new": "decoupled.cli.new",
        "openapi": "decoupled.cli.openapi",
        "plan": "decoupled.cli.plan",
        "recover": "decoupled.cli.recover",
        "replay": "decoupled.cli.replay",
        "restore": "decoupled.cli.restore",
        "rollback": "decoupled.cli.releases",
        "secrets": "decoupled.cli.secrets",
        "senders": "decoupled.cli.senders",
        "sign-in": "decoupled.cli.dashboard",
        "spike": "decoupled.cli.load_test",
        "status": "decoupled.cli.status",
        "unit": "decoupled.cli.unit",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names."""
        return sorted([*super().list_commands(ctx), *self.tools])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name in self.tools:
            command: click.Command = getattr(importlib.import_module(self.tools[cmd_name]), cmd_name.replace("-", "_"))
            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, message="decoupled %(version)s")
def main() -> None:
    """HTTP requests that are never lost: received, queued, processed at a controlled rate, stored exactly once."""


def _flags(command: F) -> F:
    """A flag for each option. None of them has a default here: what was not typed may stand elsewhere."""
    for option in reversed(OPTIONS):
        if option.type is bool:
            command = click.option(option.flag, option.field, is_flag=True, default=None, help=option.help)(command)
            continue
        shown = option.none or (",".join(option.default) if option.type is tuple else option.default)
        one = option.choices and option.type is not tuple
        kind: Any = click.Choice(option.choices) if one else _TYPES.get(option.type, option.type)
        if option.type is Path and option.default is not None:  # a directory: files are nobody's by default
            kind = click.Path(path_type=Path, file_okay=False)
        command = click.option(
            option.flag, option.field, type=kind, default=None, help=f"{option.help}  [default: {shown}]"
        )(command)
    return command


_TYPES: dict[type, Any] = {Path: click.Path(path_type=Path), tuple: str}


@main.command()
@_flags
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="DECOUPLED_CONFIG",
    help=f"File with options; where it is, is your project.  [default: {FILE}, if there is one]",
)
@click.option("--env", envvar="DECOUPLED_ENV", help="Use the file's [environments.NAME] too.")
def serve(config: Path | None, env: str | None, **flags: Any) -> None:
    """Serve on this machine: gateway, queue, processor and table, in one process that writes and others beside it.

    Each option can also be an environment variable (DECOUPLED_PORT) or a key of decoupled.toml (port)."""
    from decoupled.cli.target import refusals
    from decoupled.server import app as server
    from decoupled.server import logs, outlet

    for option in OPTIONS:
        if option.type is tuple and flags[option.field] is not None:
            flags[option.field] = tuple(name.strip() for name in flags[option.field].split(","))
    with refusals():
        options = choose(flags, config, env, os.environ)
        outlet.install()
        logs.configure_logs(options.log_level)
        server.serve(options, partial(choose, flags, config, env, os.environ), outlet.announce)


if __name__ == "__main__":
    main()
