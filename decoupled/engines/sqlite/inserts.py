"""The rows of new messages. One that was accepted before, under the same id, stays as it is; what comes under the id of
another entry is told apart by the digests of the two, which are read only where an id was there already."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from decoupled.core.workload import Message
from decoupled.engines.sqlite import several
from decoupled.engines.sqlite.database import Database


def insert(database: Database, messages: Sequence[Message], now: int, now_ms: int) -> list[Message]:
    """Add messages, inside a transaction. Returns those that came under the id of another entry. `now` is of the clock
    that messages wait by, `now_ms` the time of day, by which they are due."""
    unlike: list[Message] = []
    ordered = database.ordered
    for some in several.parts(messages):
        bare, values = _bare(some), list[Any]()
        for m in some:
            visible_at = now if m.due_at is None else now + max(0, m.due_at - now_ms)
            values += (visible_at, m.due_at, m.id, m.workload, m.accepted_at, m.caller, m.body, m.group)
            values += (m.workload in ordered,) if bare else (m.workload in ordered, m.digest, m.callback, m.trace)
        inserted = database.execute(_INSERT[bare][len(some)], values).rowcount
        if inserted == len(some):
            database.added += [m.workload for m in some]
        else:
            database.added += [m.workload for m in _newest(database, some, inserted)]
            unlike += _unlike(database, some)
    return unlike


def insert_claimed(
    database: Database, messages: Sequence[Message], visible_at: int
) -> tuple[Sequence[Message], Sequence[Message]]:
    """Add messages that are in flight at once, inside a transaction. Returns those that are new, and those that came
    under the id of another entry."""
    fresh: list[Message] = []
    unlike: list[Message] = []
    ordered = database.ordered
    for some in several.parts(messages):
        bare, values = _bare(some), list[Any]()
        for m in some:
            values += (visible_at, m.id, m.workload, m.accepted_at, m.caller, m.body, m.group)
            values += (m.workload in ordered,) if bare else (m.workload in ordered, m.digest, m.callback, m.trace)
        inserted = database.execute(_INSERT_CLAIMED[bare][len(some)], values).rowcount
        if inserted == len(some):
            fresh += some
        else:
            fresh += _newest(database, some, inserted)
            unlike += _unlike(database, some)
    database.added += [m.workload for m in fresh]
    return fresh, unlike


def _bare(messages: Sequence[Message]) -> bool:
    """Whether none of them has what few have: to tell SQLite of each that it has not would cost more than to look."""
    return not any(m.digest or m.callback or m.trace for m in messages)


def _inserting(constant: str, constants: str, columns: str) -> Mapping[bool, Mapping[int, str]]:
    """The statements, by whether the messages are bare, and by how many they are."""
    columns += ", id, workload, accepted_at, caller, body, message_group, ordered"

    def into(columns: str) -> Callable[[int], str]:
        row = f"({constants}, {', '.join('?' * len(columns.split(',')))})"
        return lambda rows: (
            f"INSERT INTO messages ({constant}, {columns}) VALUES {', '.join([row] * rows)}"  # noqa: S608  all of it is constant
            " ON CONFLICT (id) DO NOTHING"
        )

    return {
        bare: several.of_each_size(into(columns if bare else f"{columns}, digest, callback, trace"))
        for bare in (True, False)
    }


_INSERT = _inserting("status", "'queued'", "visible_at, due_at")
_INSERT_CLAIMED = _inserting("status, receive_count, in_flight", "'queued', 1, 1", "visible_at")


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
