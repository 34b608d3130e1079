"""The command line: parses and checks what was typed, then calls what does it. No logic of its own."""

from __future__ import annotations

import importlib
from pathlib import Path

import click

from decoupled import limits


class Commands(click.Group):
    """Loads the modules of `decoupled/commands/` when they are asked for: the server needs none of them."""

    tools = ("dead", "spike", "status")

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names."""
        return sorted([*super().list_commands(ctx), *self.tools])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name in self.tools:
            command: click.Command = getattr(importlib.import_module(f"decoupled.commands.{cmd_name}"), cmd_name)
            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def main() -> None:
    """HTTP requests that are never lost: received, queued, processed at a controlled rate, stored exactly once."""


@main.command()
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", default=8080, help="Port to listen on.")
@click.option("--data", default=Path(".data"), type=click.Path(path_type=Path, file_okay=False), help="Data directory.")
@click.option("--workloads", default="orders", help="Comma-separated names of files in workloads/.")
@click.option("--concurrency", default=2, help="Worker processes that process messages.")
@click.option("--rate", default=None, type=float, help="Messages processed a second, at most.  [default: no ceiling]")
@click.option("--function-timeout", default=30.0, help="Seconds that a batch of up to ten messages may take.")
@click.option("--visibility-timeout", default=180.0, help="Seconds until a message that was not settled comes back.")
@click.option("--max-attempts", default=limits.MAX_ATTEMPTS, help="Failures of a message before it is a dead letter.")
@click.option("--max-receive-count", default=limits.MAX_RECEIVE_COUNT, help="Deliveries before it is one: for crashes.")
@click.option("--drain", default=10.0, help="Seconds to finish what is in flight when asked to stop.")
@click.option("--log-level", default="INFO", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]))
def serve(
    host: str,
    port: int,
    data: Path,
    workloads: str,
    concurrency: int,
    rate: float | None,
    function_timeout: float,
    visibility_timeout: float,
    max_attempts: int,
    max_receive_count: int,
    drain: float,
    log_level: str,
) -> None:
    """Serve on this machine: gateway, queue, processor and table in one process with its workers."""
    from decoupled.embedded import server
    from decoupled.embedded.database import DataDirectoryError
    from decoupled.embedded.options import Options

    try:
        options = Options(
            workloads=tuple(name.strip() for name in workloads.split(",")),
            host=host,
            port=port,
            data=data,
            concurrency=concurrency,
            rate=rate,
            function_timeout_s=function_timeout,
            visibility_timeout_s=visibility_timeout,
            max_attempts=max_attempts,
            max_receive_count=max_receive_count,
            drain_s=drain,
        )
        server.configure_logs(log_level)
        server.serve(options, announce=click.echo)
    except (ValueError, DataDirectoryError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
