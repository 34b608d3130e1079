"""What is done when a server opens its file, so that what it finds there is on the disk, and not only in the kernel's
memory. SQLite syncs what it writes. Not all the names that lead to it; and after a sync that failed, the next process
reads from memory what never reached the disk, and nothing tells it so."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from decoupled.engines.sqlite import log_file
from decoupled.engines.sqlite.beside import has_come
from decoupled.engines.sqlite.driver import sqlite3

CHUNK_BYTES = 1 << 20


def write_log_again(connection: sqlite3.Connection, database: Path) -> None:
    """Write the log once more, as it is read, sync it, and fold it. What a sync failed to write, the kernel may take
    for written: no later sync writes it, and a log is worth nothing from its first gap on.

        commit ▶ sync fails ▶ the process ends ▶ the next one reads that commit and logs others after it, synced
                                                 ▶ the power goes: the log ends where the first sync failed

    Folding does the same for the database, which may have lost its first page so: SQLite takes such a file for an empty
    one, and deletes its log. Raises sqlite3.Error or OSError."""
    connection.execute("BEGIN IMMEDIATE")  # nobody else adds to the log meanwhile
    try:
        descriptor = os.open(f"{database}-wal", os.O_RDWR | os.O_CLOEXEC)
        try:
            at = 0
            while chunk := os.pread(descriptor, CHUNK_BYTES, at):
                at += os.pwrite(descriptor, chunk, at)
            if shared := has_come(connection):  # what is left of an earlier log would be taken for this one
                os.ftruncate(descriptor, min(at, log_file.whole(descriptor).end))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)  # SQLite has no locks on this file that could be lost with it
        if shared:  # nobody begins the log anew while it is folded: see beside.py
            with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as second:
                second.execute("PRAGMA wal_checkpoint(PASSIVE)")
            return
    finally:
        connection.execute("ROLLBACK")
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")  # or whoever folds it at this moment has done it


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
