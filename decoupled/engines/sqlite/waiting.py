"""How many messages of one caller wait: those on the queue, in flight or not. It takes an index of its own, which makes
each message dearer, and is there only while somebody asks. No caller is NULL: to say so in the index keeps it from
statements that ask for no caller, which have better ones."""

from __future__ import annotations

from decoupled.engines.sqlite.database import Database


def adopt(database: Database, counted: bool) -> None:
    """From now on that is asked, or not. Where it was not asked before, all messages are read once. Raises
    StoreUnavailable."""
    with database.transaction():
        if counted:
            database.execute(
                """
                CREATE INDEX IF NOT EXISTS messages_waiting ON messages (caller, status)
                WHERE status = 'queued' AND caller IS NOT NULL
                """
            )
        elif database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'messages_waiting'").fetchone():
            database.execute("DROP INDEX messages_waiting")


def count(database: Database, caller: str, most: int) -> int:
    """How many, and no further than `most`. Raises StoreUnavailable."""
    with database.refusals:
        row = database.execute(
            """
            SELECT count(*) FROM (
                SELECT 1 FROM messages INDEXED BY messages_waiting
                WHERE status = 'queued' AND caller IS NOT NULL AND caller = ? LIMIT ?
            )
            """,
            (caller, most),
        ).fetchone()
    number: int = row[0]
    return number
