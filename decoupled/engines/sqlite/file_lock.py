"""Small files of a data directory that several processes read and change: one at a time changes them, and whoever reads
sees with one system call whether they have changed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from decoupled.core import limits
from decoupled.engines.sqlite.data_directory import PRIVATE_FILE
from decoupled.engines.sqlite.database import DataDirectoryError

LOOK_AGAIN_S = 0.01  # whether another process is done by now

Stamp = tuple[int, ...]
"""Which file it is, and as it was written last."""


def stamp(there: os.stat_result) -> Stamp:
    """Of a file's status: `os.stat`, which is twice as fast as with a Path."""
    return there.st_dev, there.st_ino, there.st_mtime_ns, there.st_size


@contextlib.contextmanager
def locked(path: Path, busy: str) -> Iterator[int]:
    """The file, made if there is none, while no other process has it so. Raises OSError; or DataDirectoryError, with
    what to say of another one that does not let go of it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        until = time.monotonic() + limits.LOCK_WAIT_S
        while not _lock(descriptor):
            if time.monotonic() > until:
                raise DataDirectoryError(busy)
            time.sleep(LOOK_AGAIN_S)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
