"""The room that calls AWS, for the commands that change a stack."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import click

from decoupled.cli.target import refusals


@contextmanager
def aws_room() -> Iterator[Any]:
    """Its module that makes and changes stacks; its errors as one line."""
    with refusals():
        from decoupled.engines.aws import deployment

        try:
            yield deployment
        except Exception as error:
            if line := deployment.told(error):
                raise click.ClickException(line) from error
            raise


def is_emulator() -> bool:
    """Whether AWS is an emulator on this machine, which runs functions here."""
    return urlsplit(os.environ.get("AWS_ENDPOINT_URL", "")).hostname in ("127.0.0.1", "localhost", "::1")
