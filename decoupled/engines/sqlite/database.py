"""The SQLite file of one data directory, and its transactions. Its schema stands in `schema.py`, statements on messages
in `messages.py`, on records in `table.py`, on items in `items.py`; who owns the file, in `data_directory.py`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from decoupled import __version__
from decoupled.core.status import Change, sources
from decoupled.engines.protocols import StoreBusy, StoreDamaged, StoreUnavailable
from decoupled.engines.sqlite import durable
from decoupled.engines.sqlite.beside import has_come
from decoupled.engines.sqlite.damage import Damage, Refusals, advice
from decoupled.engines.sqlite.driver import sqlite3
from decoupled.engines.sqlite.schema import MIGRATIONS, SCHEMA, SCHEMA_VERSION
from decoupled.engines.sqlite.wal import WriteAheadLog

FILE_NAME = "decoupled.sqlite3"
APPLICATION_ID = 0x64636F75  # "dcou", so that `file` and we can tell this file from others
SMALLEST_FILE_BYTES = 512  # SQLite takes a smaller file for an empty one, and would write over it
OLDEST_SQLITE = (3, 35, 0)  # UPDATE ... RETURNING


def may(change: Change, living: bool = False) -> str:
    """The condition that a message has a status from which this change may start: see core/status.py. Of `living`
    ones, only if it is not dead."""
    return f"status IN ({', '.join(repr(it) for it in sources(change) if not (living and it == 'dead'))})"


class DataDirectoryError(Exception):
    """The data directory cannot be used, and why: in use, not ours, from another version, not writable."""


class Database:
    """One connection, used by one thread at a time."""

    def __init__(self, path: Path | str, *, read_only: bool = False, still: bool = False) -> None:
        """Makes the file if there is none, for its owner's eyes, and brings it up to date: for whoever owns the data
        directory. With `read_only`, for those that look beside the owner: writes nothing, and never folds the log. With
        `still`, too, of a copy that nobody writes to and that has no log: nothing is put beside it either."""
        self.wal: WriteAheadLog | None = None  # where it is looked after by hand: a server's
        self.lost: Callable[[], str | None] = lambda: None  # why a commit is not to be believed, if so
        self.ordered: frozenset[str] = frozenset()  # workloads whose messages get in line: see ordered.adopt
        self.added: list[str] = []  # of each message that the last transaction made: its workload
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise DataDirectoryError(f"SQLite {sqlite3.sqlite_version} is too old; 3.35 is needed")
        if read_only and not Path(path).exists():
            raise DataDirectoryError(f"there is no {path}")
        if 0 < _size(path) < SMALLEST_FILE_BYTES:
            raise DataDirectoryError(f"{path} cannot be used: file is not a database")
        self._path = path
        self.damage = Damage(path)
        self.refusals = Refusals(self.damage)
        try:
            if not read_only:
                _make_private(path)
            self.connection = sqlite3.connect(
                f"{Path(path).absolute().as_uri()}?mode=ro{'&immutable=1' * still}" if read_only else path,
                uri=read_only,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=128,
            )
            self.execute = self.connection.execute
            self.executemany = self.connection.executemany
            self._prepare(path, read_only)
            if not read_only and path != ":memory:":
                durable.write_log_again(self.connection, Path(path))
                durable.sync_names(Path(path).parent)
        except sqlite3.DatabaseError as error:
            damaged = isinstance(self.damage.refusal(error), StoreDamaged)
            remedy = f"; {advice(path)}" if damaged else ""
            raise DataDirectoryError(f"{path} cannot be used: {error}{remedy}") from error
        except OSError as error:
            raise DataDirectoryError(f"{path} cannot be used: {error.strerror}") from error

    def _prepare(self, path: Path | str, read_only: bool) -> None:
        self.execute("PRAGMA busy_timeout = 5000")  # somebody else's sqlite3, at most
        (application_id,) = self.execute("PRAGMA application_id").fetchone()
        (version,) = self.execute("PRAGMA user_version").fetchone()
        (tables,) = self.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if application_id != APPLICATION_ID and (tables or application_id or version):
            raise DataDirectoryError(f"{path} is a SQLite file of another program; it is left alone")
        if version > SCHEMA_VERSION:
            raise DataDirectoryError(
                f"{path} has schema version {version}, which a newer decoupled made; this one, {__version__}, knows"
                f" {SCHEMA_VERSION}: install that version or a later one"
            )
        self.execute("PRAGMA cache_size = -32768")  # KiB
        if read_only:
            if version < SCHEMA_VERSION:
                raise DataDirectoryError(
                    f"{path} has schema version {version}, and {SCHEMA_VERSION} is needed:"
                    " `decoupled serve` brings it up to date"
                )
            self.execute("PRAGMA query_only = 1")
            return
        if not tables:
            self.execute("PRAGMA auto_vacuum = INCREMENTAL")  # pages that are free can go back to the file system
        self.execute("PRAGMA journal_mode = WAL")
        self.execute("PRAGMA synchronous = FULL")  # a commit is on the disk when it returns: the 202 stands on this
        if has_come(self.connection):  # see beside.py
            self.execute("PRAGMA wal_autocheckpoint = 0")
            self.execute("PRAGMA journal_size_limit = 0")
        self.execute("PRAGMA secure_delete = ON")  # what is erased is written over, as most builds of SQLite do anyway
        self.execute("PRAGMA temp_store = MEMORY")  # of what a savepoint may undo, 64 KiB would be a file each time
        if not tables:
            self.connection.executescript(
                f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA application_id = {APPLICATION_ID};"
                f" PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        elif version < SCHEMA_VERSION:
            steps = " ".join(MIGRATIONS[step] for step in range(version, SCHEMA_VERSION))
            self.connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")

    def begin_serving(self, tell_of_damage: Callable[[str], None]) -> None:
        """From now on nothing here waits for another process's lock, because a server's event loop would wait too."""
        self.execute("PRAGMA busy_timeout = 0")
        self.damage.tell = tell_of_damage

    def tend_log(self) -> WriteAheadLog:
        """From now on, fold the log by hand before a transaction, and see how it goes: a server's, which others may
        keep from it by reading. Raises DataDirectoryError."""
        (_, _, path) = self.execute("PRAGMA database_list").fetchone()
        try:
            self.wal = WriteAheadLog(self.connection, path)
        except (sqlite3.Error, OSError) as error:
            raise DataDirectoryError(f"{path} cannot be used: {error}") from error
        return self.wal

    def sizes(self) -> dict[str, int]:
        """Bytes of its files, by their metrics."""
        return {"file_bytes": _size(self._path), "wal_bytes": _size(f"{self._path}-wal")}

    @property
    def in_transaction(self) -> bool:
        """Has one begun? SQLite may undo it by itself, when the disk is full."""
        return self.connection.in_transaction

    def begin(self) -> None:
        """Start a transaction as the only writer. Raises StoreUnavailable; StoreBusy while another process is that."""
        if self.wal is not None:
            self.wal.tend()
        with self.refusals:
            self.execute("BEGIN IMMEDIATE")
        self.added = []

    def commit(self) -> None:
        """Everything since `begin` is on the disk when this returns. Raises StoreUnavailable, and nothing is."""
        try:
            self.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            self.roll_back()
            refusal = self.damage.refusal(error) or StoreUnavailable(str(error))
            refusal.unknown = not isinstance(refusal, StoreBusy)
            raise refusal from error
        if (why := self.lost()) is not None:
            raise StoreUnavailable(why, unknown=True)

    def roll_back(self) -> None:
        """Undo everything since `begin`. SQLite may have done so itself."""
        if self.connection.in_transaction:
            self.execute("ROLLBACK")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside, or nothing; part of the outer transaction if there is one. Raises StoreUnavailable when
        SQLite refuses."""
        if self.connection.in_transaction:
            with self.refusals:
                yield
            return
        self.begin()
        try:
            with self.refusals:
                yield
        except BaseException:
            self.roll_back()
            raise
        self.commit()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Everything read inside is of one moment, that of the first read, and the file's locks are taken once for it.
        Never raises: the reads do."""
        if self.connection.in_transaction:
            yield
            return
        self.execute("BEGIN")
        try:
            yield
        finally:
            if self.connection.in_transaction:  # a read that met damage may have ended it
                self.execute("ROLLBACK")

    def savepoint(self) -> _Savepoint:
        """Inside a transaction: undo this part if it raises, and leave the rest of the transaction alone. Raises
        StoreUnavailable when SQLite refuses."""
        return _Savepoint(self)

    def close(self) -> None:
        """Let go of it. The last one that may write folds the log into the file."""
        self.connection.close()
        if self.wal is not None:
            self.wal.close()


def _make_private(path: Path | str) -> None:
    """The file, before SQLite makes it: its log and its index get the same permissions."""
    if str(path) != ":memory:":
        with contextlib.suppress(FileExistsError, IsADirectoryError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            os.fchmod(descriptor, 0o600)
            os.close(descriptor)


class _Savepoint:
    """Most transactions have one or two: without a generator, it takes half as long."""

    __slots__ = ("_added", "_database")

    def __init__(self, database: Database) -> None:
        self._database = database
        self._added = len(database.added)

    def __enter__(self) -> None:
        self._database.execute("SAVEPOINT part")

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        database = self._database
        if error is not None:
            del database.added[self._added :]
            if database.in_transaction:  # SQLite itself rolls back everything when the disk is full
                database.execute("ROLLBACK TO part")
                database.execute("RELEASE part")
            database.refusals.__exit__(kind, error, traceback)
            return
        database.execute("RELEASE part")


def _size(path: Path | str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0  # not there, or not to be read: connecting says which
