"""Dead letters on SQLite: the rows of dead messages. For the server, in its transactions; and for tools, as `tool.py`
lets them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from decoupled.core import callbacks, limits
from decoupled.core.dead_letters import PURGED, DeadLetter, Groups, Outcome, Some, Wanted
from decoupled.core.outcomes import Reject
from decoupled.core.times import now_ms
from decoupled.core.workload import Message
from decoupled.engines.sqlite import dead_looks, edits, tallies
from decoupled.engines.sqlite.database import Database, may
from decoupled.engines.sqlite.dead_looks import COLUMNS, letter_of
from decoupled.engines.sqlite.departure import refuse_changes
from decoupled.engines.sqlite.ends import SqliteEnds
from decoupled.engines.sqlite.inserts import insert


class SqliteDeadLetters:
    """Implements DeadLetters."""

    def __init__(
        self, database: Database, clock_ms: Callable[[], int] = now_ms, queue_clock_ms: Callable[[], int] = now_ms
    ) -> None:
        """The first clock tells timestamps, the second is the one that messages wait by."""
        self.database = database
        self.clock_ms = clock_ms
        self.queue_clock_ms = queue_clock_ms

    def find(self, wanted: Wanted, bodies: bool = False) -> Iterator[DeadLetter]:
        """Page by page, so that a million need no memory and keep no transaction open."""
        columns = COLUMNS + (", body" if bodies else "")
        last = (wanted.dead_after or 0, -1)
        (newest,) = self.database.execute("SELECT max(finished_at) FROM messages WHERE status = 'dead'").fetchone()
        now = max(self.clock_ms(), newest or 0)  # also what died before the clock was set back
        until = now if wanted.dead_before is None else min(wanted.dead_before, now)
        while page := self._page(columns, (*last, until)):
            letters = [letter for row in page if (letter := letter_of(row)) in wanted]
            yield from edits.with_edits(self.database, letters) if bodies else letters
            seq, *_, last_at = page[-1][:6]
            last = (last_at, seq)

    def _page(self, columns: str, bounds: tuple[int, int, int]) -> list[Sequence[Any]]:
        with self.database.refusals:
            return self.database.execute(
                f"""
                SELECT {columns} FROM messages
                WHERE status = 'dead' AND (finished_at, seq) > (?, ?) AND finished_at <= ?
                ORDER BY finished_at, seq LIMIT ?
                """,  # noqa: S608  the columns are constants
                (*bounds, limits.TOOL_BATCH),
            ).fetchall()

    def some(self, wanted: Wanted, after: str | None, most: int) -> Some:
        return dead_looks.some(self.database, wanted, after, most)

    def groups(self, wanted: Wanted) -> Groups:
        return dead_looks.groups(self.database, wanted)

    def get(self, message_id: str) -> DeadLetter | None:
        with self.database.refusals:
            row = self.database.execute(
                f"SELECT {COLUMNS}, body FROM messages WHERE id = ? AND status = 'dead'",  # noqa: S608  the columns are constants
                (message_id,),
            ).fetchone()
        return None if row is None else edits.with_edits(self.database, [letter_of(row)])[0]

    def redrive(self, letters: Sequence[DeadLetter]) -> list[Outcome]:
        """A running server finds them at its next look."""
        now = self.queue_clock_ms()
        with self.database.transaction():
            refuse_changes(self.database)
            return [self._redrive_one(letter, now) for letter in letters]

    def _redrive_one(self, letter: DeadLetter, now: int) -> Outcome:
        changed = self.database.execute(
            f"""
            UPDATE messages SET status = 'queued', visible_at = ?, due_at = NULL, receive_count = 0, in_flight = 0,
                attempts = 0, mark = 0, finished_at = NULL, error_type = NULL, error = NULL,
                first_failed_at = NULL, last_failed_at = NULL, traceback = NULL, ended = NULL, ordered = ?
            WHERE id = ? AND {may("redrive")}
            """,  # noqa: S608  the condition is a constant
            (now, letter.workload in self.database.ordered, letter.id),
        ).rowcount
        return Outcome("redriven") if changed else self._not_dead(letter.id)

    def restore(self, letters: Sequence[DeadLetter]) -> list[Outcome]:
        ids = [letter.id for letter in letters]
        with self.database.transaction():
            refuse_changes(self.database)
            purged = tallies.rejected_of(self.database, ids)
            outcomes = self._marked(letters, [self._restore_one(letter) for letter in letters])
            edits.keep(self.database, [it for it, outcome in zip(letters, outcomes, strict=True) if outcome.done])
            tallies.add_rejected(self.database, tallies.rejected_of(self.database, ids) - purged)
            return outcomes

    def _restore_one(self, letter: DeadLetter) -> Outcome:
        story: dict[str, Any] = {
            "workload": letter.workload,
            "caller": letter.caller,
            "message_group": letter.group,
            "callback": letter.callback,
            "trace": letter.trace,
            "accepted_at": letter.accepted_at,
            "finished_at": letter.dead_at,
            "attempts": letter.attempts,
            "error_type": letter.error_type,
            "error": letter.error,
            "first_failed_at": letter.first_failed_at,
            "last_failed_at": letter.last_failed_at,
            "traceback": letter.traceback,
            "body": letter.body,
        }
        names = ", ".join(story)
        changed = self.database.execute(
            f"""
            INSERT INTO messages (status, id, digest, {names}) VALUES ('dead', ?, ?, {", ".join("?" * len(story))})
            ON CONFLICT (id) DO UPDATE SET status = 'dead', reason = NULL, receive_count = 0, mark = 0,
                {", ".join(f"{name} = excluded.{name}" for name in story)}
            WHERE {may("restore")} AND reason = ?
            """,  # noqa: S608  the columns are constants
            (letter.id, letter.digest, *story.values(), PURGED),
        ).rowcount
        return Outcome("imported") if changed else self._not_dead(letter.id)

    def edit(self, letters: Sequence[DeadLetter]) -> list[Outcome]:
        now = self.clock_ms()
        with self.database.transaction():
            refuse_changes(self.database)
            return [edits.edit(self.database, letter, now) or self._not_dead(letter.id) for letter in letters]

    def purge(self, letters: Sequence[DeadLetter]) -> list[Outcome]:
        now = self.clock_ms()
        with self.database.transaction():
            refuse_changes(self.database)
            outcomes = self._marked(letters, [self._purge_one(letter, now) for letter in letters])
            tallies.add_rejected(self.database, sum(outcome.done is not None for outcome in outcomes))
            return outcomes

    def _marked(self, letters: Sequence[DeadLetter], outcomes: list[Outcome]) -> list[Outcome]:
        """Who follows these ends finds the change of them."""
        SqliteEnds(self.database).mark([letter.id for letter in letters])
        return outcomes

    def _purge_one(self, letter: DeadLetter, now: int) -> Outcome:
        rows = self.database.execute(
            f"""
            UPDATE messages SET status = 'rejected', reason = ?, finished_at = ?, body = NULL
            WHERE id = ? AND {may("purge")} RETURNING id, workload, caller, accepted_at, callback, trace
            """,  # noqa: S608  the condition is a constant
            (PURGED, now, letter.id),
        ).fetchall()
        if not rows:
            return self._not_dead(letter.id)
        edits.forget(self.database, [letter.id])
        ((message_id, workload, caller, accepted_at, callback, trace),) = rows
        if callback:
            purged = Message(message_id, workload, "", caller, accepted_at, callback=callback, trace=trace)
            told = callbacks.callback(purged, Reject(PURGED), now, purged=True)
            insert(self.database, [told], self.queue_clock_ms(), now)
        return Outcome("purged")

    def _not_dead(self, message_id: str) -> Outcome:
        row = self.database.execute("SELECT status FROM messages WHERE id = ?", (message_id,)).fetchone()
        return Outcome(None, f"it is {row[0]}" if row else "there is no such message")

    def notes(self) -> list[str]:
        """Nothing: every row was seen."""
        return []

    def close(self) -> None:
        """Close the connection."""
        self.database.close()
