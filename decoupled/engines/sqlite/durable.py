"""What is done when a server opens its file, so that what it finds there is on the disk, and not only in the kernel's
memory. SQLite syncs what it writes. Not all the names that lead to it; and after a sync that failed, the next process
reads from memory what never reached the disk, and nothing tells it so."""

from __future__ import annotations

import errno
import os
from pathlib import Path

CHUNK_BYTES = 1 << 20
HEADER_BYTES = 4096  # the first page: without it SQLite takes the file for an empty one, and deletes the log


def write_again(file: Path) -> None:
    """Write the log once more, as it is read, and sync it; and of the database the first page. What a sync failed to
    write, the kernel may take for written: no later sync writes it, and a log is worth nothing from its first gap on.

        commit ▶ sync fails ▶ the process ends ▶ the next one reads that commit and logs others after it, synced
                                                 ▶ the power goes: the log ends where the first sync failed

    To be called before SQLite opens the file: closing it here would let go of SQLite's locks. Raises OSError."""
    _write_again(file, HEADER_BYTES)
    _write_again(file.with_name(f"{file.name}-wal"))


def _write_again(file: Path, most_bytes: int | None = None) -> None:
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        at, end = 0, os.fstat(descriptor).st_size if most_bytes is None else most_bytes
        while chunk := os.pread(descriptor, min(CHUNK_BYTES, end - at), at):
            at += os.pwrite(descriptor, chunk, at)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_names(directory: Path) -> None:
    """The names in the directory, and those that lead to it, are on the disk: as far up as it is the same file system
    and we may look. Raises OSError."""
    device = directory.stat().st_dev
    for place in (directory, *directory.absolute().parents):
        if place.stat().st_dev != device:
            return
        try:
            descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except PermissionError:
            return
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system that has no such sync
                raise
        finally:
            os.close(descriptor)
