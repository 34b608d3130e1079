"""What commands that make, change or delete stacks share: AWS's errors as one line, and whether it is an emulator."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import click

from decoupled.cli.target import refusals


@contextmanager
def calling_aws() -> Iterator[None]:
    """What AWS refuses ends the command with status 1, and so does all that `refusals` tells."""
    with refusals():
        from decoupled.engines.aws.client import AwsError, detail

        try:
            yield
        except AwsError as error:
            raise click.ClickException(f"AWS refuses: {detail(error)}") from error


def is_emulator() -> bool:
    """Whether AWS is an emulator on this machine, which runs functions here."""
    return urlsplit(os.environ.get("AWS_ENDPOINT_URL", "")).hostname in ("127.0.0.1", "localhost", "::1")
