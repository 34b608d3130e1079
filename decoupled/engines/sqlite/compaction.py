"""Makes a data directory's file anew, without what is free in it: then it can give room back, whoever has made it.

    the file ─ VACUUM INTO ─▶ a new one beside it, synced and checked ─ takes its name ─▶ the file

Until it takes the name, nothing is changed: whatever ends the process, the old file is there, or the new one."""

from __future__ import annotations

import contextlib
import os
import shutil

from decoupled.core.limits import MIB
from decoupled.engines.sqlite import durable, erasure
from decoupled.engines.sqlite.beside import Beside, forget_it
from decoupled.engines.sqlite.data_directory import PRIVATE_FILE, DataDirectory
from decoupled.engines.sqlite.database import FILE_NAME, Database, DataDirectoryError
from decoupled.engines.sqlite.driver import sqlite3
from decoupled.engines.sqlite.space import Space, space

_SPARE_BYTES = 64 * MIB  # that the disk has afterwards


def compact(directory: DataDirectory) -> tuple[Space, Space]:
    """As it was, and as it is now. No server runs meanwhile. Raises DirectoryInUse, DataDirectoryError or
    StoreUnavailable."""
    try:
        with contextlib.closing(directory.own()) as database:
            before = space(database)
            _copy(directory, database, before)
        return before, _take_its_place(directory)
    except OSError as error:
        raise DataDirectoryError(f"{directory.path} cannot be made smaller: {error.strerror}") from error
    finally:
        directory.unlock()


def _copy(directory: DataDirectory, database: Database, before: Space) -> None:
    new = directory.path / f"{FILE_NAME}.compact"
    new.unlink(missing_ok=True)  # of one that did not come to its end
    needed = before.file_bytes - before.free_bytes + _SPARE_BYTES
    if (free := shutil.disk_usage(directory.path).free) < needed:
        raise DataDirectoryError(
            f"{directory.path} has room for {free / MIB:,.0f} MiB, and the new file needs {needed / MIB:,.0f} beside"
            " the old one"
        )
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE))
    with database.refusals:
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        database.execute("VACUUM INTO ?", (str(new),))
        _fold(database, directory)
        with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as made:
            made.execute("PRAGMA journal_mode = MEMORY")  # nothing beside it; if it is torn, it has no name yet
            forget_it(made)
    with contextlib.closing(Database(new, read_only=True, still=True)) as copied, copied.refusals:
        wrong = copied.execute("PRAGMA quick_check(1)").fetchone()[0]
    if wrong != "ok":
        raise DataDirectoryError(f"the copy of {directory.file} is damaged: {wrong}; the file stays as it was")
    descriptor = os.open(new, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fold(database: Database, directory: DataDirectory) -> None:
    """The log, which goes with the last one that has the file open. Raises sqlite3.Error."""
    with contextlib.closing(Beside(database.connection, str(directory.file))) as beside, beside.kept_off() as free:
        if free:
            database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _take_its_place(directory: DataDirectory) -> Space:
    """A log that is there still has somebody who reads the old file by it: with the new one, it would be nonsense."""
    if directory.file.with_name(f"{FILE_NAME}-wal").exists():
        raise DataDirectoryError(
            f"another process reads {directory.file}: end it first (`status --watch`, `dashboard`, Litestream)"
        )
    (directory.path / f"{FILE_NAME}.compact").replace(directory.file)
    durable.sync_names(directory.path)
    with contextlib.closing(directory.open()) as database:
        erasure.ended(database)  # of what was forgotten, only rows are copied: there is nothing left to search for
        return space(database)
