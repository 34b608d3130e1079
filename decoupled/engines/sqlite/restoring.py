"""Makes a data directory of a backup: verifies it, copies it there, and opens it as a server would.

    backup ─▶ verified ─▶ copied, synced, verified once more ─▶ its name ─▶ brought up to date, keys put in their file

What was in flight when the backup was made is visible again as soon as a server starts. What was accepted after it is
not known: under its key it is a new message."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from decoupled.core.backups import Holdings, Step
from decoupled.engines.sqlite.backup import KEYS_MARK, SIDES, sealed_in
from decoupled.engines.sqlite.backup_names import newest
from decoupled.engines.sqlite.beside import forget_it, has_come
from decoupled.engines.sqlite.data_directory import KEYS_NAME, PRIVATE_FILE, DataDirectory, write_private
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.departure import said_of
from decoupled.engines.sqlite.durable import sync_names
from decoupled.engines.sqlite.ends import SqliteEnds
from decoupled.engines.sqlite.live_copy import CHUNK_BYTES, BackupError
from decoupled.engines.sqlite.verification import verify

Tell = Callable[[Step], None]


def source_of(place: Path) -> Path:
    """The file that is meant: of a directory of backups, the newest. Raises BackupError."""
    if not place.is_dir():
        return place
    if (found := newest(place)) is None:
        raise BackupError(f"there is no backup in {place}")
    return found


def restore(source: Path, data: Path, tell: Tell) -> tuple[Holdings, list[str]]:
    """Make the data directory, whole or not at all. What the file holds, and what there is to say of it. Raises
    BackupError, DataDirectoryError or OSError."""
    _refuse_a_log(source)
    directory = refuse_a_database(data)
    verified = _verified(source, tell)  # before there is anything of the directory
    directory.lock()
    part = directory.file.with_name(f"{directory.file.name}.part")
    try:
        _copy(source, part, tell)
        if (copied := _verified(part, tell)) != verified:
            raise BackupError(f"{source} was changed meanwhile: {copied} is not {verified}")
        part.rename(directory.file)
        sync_names(data)
        with contextlib.closing(directory.open()) as database:
            sealed, moved = sealed_in(database.connection), said_of(database)
            _settle_in(database, data)
    finally:
        part.unlink(missing_ok=True)
        directory.unlock()
    said = "it is no backup that decoupled made" if sealed is None else f"verified, {sealed.says()}"
    return verified, [said] if moved is None else [said, f"as of then, {moved}"]


def refuse_a_database(data: Path) -> DataDirectory:
    """Raises BackupError where there is one."""
    directory = DataDirectory(data)
    for path in (directory.file, *(directory.file.with_name(f"{directory.file.name}{side}") for side in SIDES)):
        if path.exists():
            raise BackupError(f"{path} is there already; name a new directory, or move it away")
    return directory


def _refuse_a_log(source: Path) -> None:
    if not source.is_file():
        raise BackupError(f"there is no file {source}")
    log = source.with_name(f"{source.name}-wal")
    if log.exists() and log.stat().st_size:
        raise BackupError(
            f"{source} has a log beside it, {log.name}, so it is the file of a server and no backup:"
            f" decoupled backup --data {source.parent} makes one"
        )


def _verified(file: Path, tell: Tell) -> Holdings:
    try:
        return verify(file, tell, threading.Event())
    except BackupError as error:
        raise BackupError(f"{file} cannot be used: {error}") from error


def _copy(source: Path, part: Path, tell: Tell) -> None:
    part.unlink(missing_ok=True)
    size, done = source.stat().st_size, 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with source.open("rb") as reading, os.fdopen(os.open(part, flags, PRIVATE_FILE), "wb") as writing:
        while chunk := reading.read(CHUNK_BYTES):
            writing.write(chunk)
            done += len(chunk)
            tell(Step("copying", done, size))
        writing.flush()
        os.fsync(writing.fileno())


def _settle_in(database: Database, data: Path) -> None:
    """The keys are a file again, if there is none yet; nobody replicates it; and no number of an end is given twice."""
    row = database.execute("SELECT value FROM marks WHERE name = ?", (KEYS_MARK,)).fetchone()
    if row is not None:
        if not (data / KEYS_NAME).exists():
            write_private(data / KEYS_NAME, row[0], synced=True)
        with database.transaction():
            database.execute("DELETE FROM marks WHERE name = ?", (KEYS_MARK,))
    if has_come(database.connection):
        with database.transaction():
            forget_it(database.connection)
    SqliteEnds(database).begin_anew()
