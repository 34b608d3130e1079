"""SQLite's write-ahead log under a server: when it is folded into the file (a checkpoint), and what is said when that
cannot be done. SQLite would do it by itself, and tell nobody how it went.

    commit, commit, ... ─▶ log of WAL_FOLD_FRAMES pages ─ checkpoint ─▶ the next commit begins the log anew
                                                              │ a reader needs it still, or the disk fails
                                                              └▶ it grows; tried again every CHECKPOINT_RETRY_S

Where Litestream replicates the file, it folds the log, which is left to it while that has less than WAL_LEFT_BYTES:
when it comes back within that, it goes on where it was (`beside.py`).

Whoever copies the file meanwhile is given what each checkpoint has put into it (`follow`).
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from typing import Protocol

from decoupled.core import limits, upkeep_limits
from decoupled.engines.protocols import StoreUnavailable
from decoupled.engines.sqlite import log_file
from decoupled.engines.sqlite.beside import Beside
from decoupled.engines.sqlite.driver import sqlite3

log = logging.getLogger("decoupled.wal")

LOOK_EVERY = 4  # transactions, at the log's length: after a sync a look costs up to 10 us


class Follower(Protocol):
    """Who copies the file while it is written: see `live_copy.py`. None of this waits, or raises."""

    def hurries(self) -> bool:
        """Whether the log is to be folded now, however short it is."""
        ...

    def is_behind(self, log_bytes: int) -> bool:
        """Whether the log is better not folded at the moment: more can not be taken yet."""
        ...

    def take(self, frames: bytes, whole: bool) -> bool:
        """These frames of the log, up to the end of a transaction, are in the file now; `whole`: it is all of the log.
        Whether more is wanted."""
        ...

    def give_up(self, why: str) -> None:
        """The copy can not become one."""
        ...


class WriteAheadLog:
    """That of one connection, the only one that writes. Between transactions, `tend` looks after it."""

    def __init__(
        self, connection: sqlite3.Connection, database: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Folds what an earlier server left. Raises OSError or sqlite3.Error."""
        self._connection = connection
        self._monotonic = monotonic
        self._try_again_at: float | None = None  # of a log that was not folded whole
        self._waiting_bytes = 0  # in a log that was not folded whole
        self._error: str | None = None  # of the last checkpoint
        self._told = False
        self._tended = 0
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        (self.page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        self._frame_bytes = log_file.FRAME_HEADER_BYTES + self.page_bytes
        self._enough = log_file.HEADER_BYTES + (limits.WAL_FOLD_FRAMES - 1) * self._frame_bytes
        self._follower: Follower | None = None
        self._given: tuple[bytes, int] = b"", 0  # to the follower, or never needed by it: of which log, how many frames
        self._database = database
        self._database_file: int | None = None
        self._beside = Beside(connection, database)
        self._shared = self._beside.is_there()  # with another program that folds it, too
        self._limit_file()
        # SQLite puts no locks on this file: to close a second descriptor of it takes none away.
        self._file = os.open(f"{database}-wal", os.O_RDONLY | os.O_CLOEXEC)
        self._fold()

    def expect_another(self) -> None:
        """Another program will write to the file and fold its log: Litestream."""
        self._beside.expect()

    def tend(self) -> None:
        """Fold the log if that is due. Raises StoreUnavailable when it is so long that nothing may be added."""
        self._tended += 1
        if self._try_again_at is None:
            if (self._tended % LOOK_EVERY == 0 and self._is_long()) or self._is_hurried():
                self._fold()
        elif self._monotonic() >= self._try_again_at:
            self._fold()
        if self.refuses:
            raise StoreUnavailable(self.trouble() or "")

    def trouble(self) -> str | None:
        """Why it grows; None while it does not, or has not grown much."""
        if self._error is None and self._waiting_bytes <= limits.WAL_LONG_BYTES:
            return None
        size = f"SQLite's log has {self._waiting_bytes / limits.MIB:,.0f} MiB and grows"
        if self._error is not None:
            return f"{size}: it cannot be folded into the file: {self._error}"
        if self._shared:
            return f"{size}: Litestream, or another process, reads the database, and does not fold the log: restart it"
        return f"{size}: another process reads the database, in one transaction, and has not come to its end"

    @property
    def refuses(self) -> bool:
        """Whether it is so long that nothing may be added."""
        return self._waiting_bytes > limits.MAX_WAL_BYTES

    def empty(self) -> bool:
        """Between transactions: fold all of it, and cut its file, so that nothing which stood in it is there any more.
        Whether that could be done now: a reader, who copies the file, or Litestream may be in the way. Raises
        sqlite3.Error."""
        if self._beside.is_there() or self._is_behind():
            return False
        return self._checkpoint(kept_bytes=0) and os.fstat(self._file).st_size == 0

    def follow(self, follower: Follower) -> int:
        """Between transactions. From now on it is given what goes into the file. Returns the file's descriptor, which
        is not to be closed: with it, SQLite's locks on the file would go. Raises sqlite3.Error or OSError."""
        if self._database_file is None:
            self._database_file = os.open(self._database, os.O_RDONLY | os.O_CLOEXEC)
        if self._beside.is_there():
            self._beside.hold()
        else:
            _, _, folded = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self._given = log_file.salts(self._file), folded
        self._follower = follower
        return self._database_file

    def leave(self) -> None:
        """Nobody follows any more."""
        self._follower = None
        self._beside.let_go()

    def close(self) -> None:
        """After the connection."""
        self._beside.close()
        if self._follower is not None:
            self._follower.give_up("the database was closed")
        os.close(self._file)
        if self._database_file is not None:
            os.close(self._database_file)

    def _is_hurried(self) -> bool:
        return self._follower is not None and self._follower.hurries()

    def _give(self, frames: int, folded: int) -> None:
        """To the follower, what is in the file by now, while the log still has it: the next transaction may begin the
        log anew, but only if all of it was folded, and then it has been given."""
        if (follower := self._follower) is None or folded < 0:
            return
        try:
            part = self._not_given(folded)
        except OSError as error:
            follower.give_up(f"SQLite's log cannot be read: {error.strerror}")
            self._follower = None
            return
        if not follower.take(part, whole=folded == frames):
            self._follower = None

    def _give_held(self, frames: int, _folded: int) -> None:
        """All of a log of which nothing was folded away, once the whole file is copied."""
        if (follower := self._follower) is None or frames < 0:
            return
        size = frames * self._frame_bytes
        try:
            if size > limits.WAL_LONG_BYTES:
                follower.give_up("messages come faster than it is made, while Litestream replicates the same file")
            elif follower.hurries():
                follower.take(os.pread(self._file, size, log_file.HEADER_BYTES), whole=True)
            else:
                return
        except OSError as error:
            follower.give_up(f"SQLite's log cannot be read: {error.strerror}")
        self.leave()

    def _not_given(self, folded: int) -> bytes:
        salts, given = self._given
        if (now := log_file.salts(self._file)) != salts:
            given = 0
        self._given = now, folded
        more = (folded - given) * self._frame_bytes
        if more > limits.WAL_LONG_BYTES:
            raise OSError(errno.EFBIG, f"it has over {limits.WAL_LONG_BYTES // limits.MIB} MiB")
        return os.pread(self._file, more, log_file.HEADER_BYTES + given * self._frame_bytes)

    def _is_long(self) -> bool:
        """Whether it is worth folding: what is behind its end is of an earlier log."""
        return log_file.has_frame(self._file, self._enough)

    def _bytes(self) -> int:
        """Of the log; or of its file, which nobody else keeps from being made shorter."""
        return log_file.end(self._file, self._frame_bytes) if self._shared else os.fstat(self._file).st_size

    def _fold(self) -> None:
        try:
            if not self._shared and self._beside.is_there():
                self._shared = True
                self._limit_file()
            if self._is_left() or self._is_behind():
                return
            whole = self._checkpoint()
            self._error = None
        except sqlite3.Error as error:
            whole = False
            self._error = str(error)
        self._waiting_bytes = 0 if whole else self._bytes()
        self._try_again_at = None if whole else self._monotonic() + limits.CHECKPOINT_RETRY_S
        self._tell()

    def _limit_file(self) -> None:
        """Of a log that is begun anew, how much of the one before it stays behind its end."""
        kept = 0 if self._shared else limits.WAL_KEPT_BYTES
        self._connection.execute(f"PRAGMA journal_size_limit = {kept}")

    def _is_left(self) -> bool:
        """Whether to fold it is another one's affair."""
        left = self._shared and self._follower is None and self._bytes() <= upkeep_limits.WAL_LEFT_BYTES
        if left:
            self._waiting_bytes, self._try_again_at, self._error = 0, None, None
            self._tell()
        return left

    def _is_behind(self) -> bool:
        follower = None if self._beside.holds else self._follower
        return follower is not None and follower.is_behind(os.fstat(self._file).st_size)

    def _checkpoint(self, kept_bytes: int = limits.WAL_KEPT_BYTES) -> bool:
        """Whether the whole log is in the file now, and not larger than it need be. Waits for nobody."""
        execute = self._connection.execute
        with self._beside.kept_off() as free:
            if not free:
                return False
            _, frames, folded = execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()  # -1: somebody else folds it
            give = self._give_held if self._beside.holds else self._give
            give(frames, folded)
        whole = bool(folded == frames >= 0)
        if not whole or self._shared or os.fstat(self._file).st_size <= kept_bytes:
            return whole  # shared: nobody is kept off while it is truncated, and the next commit does the same
        (patience_ms,) = execute("PRAGMA busy_timeout").fetchone()
        execute("PRAGMA busy_timeout = 0")
        try:
            (busy, *_) = execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            execute(f"PRAGMA busy_timeout = {patience_ms}")
        return not busy

    def _tell(self) -> None:
        """Once when it begins, and once when it is over."""
        trouble = self.trouble()
        if trouble is not None and not self._told:
            log.error("the log is not folded; it is tried again", extra={"error": trouble})
        elif trouble is None and self._told:
            log.info("the log is folded again")
        self._told = trouble is not None
