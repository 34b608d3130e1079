"""What an audit of effects reads of a SQLite file: final messages that have kept their bodies, how late one ended that
has not, and which ids there are. Only reads, some thousand numbers of messages in one moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from decoupled.core.audit import Kept, Past
from decoupled.core.forgetting import NOTHING
from decoupled.core.outcomes import Record
from decoupled.core.upkeep_limits import KEPT_AT_ONCE, SWEEP_MESSAGES
from decoupled.core.workload import Message
from decoupled.engines.sqlite.audit_blocks import REMOVED, newest
from decoupled.engines.sqlite.database import Database

_KEPT = """
SELECT seq, id, workload, status, accepted_at, caller, body, result, reason, finished_at, message_group, callback
FROM messages NOT INDEXED
WHERE seq BETWEEN ? AND ? AND body IS NOT NULL AND status IN ('processed', 'rejected') ORDER BY seq
LIMIT ?
"""
_WITHOUT = f"""
SELECT max(finished_at), count(*), count(CASE WHEN caller = '' AND result IS '{NOTHING}' THEN 1 END)
FROM messages NOT INDEXED WHERE seq BETWEEN ? AND ? AND body IS NULL AND status = 'processed'
"""  # noqa: S608  what is added is constant


def kept(database: Database, past: Past) -> Iterator[Kept]:
    """Those that are there now, in the order of their numbers. What is known of all the others goes to `past`. Raises
    StoreUnavailable."""
    upto = newest(database)
    for first in range(1, upto + 1, SWEEP_MESSAGES):
        last = min(upto, first + SWEEP_MESSAGES - 1)
        past.done, past.of = first, upto
        with database.refusals:
            (latest, count, forgotten) = database.execute(_WITHOUT, (first, last)).fetchone()
        past.without += count
        past.forgotten += forgotten
        past.known_from = max(past.known_from, latest or 0)
        for row in _rows(database, first, last):
            yield _kept(*row)
    past.removed = removed(database)


def _rows(database: Database, first: int, last: int) -> Iterator[Sequence[Any]]:
    """Those of these numbers, some at a time."""
    while True:
        with database.refusals:
            rows = database.execute(_KEPT, (first, last, KEPT_AT_ONCE)).fetchall()
        yield from rows
        if len(rows) < KEPT_AT_ONCE:
            return
        first = rows[-1][0] + 1


def _kept(
    seq: int,
    message_id: str,
    workload: str,
    status: str,
    accepted_at: int,
    caller: str,
    body: str,
    result: str | None,
    reason: str | None,
    finished_at: int,
    group: str,
    callback: str,
) -> Kept:
    record = msgspec.convert(
        {
            "id": message_id,
            "workload": workload,
            "status": status,
            "accepted_at": accepted_at,
            "result": result,
            "reason": reason,
            "finished_at": finished_at,
        },
        Record,
    )
    return Kept(seq, record, Message(message_id, workload, body, caller, accepted_at, group, callback=callback))


def removed(database: Database) -> int:
    """How many messages there were that are there no more. Raises StoreUnavailable."""
    with database.refusals:
        total = " + ".join(f"sum({name})" for name in REMOVED)
        found = database.execute(f"SELECT {total} FROM removed").fetchone()[0]  # noqa: S608  the names are constants
    return found or 0


def missing(database: Database, ids: Sequence[str]) -> list[str]:
    """Those of them that nobody knows. Raises StoreUnavailable."""
    with database.refusals:
        rows = database.execute(
            "SELECT value FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM messages WHERE id = value)",
            (msgspec.json.encode(ids).decode(),),
        ).fetchall()
    return [message_id for (message_id,) in rows]
