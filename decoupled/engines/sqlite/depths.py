"""How many messages wait, and for how long: counted by indexes alone, of what has not ended. For `status`, which has a
connection beside the server, and for the server's own charts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from decoupled.core import limits
from decoupled.engines.protocols import StoreUnavailable
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.database import Database, DataDirectoryError

STEPS = 1_000_000  # of SQLite's machine, some 50 ms, between two looks at the time: each wants the interpreter's lock


class Depths:
    """Looks again and again, by a connection of its own, which waits for nobody. Used by one thread."""

    def __init__(self, directory: DataDirectory, queue_clock_ms: Callable[[], int]) -> None:
        self._directory = directory
        self._queue_clock_ms = queue_clock_ms
        self._database: Database | None = None
        self._until = 0.0  # on the steady clock: a look that takes longer is given up

    def __call__(self, now_ms: int) -> Mapping[str, float | None]:
        """By the names of `core/overview.CHARTED`. Raises StoreUnavailable."""
        self._until = time.monotonic() + limits.HISTORY_LOOK_S
        if self._database is None:
            self._database = self._open()
        try:
            with self._database.refusals:
                return _look(self._database, now_ms, self._queue_clock_ms())
        except StoreUnavailable as error:
            self.close()  # what is wrong may be over with another one
            if time.monotonic() > self._until:
                raise StoreUnavailable(f"that takes over {limits.HISTORY_LOOK_S:g} s") from error
            raise

    def _open(self) -> Database:
        try:
            database = Database(self._directory.file, read_only=True)
        except DataDirectoryError as error:
            raise StoreUnavailable(str(error)) from error
        database.connection.set_progress_handler(lambda: time.monotonic() > self._until, STEPS)
        return database

    def give_up(self) -> None:
        """The look that there is, if any: for another thread."""
        self._until = 0.0

    def close(self) -> None:
        """Let go of the connection."""
        if self._database is not None:
            self._database.close()
            self._database = None


def _look(database: Database, now: int, visible_until: int) -> Mapping[str, float | None]:
    with database.snapshot():
        unfinished, visible, in_flight, since = waiting_now(database, now, visible_until)
        (dead,) = database.execute("SELECT count(*) FROM messages WHERE status = 'dead'").fetchone()
    return {
        "queued": visible,
        "in_flight": in_flight,
        "delayed": unfinished - visible - in_flight,
        "dead": dead,
        "oldest_age_s": 0.0 if since is None else max(0.0, (now - since) / 1000),
    }


def waiting_now(database: Database, now: int, visible_until: int) -> tuple[int, int, int, int | None]:
    """Of messages that have not ended: how many there are, how many of them are visible, and in flight; and when the
    oldest was accepted that is not to be handed out later. To be called in one transaction, of which all this is."""
    unfinished, visible = database.execute(
        """
        SELECT count(*), coalesce(sum(visible_at <= ?), 0)
        FROM messages INDEXED BY messages_queued WHERE status = 'queued'
        """,
        (visible_until,),
    ).fetchone()
    (in_flight,) = database.execute(
        """
        SELECT coalesce(sum(in_flight), 0) FROM messages INDEXED BY messages_queued
        WHERE status = 'queued' AND visible_at > ?
        """,
        (visible_until,),
    ).fetchone()
    (oldest,) = database.execute(
        """
        SELECT min(seq) FROM messages INDEXED BY messages_queued WHERE status = 'queued' AND seq NOT IN (
            SELECT seq FROM messages INDEXED BY messages_due
            WHERE status = 'queued' AND due_at IS NOT NULL AND due_at > ?
        )
        """,
        (now,),
    ).fetchone()
    if oldest is None:
        return unfinished, visible, in_flight, None
    (since,) = database.execute("SELECT accepted_at FROM messages WHERE seq = ?", (oldest,)).fetchone()
    return unfinished, visible, in_flight, since
