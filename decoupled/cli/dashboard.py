"""`decoupled dashboard`: the page for people on call, from a process of its own. `decoupled sign-in`: the way in to a
server's."""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from decoupled.cli.keys import of_data
from decoupled.cli.target import LocalServer, secret_of, sources_of, target
from decoupled.core import limits
from decoupled.core.times import now_ms
from decoupled.dashboard.access import code
from decoupled.dashboard.gate import Secret


@click.command("sign-in")
@of_data
def sign_in(data: Path) -> None:
    """A link to the page of the server that runs, by which you sign in as an operator: you see everything, and may
    redrive and purge dead letters. It is good for ten minutes. Whoever can read the data directory is an operator."""
    server = LocalServer(data)
    if server.url is None:
        raise ValueError(f"no server of {data} runs; `decoupled dashboard` shows its page without one")
    if not server.has_page:
        raise ValueError(f"the server of {data} runs with --page off; `decoupled dashboard` shows its page beside it")
    click.echo(_link(server.url, secret_of(data, None)))


@click.command()
@target
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8090, show_default=True, help="Port to listen on.")
@click.option("--read-only", is_flag=True, help="Nobody may redrive or purge dead letters with it.")
def dashboard(data: Path, stack: str | None, host: str, port: int, read_only: bool) -> None:
    """The page for people on call: how the system is doing, what became of a message, dead letters. Of a stack, or of a
    data directory, also while its server does not run. Prints a link by which you, and nobody else, get in."""
    from decoupled.dashboard.access import Rules
    from decoupled.dashboard.dashboard import Dashboard
    from decoupled.dashboard.gate import Gate
    from decoupled.dashboard.looks import Looks
    from decoupled.server.alone import serve

    sources, secret = sources_of(data, stack), secret_of(data, stack)
    gate = Gate(Rules(open=False, read_only=read_only), secret)
    looks = Looks(every_s=limits.LIVE_EVERY_S if stack is None else limits.LIVE_EVERY_OF_STACK_S)
    serve(lambda: Dashboard(sources, gate, looks), host, port, lambda url: click.echo(_link(url, secret)))


def _link(url: str, secret: Secret) -> str:
    """Behind the `#`, so that no server and no log sees it."""
    key = secret(True)
    if key is None:
        raise ValueError("there is no secret to sign with")
    return f"{url}/#code={code(key, now_ms(), secrets.token_bytes(limits.NONCE_BYTES))}"
