"""The rows of new messages. One that was accepted before, under the same id, stays as it is; what comes under the id of
another entry is told apart by the digests of the two, which are read only where an id was there already."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from decoupled.core.workload import Message
from decoupled.engines.sqlite import several
from decoupled.engines.sqlite.database import Database


def insert(database: Database, messages: Sequence[Message], now: int, now_ms: int) -> list[Message]:
    """Add messages, inside a transaction. Returns those that came under the id of another entry. `now` is of the clock
    that messages wait by, `now_ms` the time of day, by which they are due."""
    unlike: list[Message] = []
    for some in several.parts(messages):
        values: list[Any] = []
        for m in some:
            visible_at = now if m.due_at is None else now + max(0, m.due_at - now_ms)
            values += (visible_at, m.due_at, m.id, m.workload, m.accepted_at, m.caller, m.body, m.group)
            values += (m.workload in database.ordered, m.digest, m.callback, m.trace)
        inserted = database.execute(_INSERT[len(some)], values).rowcount
        if inserted == len(some):
            database.added += [m.workload for m in some]
        else:
            database.added += [m.workload for m in _newest(database, some, inserted)]
            unlike += _unlike(database, some)
    return unlike


def _insert(rows: int) -> str:
    values = ", ".join(["('queued', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"] * rows)
    return f"""
    INSERT INTO messages
        (status, visible_at, due_at, id, workload, accepted_at, caller, body, message_group, ordered, digest, callback,
         trace)
    VALUES {values} ON CONFLICT (id) DO NOTHING
    """  # noqa: S608  what is added is constant


_INSERT = several.of_each_size(_insert)


def insert_claimed(
    database: Database, messages: Sequence[Message], visible_at: int
) -> tuple[Sequence[Message], Sequence[Message]]:
    """Add messages that are in flight at once, inside a transaction. Returns those that are new, and those that came
    under the id of another entry."""
    fresh: list[Message] = []
    unlike: list[Message] = []
    for some in several.parts(messages):
        values: list[Any] = []
        for m in some:
            values += (visible_at, m.id, m.workload, m.accepted_at, m.caller, m.body, m.group)
            values += (m.workload in database.ordered, m.digest, m.callback, m.trace)
        inserted = database.execute(_INSERT_CLAIMED[len(some)], values).rowcount
        if inserted == len(some):
            fresh += some
        else:
            fresh += _newest(database, some, inserted)
            unlike += _unlike(database, some)
    database.added += [m.workload for m in fresh]
    return fresh, unlike


def _insert_claimed(rows: int) -> str:
    values = ", ".join(["('queued', ?, 1, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"] * rows)
    return f"""
    INSERT INTO messages
        (status, visible_at, receive_count, in_flight, id, workload, accepted_at, caller, body, message_group, ordered,
         digest, callback, trace)
    VALUES {values} ON CONFLICT (id) DO NOTHING
    """  # noqa: S608  what is added is constant


_INSERT_CLAIMED = several.of_each_size(_insert_claimed)


def _newest(database: Database, messages: Sequence[Message], count: int) -> Iterator[Message]:
    """Those of them that are the last so many rows: each new one has the next number. One of two with the same id is,
    the first."""
    if not count:
        return
    rows = database.execute("SELECT id FROM messages ORDER BY seq DESC LIMIT ?", (count,))
    newest = {message_id for (message_id,) in rows}
    for m in messages:
        if m.id in newest:
            newest.remove(m.id)
            yield m


def _unlike(database: Database, messages: Sequence[Message]) -> list[Message]:
    """Those of them under whose ids other entries were accepted. What has no digest, as it was accepted by an earlier
    version or sent without a key, is compared with nothing."""
    keyed = [m for m in messages if m.digest]
    if not keyed:
        return []
    rows = database.execute(
        "SELECT id, digest FROM messages WHERE id IN (SELECT value FROM json_each(?)) AND digest <> ''",
        (json.dumps([m.id for m in keyed]),),
    )
    accepted = dict(rows.fetchall())
    return [m for m in keyed if accepted.get(m.id, m.digest) != m.digest]
