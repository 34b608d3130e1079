"""Who types."""

from __future__ import annotations

import getpass
import os
import socket


def who() -> str:
    """Who says to be here. Nobody has to prove it."""
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (OSError, KeyError):  # an id without a name, as in containers
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
