"""What is taken out of the file again: rows of messages that have ended, and bodies that they have kept. Nothing else
deletes rows of `messages`, so that all of them are counted: see the ledger in `schema.py`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from decoupled.core.retention import Found
from decoupled.core.status import ENDED
from decoupled.core.upkeep_limits import BLOCK_MESSAGES
from decoupled.engines.sqlite import edits, tallies
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.ends import told_anew

_ENDED = ", ".join(f"'{status}'" for status in ENDED)


def remove(database: Database, found: Sequence[Found]) -> Counter[str]:
    """Rows with their records, bodies and dead letters; how many, by status. Inside a transaction, or as one. Never
    what is unfinished, and never the newest row, from whose number the next one's comes."""
    with database.transaction():
        rows = database.execute(
            f"""
            SELECT seq, messages.id, status, workload, caller, ended
            FROM json_each(?) AS found CROSS JOIN messages ON seq = json_extract(found.value, '$[0]')
            WHERE finished_at = json_extract(found.value, '$[1]')
                AND status IN ({_ENDED}) AND seq < (SELECT max(seq) FROM messages)
            """,  # noqa: S608  the statuses are constants
            (json.dumps(found),),
        ).fetchall()
        numbers = json.dumps([row[0] for row in rows])
        database.execute("DELETE FROM messages WHERE seq IN (SELECT value FROM json_each(?))", (numbers,))
        edits.forget(database, [row[1] for row in rows])
        _count(database, Counter((row[0] // BLOCK_MESSAGES, row[2]) for row in rows))
        told_anew(database, Counter((workload, caller, ended) for *_, workload, caller, ended in rows if ended))
    return Counter(row[2] for row in rows)


def _count(database: Database, gone: Counter[tuple[int, str]]) -> None:
    """Into the ledger: by block, and by what they had come to."""
    for block in sorted({block for block, _ in gone}):
        database.execute(
            """
            INSERT INTO removed (block, processed, rejected, dead) VALUES (?, ?, ?, ?)
            ON CONFLICT (block) DO UPDATE SET processed = processed + excluded.processed,
                rejected = rejected + excluded.rejected, dead = dead + excluded.dead
            """,
            (block, gone[block, "processed"], gone[block, "rejected"], gone[block, "dead"]),
        )
    if rejected := sum(n for (_, status), n in gone.items() if status == "rejected"):
        tallies.add_rejected(database, -rejected)


def take_back(database: Database, ids: Sequence[str]) -> int:
    """Rows of messages that are put here by a move, and go on where they came from: they were never given out here, and
    leave no trace. How many. Their numbers have to be closed up: see `close_up`."""
    with database.transaction():
        edits.forget(database, ids)
        return database.execute(
            "DELETE FROM messages WHERE id IN (SELECT value FROM json_each(?)) AND status IN ('queued', 'dead')",
            (json.dumps(ids),),
        ).rowcount


def close_up(database: Database, at_once: int = 1_000) -> None:
    """Let the numbers of what was taken back be none: each row behind them has a lower one, in the same order."""
    if database.execute("SELECT coalesce(max(seq), 0) = count(*) FROM messages").fetchone()[0]:
        return  # as it is where what was taken back came last
    number = 0
    while rows := database.execute(
        "SELECT seq FROM messages WHERE seq > ? ORDER BY seq LIMIT ?", (number, at_once)
    ).fetchall():
        with database.transaction():
            for number, (seq,) in enumerate(rows, number + 1):  # noqa: B020  it goes on from the last one
                if seq != number:
                    database.execute("UPDATE messages SET seq = ? WHERE seq = ?", (number, seq))


def remove_bodies(database: Database, found: Sequence[Found]) -> int:
    """The bodies that final messages have kept, with those that they had before; how many."""
    with database.transaction():
        rows = database.execute(
            """
            UPDATE messages SET body = NULL
            WHERE seq IN (SELECT value FROM json_each(?)) AND finished_at <= ?
                AND status IN ('processed', 'rejected') AND body IS NOT NULL
            RETURNING id
            """,
            (json.dumps([it.seq for it in found]), max((it.finished_at for it in found), default=0)),
        ).fetchall()
        edits.forget(database, [row[0] for row in rows])
    return len(rows)


def looked_before(database: Database, now_ms: int) -> int:
    """When somebody last looked for what is due, and that it is now, which is remembered; now, where nobody has."""
    with database.transaction():
        row = database.execute("SELECT value FROM marks WHERE name = 'retention'").fetchone()
        database.execute("INSERT OR REPLACE INTO marks VALUES ('retention', ?)", (json.dumps({"looked_at": now_ms}),))
    return now_ms if row is None else int(json.loads(row[0])["looked_at"])
