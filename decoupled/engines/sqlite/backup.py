"""A backup: one file that has everything of a data directory that is worth keeping, as of one moment, whole or not at
all. Its database is copied while the server writes (`live_copy.py`), verified (`verification.py`), and only then given
its name.

    NAME.part, locked ─▶ pages ─▶ verified ─▶ sealed: what is in it, keys and senders ─▶ synced ─▶ NAME

What is not in it: the page's secret (sessions end with their machine), the queue's clock (of one start of a machine)
and the samples of the last hour's charts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from decoupled.core.backups import Sealed, Step, Told
from decoupled.core.times import now_ms
from decoupled.engines.sqlite.backup_names import name_at
from decoupled.engines.sqlite.data_directory import KEYS_NAME, PRIVATE_FILE
from decoupled.engines.sqlite.driver import sqlite3
from decoupled.engines.sqlite.durable import sync_names
from decoupled.engines.sqlite.live_copy import BackupError, LiveCopy
from decoupled.engines.sqlite.verification import verify
from decoupled.engines.sqlite.wal import WriteAheadLog

MARK, KEYS_MARK = "backup", "backup keys"  # in `marks`
_FORMATS_AT, _ROLLBACK_JOURNAL = 18, b"\x01\x01"  # in the file's header: it needs no log beside it
SIDES = ("-wal", "-shm", "-journal")  # files of SQLite's beside a database, which belong to no other one


ClockMs = Callable[[], int]
InOwner = Callable[[Callable[[], int]], int]
"""Has something done in the thread of the database's owner, between transactions, and returns what that returns."""


class Backup:
    """One, from its begin to its end."""

    def __init__(self, data: Path, to: Path, log: WriteAheadLog, in_owner: InOwner, clock_ms: ClockMs = now_ms) -> None:
        """`to`: a file that is not there, or a directory, where it gets a name by its time."""
        self._to = to
        self._data = data.resolve()
        self._log = log
        self._in_owner = in_owner
        self._clock_ms = clock_ms
        self._cancelled = threading.Event()
        self._step = Step("beginning", 0, 0)
        self._copy: LiveCopy | None = None
        self._file = -1
        self._part: Path | None = None  # while it is there
        self._error: str | None = None
        self._sealed: Sealed | None = None

    def told(self) -> Told:
        """How it goes. In any thread."""
        step, copy = self._step, self._copy
        if step.what == "copying" and copy is not None:
            step = Step("copying", copy.bytes_done, copy.bytes_in_all)
        return Told(str(self._to), step, self._error, self._sealed)

    def cancel(self) -> None:
        """Give it up, and leave nothing. It has ended when `told` says so."""
        self._cancelled.set()

    def run(self) -> None:
        """All of it, in a thread of its own. Does not raise: `told` has what came of it."""
        error: str | None = "an internal error"
        sealed = None
        try:
            sealed = self._run()
            error = None
        except OSError as failed:
            error = f"{self._to} cannot be written: {failed.strerror or failed}"
        except (BackupError, sqlite3.Error) as failed:
            error = str(failed)
        finally:
            self._log.leave()
            self._remove()
            self._error, self._sealed = error, sealed  # last: who sees that it has ended may begin another one

    def _run(self) -> Sealed:
        if self._to.is_dir():
            self._to /= name_at(self._clock_ms())
        self._check(self._to)
        part = self._to.with_name(f"{self._to.name}.part")
        self._file = _opened(part)
        self._part = part
        self._copy = copy = LiveCopy(self._file, self._log.page_bytes, self._cancelled)
        source = self._in_owner(lambda: self._log.follow(copy))
        self._now(Step("copying", 0, 0))
        copy.run(source)
        at = self._clock_ms()
        os.pwrite(self._file, _ROLLBACK_JOURNAL, _FORMATS_AT)
        os.fsync(self._file)
        self._now(Step("verifying", 0, 0))
        holds = verify(part, self._now, self._cancelled)
        self._now(Step("sealing", 0, 0))
        sealed = Sealed(at, str(self._data), platform.node(), os.fstat(self._file).st_size, holds)
        self._seal(part, sealed)
        self._give_name(part)
        return sealed

    def _now(self, step: Step) -> None:
        self._step = step

    def _check(self, target: Path) -> None:
        if not target.is_absolute():
            raise BackupError(f"{target} is no absolute path")
        if target.exists() or target.is_symlink():
            raise BackupError(f"{target} is there already")
        if not target.parent.is_dir():
            raise BackupError(f"there is no directory {target.parent}")
        if target.resolve().is_relative_to(self._data):
            raise BackupError(
                f"{target} is in the data directory, with which it would be lost: name another place,"
                " best on another disk"
            )

    def _seal(self, part: Path, sealed: Sealed) -> None:
        marks = [(MARK, msgspec.json.encode(sealed).decode())]
        with contextlib.suppress(FileNotFoundError):
            marks.append((KEYS_MARK, (self._data / KEYS_NAME).read_text()))
        with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as file:
            file.execute("PRAGMA journal_mode = MEMORY")  # nothing beside it; if it is torn, it has no name yet
            file.execute("BEGIN IMMEDIATE")
            file.execute("DELETE FROM marks WHERE name = ?", (KEYS_MARK,))  # that a replica has, of another time
            file.executemany("INSERT OR REPLACE INTO marks (name, value) VALUES (?, ?)", marks)
            file.execute("COMMIT")
        os.fsync(self._file)
        if hasattr(os, "posix_fadvise"):  # it is verified, and takes the memory that others have more use for
            os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)

    def _give_name(self, part: Path) -> None:
        if self._cancelled.is_set():
            raise BackupError("it was cancelled")
        if self._to.exists():
            raise BackupError(f"{self._to} was made by somebody else meanwhile")
        part.rename(self._to)
        self._part = None
        sync_names(self._to.parent)

    def _remove(self) -> None:
        """What is left of it, unless it has got its name."""
        if self._part is not None:
            with contextlib.suppress(OSError):  # its directory is gone, say
                self._part.unlink()
        if self._file >= 0:
            os.close(self._file)


def _opened(part: Path) -> int:
    """A new file, locked. What somebody has left there who was killed meanwhile is replaced. Raises BackupError."""
    try:
        file = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE)
    except OSError as error:
        raise BackupError(f"{part} cannot be made: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fchmod(file, PRIVATE_FILE)
        os.ftruncate(file, 0)
        for side in SIDES:
            part.with_name(f"{part.name}{side}").unlink(missing_ok=True)
    except BlockingIOError:
        os.close(file)
        raise BackupError(f"another backup is written to {part}") from None
    except OSError as error:
        os.close(file)
        raise BackupError(f"{part} cannot be written: {error.strerror}") from error
    return file


def sealed_in(connection: sqlite3.Connection) -> Sealed | None:
    """What a backup says of itself; None if it is none. Raises BackupError when it cannot be read."""
    try:
        row = connection.execute("SELECT value FROM marks WHERE name = ?", (MARK,)).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=Sealed)
    except (sqlite3.Error, msgspec.DecodeError) as error:
        raise BackupError(f"what it says of itself cannot be read: {error}") from error


def sealed_of(file: Path) -> Sealed | None:
    """The same of a file that nobody writes. Raises BackupError."""
    try:
        with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as opened:
            return sealed_in(opened)
    except sqlite3.Error as error:
        raise BackupError(f"{file} cannot be read: {error}") from error
