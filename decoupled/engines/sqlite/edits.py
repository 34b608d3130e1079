"""Dead letters whose bodies somebody has changed: what they had before, and who changed them when. They stay until the
message's record is removed, or its body is. The table's `body` is JSON: `{"by": "who", "body": "the body before"}`."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from decoupled.core.dead_letters import DeadLetter, Edit, Outcome, too_many, unfit
from decoupled.engines.sqlite.database import Database, may
from decoupled.engines.sqlite.driver import sqlite3


class _Before(msgspec.Struct):
    by: str
    body: str


_before = msgspec.json.Decoder(_Before)


def of(database: Database, message_ids: Sequence[str]) -> defaultdict[str, list[Edit]]:
    """Those of each of the messages, oldest first."""
    found = defaultdict[str, list[Edit]](list)
    with database.refusals:
        rows = database.execute(
            "SELECT id, at, body FROM edits WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id, at",
            (json.dumps(list(message_ids)),),
        ).fetchall()
    for message_id, at, text in rows:
        before = _before.decode(text)
        found[message_id].append(Edit(at, before.by, before.body))
    return found


def with_edits(database: Database, letters: Sequence[DeadLetter]) -> Sequence[DeadLetter]:
    """The same letters, each with those of it."""
    found = of(database, [letter.id for letter in letters])
    return [msgspec.structs.replace(it, edits=tuple(found[it.id])) if it.id in found else it for it in letters]


def edit(database: Database, letter: DeadLetter, now_ms: int) -> Outcome | None:
    """Change one, inside a transaction: see DeadLetters. None: there is no such dead letter."""
    if (why_not := unfit(letter)) is not None:
        return Outcome(None, why_not)
    made, before = letter.edits[-1], of(database, [letter.id])[letter.id]
    row = database.execute(
        f"SELECT body, finished_at FROM messages WHERE id = ? AND {may('redrive')}",  # noqa: S608  the condition is a constant
        (letter.id,),
    ).fetchone()
    if row is None:
        return None
    if row[0] != made.body:
        return Outcome(None, "it changed at this moment")
    if (why_not := too_many(before)) is not None:
        return Outcome(None, why_not)
    database.execute(
        "UPDATE messages SET body = ?, message_group = ? WHERE id = ?", (letter.body, letter.group, letter.id)
    )
    at = max(now_ms, row[1], *[it.at + 1 for it in before])  # in their order, also if the clock was set back
    put(database, letter.id, Edit(at, made.by, made.body))
    return Outcome("edited")


def keep(database: Database, letters: Sequence[DeadLetter]) -> None:
    """Those that imported letters had elsewhere, inside a transaction."""
    for letter in letters:
        for made in letter.edits:
            put(database, letter.id, made)


def put(database: Database, message_id: str, made: Edit) -> None:
    """One of them, inside a transaction."""
    text = msgspec.json.encode(_Before(made.by, made.body)).decode()
    database.execute("INSERT OR IGNORE INTO edits (id, at, body) VALUES (?, ?, ?)", (message_id, made.at, text))


def since_death(database: Database, message_id: str) -> bool:
    """Whether a message that is dead was changed since it died."""
    found: int = database.execute(
        "SELECT EXISTS (SELECT 1 FROM edits JOIN messages USING (id) WHERE id = ? AND at >= finished_at)", (message_id,)
    ).fetchone()[0]
    return bool(found)


def forget(database: Database, message_ids: Sequence[str]) -> None:
    """The bodies that these had before, inside a transaction."""
    ids = json.dumps(list(message_ids))
    database.execute("DELETE FROM edits WHERE id IN (SELECT value FROM json_each(?))", (ids,))


def copy(damaged: sqlite3.Connection, whole: Database) -> None:
    """What can be read of them, of messages that are there."""
    rows = list[tuple[str, int, str]]()
    with contextlib.suppress(sqlite3.DatabaseError):  # damage; or an earlier version, which has none
        for row in damaged.execute("SELECT id, at, body FROM edits"):
            rows.append(row)
    with whole.transaction():
        whole.executemany("INSERT OR IGNORE INTO edits (id, at, body) VALUES (?, ?, ?)", rows)
        whole.execute("DELETE FROM edits WHERE id NOT IN (SELECT id FROM messages)")
