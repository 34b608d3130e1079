"""Messages in the form in which they move, as rows of the SQLite file have them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from decoupled.core import dead_letters
from decoupled.core.moving import Carried, Edit
from decoupled.core.upkeep_limits import MOVE_PAGE_BYTES
from decoupled.engines.sqlite import edits
from decoupled.engines.sqlite.database import Database

FIELDS = {  # of `Carried`, and their columns
    "id": "id",
    "workload": "workload",
    "status": "status",
    "accepted_at": "accepted_at",
    "caller": "caller",
    "group": "message_group",
    "digest": "digest",
    "callback": "callback",
    "trace": "trace",
    "body": "body",
    "result": "result",
    "reason": "reason",
    "finished_at": "finished_at",
    "attempts": "attempts",
    "error_type": "error_type",
    "error": "error",
    "first_failed_at": "first_failed_at",
    "last_failed_at": "last_failed_at",
    "traceback": "traceback",
    "due_at": "due_at",
}
COLUMNS = ", ".join(FIELDS.values())


def carried(row: Sequence[Any], before: Sequence[Edit] = (), receive_count: int = 0) -> Carried:
    """A row of `COLUMNS`."""
    return Carried(**dict(zip(FIELDS, row, strict=True)), edits=before, receive_count=receive_count)


def edits_of(database: Database, ids: Sequence[str]) -> dict[str, list[Edit]]:
    """The bodies that these have had before, the oldest first, by their ids."""
    return {
        message_id: [Edit(it.at, it.body, it.by) for it in found]
        for message_id, found in edits.of(database, ids).items()
    }


def put_edits(database: Database, record: Carried) -> None:
    """Those of one, inside a transaction."""
    for it in record.edits:
        edits.put(database, record.id, dead_letters.Edit(it.at, it.by, it.body))


def within(
    rows: Iterable[Sequence[Any]], most: int, most_bytes: int = MOVE_PAGE_BYTES
) -> tuple[list[Sequence[Any]], bool]:
    """The first of these rows, one at least; and whether there are more."""
    found: list[Sequence[Any]] = []
    size = 0
    for row in rows:
        if len(found) == most or size > most_bytes:
            return found, True
        found.append(row)
        size += sum(len(value) for value in row if isinstance(value, str))
    return found, False
