"""The socket in a data directory at which its server takes changes from tools: whoever may open the directory may
connect. A path of any length will do, although the kernel takes about a hundred bytes."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from decoupled.engines.sqlite.data_directory import PRIVATE_FILE, SOCKET_NAME

LONGEST_PATH_BYTES = 100  # Linux takes 107, macOS 103


def listen(directory: Path) -> socket.socket:
    """Bound to the socket of a directory that this process owns, not listening yet. Raises OSError."""
    (directory / SOCKET_NAME).unlink(missing_ok=True)  # of a server that was killed
    listener = socket.socket(socket.AF_UNIX)
    try:
        with _short(directory) as path:
            listener.bind(path)
        (directory / SOCKET_NAME).chmod(PRIVATE_FILE)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def connect(directory: Path, timeout_s: float) -> socket.socket:
    """To the server of a directory. Raises OSError."""
    client = socket.socket(socket.AF_UNIX)
    try:
        client.settimeout(timeout_s)
        with _short(directory) as path:
            client.connect(path)
    except OSError:
        client.close()
        raise
    return client


@contextmanager
def _short(directory: Path) -> Iterator[str]:
    """A path of the socket that the kernel takes: where it is too long, through a link that is gone afterwards."""
    path = directory.absolute() / SOCKET_NAME
    if len(os.fsencode(path)) <= LONGEST_PATH_BYTES:
        yield str(path)
        return
    with tempfile.TemporaryDirectory(prefix="decoupled-") as place:
        link = Path(place, "d")
        link.symlink_to(directory.absolute())
        yield str(link / SOCKET_NAME)
