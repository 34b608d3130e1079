"""Files that a command makes for its user's eyes only, whatever the umask: they hold what clients sent."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

MODE = 0o600


def opened(path: Path) -> IO[bytes]:
    """The file, empty, to write to. Raises OSError."""
    file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, MODE), "wb")
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # not /dev/null
        os.fchmod(file.fileno(), MODE)
    return file


@contextmanager
def replaced(path: Path) -> Iterator[IO[bytes]]:
    """To write to; the file is there when all is written, and what stood there before stays until then."""
    path = path.resolve()
    if path.exists() and not path.is_file():  # a pipe, say
        with opened(path) as file:
            yield file
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with opened(draft) as file:
            yield file
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
