"""`decoupled openapi`: the document that describes the API, without a server that runs."""

from __future__ import annotations

import click
import msgspec

from decoupled.cli.build import served
from decoupled.cli.target import gateway_of, refusals
from decoupled.pipeline.openapi.document import document
from decoupled.server.configuration import from_process


@click.command()
@click.option("--workloads", help="As those of `serve`.  [default: decoupled.toml's]")
@click.option("--stack", help="Name of a CloudFormation stack: the document of its API, instead of a server's.")
@click.option("--url", help="Where the API is.  [default: the stack's, or where `serve` listens]")
def openapi(workloads: str | None, stack: str | None, url: str | None) -> None:
    """Print the API of the workloads as an OpenAPI 3.1 document, as a server has it at /openapi.json."""
    with refusals():
        _, _, loaded = served(workloads)
        if stack:
            endpoint, authorization = gateway_of(stack)
            made = document(loaded, url or endpoint, authorization)
        else:
            options = from_process()
            made = document(loaded, url or options.url, auth=options.proofs)
        click.echo(msgspec.json.format(msgspec.json.encode(made)).decode())
