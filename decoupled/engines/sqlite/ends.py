"""In which order messages end, of callers who follow that. Ends are numbered as they are stored, and not by a clock,
which may be set back: what is committed later has a higher number. Those of callers whom nobody follows have none, and
cost nothing.

    messages.ended   the number of the transaction's mark, plus the code of what it ended as
    ends.last        the last number that was given
    followed         callers, by workload: since which number, and when somebody last came for their ends

A message that is redriven loses its number, and gets another one when it ends again.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence

from decoupled.core import limits
from decoupled.core.outcomes import Record
from decoupled.core.status import ENDED
from decoupled.engines.protocols import Ended, Position
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.table import COLUMNS

STEP = 4  # between two numbers: there is a code for what a message ended as
_CODE = f"CASE status {' '.join(f'WHEN {status!r} THEN {code}' for code, status in enumerate(ENDED))} END"
_GAP = 1_000_000 * STEP  # in a file that was recovered: numbers that may have been lost

Followed = tuple[str, str]


def told_anew(database: Database, gone: Mapping[tuple[str, str, int], int]) -> None:
    """Ends whose rows are gone, by workload, caller and number, and how many of each: who follows them and has not come
    so far begins anew. An end that was alone under its number may be the last one that its follower has seen."""
    for (workload, caller, ended), count in gone.items():
        database.execute(
            """
            UPDATE followed SET since = max(since, :ended + (:several OR EXISTS (
                SELECT 1 FROM messages WHERE workload = :workload AND caller = :caller AND ended = :ended
            ))) WHERE workload = :workload AND caller = :caller
            """,
            {"workload": workload, "caller": caller, "ended": ended, "several": count > 1},
        )


class SqliteEnds:
    """Implements Ends."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.followed: set[Followed] = set()

    @classmethod
    def adopted(cls, database: Database) -> SqliteEnds:
        """Of the process that writes, which knows who is followed. Raises StoreUnavailable."""
        ends = cls(database)
        with database.refusals:
            ends.followed = set(database.execute("SELECT workload, caller FROM followed").fetchall())
        return ends

    def follow(self, workload: str, caller: str, busy: Container[object] = ()) -> Followed | None:
        with self.database.transaction():
            last = self._next()
            self.database.execute(
                """
                INSERT INTO followed (workload, caller, since, seen) VALUES (?, ?, ?, ?)
                ON CONFLICT DO UPDATE SET seen = excluded.seen
                """,
                (workload, caller, last, last),
            )
            (count,) = self.database.execute("SELECT count(*) FROM followed").fetchone()
            return self._give_up_one(busy) if count > limits.MAX_FOLLOWED else None

    def _give_up_one(self, busy: Container[object]) -> Followed | None:
        """Whoever has not come for longest, of those that are not busy."""
        for found in self.database.execute("SELECT workload, caller FROM followed ORDER BY seen"):
            if tuple(found) not in busy:
                self.database.execute("DELETE FROM followed WHERE workload = ? AND caller = ?", found)
                return found[0], found[1]
        return None

    def mark(self, message_ids: Sequence[str]) -> None:
        self.database.execute(
            f"""
            UPDATE messages SET ended = ? + {_CODE}
            WHERE id IN (SELECT value FROM json_each(?)) AND status <> 'queued'
                AND (ended IS NULL OR ended % {STEP} <> {_CODE})
                AND EXISTS (SELECT 1 FROM followed WHERE (workload, caller) = (messages.workload, messages.caller))
            """,  # noqa: S608  what is added is constant
            (self._next(), json.dumps(message_ids)),
        )

    def _next(self) -> int:
        self.database.execute(f"UPDATE ends SET last = last + {STEP}")  # noqa: S608  what is added is constant
        last: int = self.database.execute("SELECT last FROM ends").fetchone()[0]
        return last

    def span(self, workload: str, caller: str) -> tuple[Position, Position] | None:
        with self.database.refusals:
            row = self.database.execute(
                "SELECT since, last FROM followed, ends WHERE workload = ? AND caller = ?", (workload, caller)
            ).fetchone()
        return None if row is None else ((row[0], 0), (row[1] + STEP - 1, 0))

    def after(self, workload: str, caller: str, position: Position, most: int, most_bytes: int) -> Ended:
        found: list[tuple[Position, Record]] = []
        size = 0
        with self.database.refusals:
            rows = self.database.execute(
                f"""
                SELECT ended, seq, {COLUMNS} FROM messages
                WHERE workload = ? AND caller = ? AND ended IS NOT NULL AND (ended, seq) > (?, ?)
                ORDER BY ended, seq LIMIT ?
                """,  # noqa: S608  the columns are a constant
                (workload, caller, *position, most + 1),
            )
            for ended, seq, *fields in rows:
                if len(found) == most or size >= most_bytes:
                    return found, True
                record = Record(*fields)
                found.append(((ended, seq), record))
                size += len(record.result or record.reason or "")
        return found, False

    def begin_anew(self) -> None:
        """In a file that was recovered: nobody is followed, and no number is given again."""
        with self.database.transaction():
            self.database.execute("DELETE FROM followed")
            self.database.execute(
                f"UPDATE ends SET last = (SELECT coalesce(max(ended), 0) / {STEP} * {STEP} FROM messages) + {_GAP}"  # noqa: S608
            )
