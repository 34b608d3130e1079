"""How many messages there are, and how many of them are rejected: known without counting them, which takes a minute
where there are many. Each new row has the next number, so that the newest one tells how many there were. What changes
these numbers does so in the same transaction; so no crash leaves them wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence

from decoupled.core.outcomes import NotStored, Stored
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.schema import LOST


def messages(database: Database) -> int:
    """How many there are. Raises StoreUnavailable."""
    with database.refusals:
        row = database.execute(
            """
            SELECT (SELECT coalesce(max(seq), 0) FROM messages)
                - (SELECT coalesce(sum(processed + rejected + dead + lost), 0) FROM removed)
            """
        ).fetchone()
    number: int = row[0]
    return number


def rejected(database: Database) -> int:
    """How many of them are. Raises StoreUnavailable."""
    with database.refusals:
        row = database.execute("SELECT n FROM tallies WHERE name = 'rejected'").fetchone()
    number: int = row[0]
    return number


def add_rejected(database: Database, by: int) -> None:
    """So many more are, or fewer, after what this transaction has changed."""
    if by:
        database.execute("UPDATE tallies SET n = n + ? WHERE name = 'rejected'", (by,))


def add_of(database: Database, stored: Sequence[Stored | NotStored]) -> None:
    """Those of these that were rejected just now."""
    add_rejected(database, sum(it.status == "rejected" and not it.duplicate for it in stored if type(it) is Stored))


def rejected_of(database: Database, message_ids: Sequence[str]) -> int:
    """How many of these are."""
    row = database.execute(
        "SELECT count(*) FROM messages WHERE id IN (SELECT value FROM json_each(?)) AND status = 'rejected'",
        (json.dumps(message_ids),),
    ).fetchone()
    number: int = row[0]
    return number


def count_anew(database: Database) -> None:
    """In a file that was recovered: what could not be read is lost, and the rest is counted."""
    with database.transaction():
        database.execute(LOST)
        database.execute(
            "UPDATE tallies SET n = (SELECT count(*) FROM messages WHERE status = 'rejected') WHERE name = 'rejected'"
        )
