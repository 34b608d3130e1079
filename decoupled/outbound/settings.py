"""What an operator sets for what leaves: by environment variables, so that it stands in no queue and no log."""

from __future__ import annotations

import functools
import os
import ssl


class NotConfigured(Exception):  # noqa: N818  what is missing, not what went wrong
    """The operator has not set what this needs. A dead letter that says so can be redriven once it is set."""


def setting(name: str) -> str:
    """An environment variable that must be set."""
    if not (value := os.environ.get(name)):
        raise NotConfigured(f"{name} is not set")
    return value


@functools.cache
def tls() -> ssl.SSLContext:
    """Verifies the certificate, and that it is for the name that was asked for."""
    return ssl.create_default_context()
