"""Another program that writes to the file of a server and folds its log: Litestream, which replicates it, and which
reads in one long transaction so that nobody but itself can begin the log anew. What such a program must be kept from,
and when, stands here.

    SQLite up to 3.51.2 loses what a log has when it is begun anew at the moment at which it is folded by somebody else
    (https://www.sqlite.org/wal.html#walresetbug): so while we fold, nobody writes (`kept_off`). Litestream does the
    same while it folds, and brings a SQLite that is mended.

    When it comes back after a while, it looks for the place in the log where it was. If we have folded that and begun
    the log anew, what is behind the new one's end in the file is still the old one: it would find its place there, and
    take no notice of what stood between. So nothing is left of a log that we begin anew (journal_size_limit).

    a copy of the file is made from what is folded, and what that program folds, nobody is told of: so while one is
    made, nothing is folded away (`hold`)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from decoupled.engines.sqlite.driver import sqlite3

TABLES = ("_litestream_seq", "_litestream_lock")  # that Litestream makes in every file
_BUSY = 5  # https://www.sqlite.org/rescode.html#busy


def has_come(connection: sqlite3.Connection) -> bool:
    """Whether Litestream has ever had this file. Raises sqlite3.Error."""
    return connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", TABLES[:1]).fetchone() is not None


def forget_it(connection: sqlite3.Connection) -> None:
    """Of a copy, which it does not have: until it has, the log is nobody else's. It makes what it needs anew. Raises
    sqlite3.Error."""
    for table in TABLES:
        connection.execute(f"DROP TABLE IF EXISTS {table}")


def is_busy(error: sqlite3.Error) -> bool:
    """Somebody else has the lock."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == _BUSY


class Beside:
    """Of one file, for the connection that writes to it. Without another program, nothing of this costs anything but a
    look into the schema whenever the log is folded."""

    def __init__(self, connection: sqlite3.Connection, database: str) -> None:
        self._connection = connection
        self._database = database
        self._second: sqlite3.Connection | None = None
        self._holding: sqlite3.Connection | None = None
        self._letting_go = threading.Lock()
        self._expected = False

    def expect(self) -> None:
        """Somebody has said that one will come: before it does."""
        self._expected = True

    def is_there(self) -> bool:
        """Whether one may write to the file. Raises sqlite3.Error."""
        self._expected = self._expected or has_come(self._connection)
        return self._expected

    @contextmanager
    def kept_off(self) -> Iterator[bool]:
        """Nobody writes while this lasts; False: somebody does, and it is not waited for. Raises sqlite3.Error."""
        if not self.is_there():
            yield True
            return
        if self._second is None:
            self._second = self._connect()
        try:
            self._second.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            free = False
        else:
            free = True
        try:
            yield free
        finally:
            if free:
                self._second.execute("ROLLBACK")

    def hold(self) -> None:
        """What is in the log from now on, or is not folded yet, stays in it. Raises sqlite3.Error."""
        self.let_go()
        self._holding = self._connect()
        self._holding.execute("BEGIN")
        self._holding.execute("SELECT count(*) FROM sqlite_schema").fetchone()

    @property
    def holds(self) -> bool:
        """Whether that is so."""
        return self._holding is not None

    def let_go(self) -> None:
        """It may be folded again. In any thread."""
        with self._letting_go:
            holding, self._holding = self._holding, None
            if holding is not None:
                holding.close()

    def close(self) -> None:
        """Before the connection."""
        self.let_go()
        if self._second is not None:
            self._second.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._database, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA busy_timeout = 0")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        return connection
