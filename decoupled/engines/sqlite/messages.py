"""The queue on SQLite, with SQS's semantics: visibility timeouts, receive counts, receipts that lapse, delays. A
message and its record are one row (see `schema.SCHEMA`): storing the record takes the message off the queue. How rows
come about stands in `inserts.py`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from decoupled.core import limits
from decoupled.core.outcomes import REUSED, Delivery, NotSent
from decoupled.core.times import now_ms
from decoupled.core.workload import Message
from decoupled.engines.protocols import Refuse, Share, StoreDamaged, StoreUnavailable, unheard, whole
from decoupled.engines.sqlite import ordered
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.groups import Chosen, Rounds
from decoupled.engines.sqlite.inserts import insert, insert_claimed

# A loose index scan: one step for each workload, however many messages wait. What is added to it is constant.
_NAMES = """
WITH RECURSIVE names (name) AS (
    SELECT min(workload) FROM messages WHERE status = 'queued'
    UNION ALL
    SELECT (SELECT min(workload) FROM messages WHERE status = 'queued' AND workload > name)
    FROM names WHERE name IS NOT NULL
)
"""


def queued(database: Database, limit: int) -> dict[str, int]:
    """How many messages of each workload are not finished, counted no further than `limit`."""
    with database.refusals:
        rows = database.execute(
            _NAMES  # noqa: S608  what is added is constant
            + """
            SELECT name, (
                SELECT count(*) FROM (SELECT 1 FROM messages WHERE status = 'queued' AND workload = name LIMIT ?)
            ) FROM names WHERE name IS NOT NULL
            """,
            (limit,),
        )
        return dict(rows.fetchall())


class SqliteQueue:
    """Implements Producer, Consumer and Feed. Inside a transaction of the database, changes are part of that one.

    `clock_ms` is what delays are told by: in a server a QueueClock, which nobody can set. `time_ms` is the time of day,
    by which messages are due later; the same clock if there is but one."""

    def __init__(
        self,
        database: Database,
        clock_ms: Callable[[], int] = now_ms,
        time_ms: Callable[[], int] | None = None,
    ) -> None:
        self.database = database
        self.clock_ms = clock_ms
        self.time_ms = time_ms or clock_ms
        self._rounds = Rounds(database)

    def send(self, messages: Sequence[Message]) -> list[NotSent | None]:
        """All or none, as one transaction, but for those whose key was another entry's. Inside an outer one, that one
        fails: StoreUnavailable is raised."""
        nested = self.database.in_transaction
        try:
            with self.database.transaction():
                unlike = insert(self.database, messages, self.clock_ms(), self.time_ms())
        except StoreUnavailable as error:
            if nested:
                raise
            return [NotSent(str(error), unknown=error.unknown)] * len(messages)
        if not unlike:
            return [None] * len(messages)
        return [REUSED if any(message is it for it in unlike) else None for message in messages]

    def send_claimed(
        self,
        messages: Sequence[Message],
        visibility_timeout_s: float,
        refuse: Refuse = unheard,
    ) -> list[Delivery]:
        """What `send` and `claim` would do, in one statement. Of an ordered workload, a message that follows another of
        its group is only sent; so is one that is due later."""
        now = self.clock_ms()
        visible_at = now + int(visibility_timeout_s * 1000)
        with self.database.transaction():
            if self.database.ordered or any(m.due_at is not None for m in messages):
                fresh, unlike = self._send_some(messages, now, visible_at)
            else:
                fresh, unlike = insert_claimed(self.database, messages, visible_at)
        for m in unlike:
            refuse(m, REUSED)
        return [Delivery(m, _receipt(m.id, 1), 1) for m in fresh]

    def _send_some(
        self, messages: Sequence[Message], now: int, visible_at: int
    ) -> tuple[Sequence[Message], Sequence[Message]]:
        """One after the other, those that are not claimed among them."""
        fresh: list[Message] = []
        unlike: list[Message] = []
        for m in messages:
            if m.due_at is not None or (m.workload in self.database.ordered and ordered.follows(self.database, m)):
                unlike += insert(self.database, [m], now, self.time_ms())
            else:
                new, others = insert_claimed(self.database, [m], visible_at)
                fresh += new
                unlike += others
        return fresh, unlike

    def ready(self) -> list[str]:
        """The workloads that have a visible message, the longest-waiting first. Where there are groups, only a claim
        looks through them: one of them may have waited since for ever."""
        now = self.clock_ms()
        with self.database.refusals:
            rows = self.database.execute(
                _NAMES  # noqa: S608  what is added is constant
                + """
                SELECT name, CASE WHEN EXISTS (
                    SELECT 1 FROM messages WHERE status = 'queued' AND workload = name AND message_group > ''
                ) THEN 0 ELSE (
                    SELECT min(visible_at) FROM messages
                    WHERE status = 'queued' AND workload = name AND message_group = ''
                ) END AS since FROM names WHERE name IS NOT NULL AND since <= ? ORDER BY since
                """,
                (now,),
            )
            return [name for name, _ in rows]

    def queued(self, limit: int) -> dict[str, int]:
        return queued(self.database, limit)

    def claim(self, workload: str, maximum: int, visibility_timeout_s: float, share: Share = whole) -> list[Delivery]:
        """Inside a transaction, or as one: claims never overlap."""
        now = self.clock_ms()
        with self.database.transaction():
            return self._hand_out(self._rounds.next(workload, maximum, now, share), workload, now, visibility_timeout_s)

    def _hand_out(
        self, which: Sequence[Chosen], workload: str, now: int, visibility_timeout_s: float
    ) -> list[Delivery]:
        if not which:
            return []
        since = dict(which)
        with self.database.refusals:
            rows = self.database.execute(
                """
                UPDATE messages SET visible_at = ?, receive_count = receive_count + 1, in_flight = 1
                WHERE seq IN (SELECT value FROM json_each(?))
                RETURNING seq, receive_count, id, body, caller, accepted_at, message_group, callback, trace
                """,
                (now + int(visibility_timeout_s * 1000), json.dumps(list(since))),
            ).fetchall()
        return [
            Delivery(
                Message(message_id, workload, body, caller, accepted_at, group, callback=callback, trace=trace),
                _receipt(message_id, count),
                count,
                now - since[seq],
            )
            for seq, count, message_id, body, caller, accepted_at, group, callback, trace in rows
        ]

    def set_aside_damaged(self) -> int:
        """Hands each of them out by itself, and takes that back: so it shows which of them cannot be."""
        before = len(self.database.damage.set_aside)
        for chosen in self._rounds.chosen:
            self.database.begin()
            try:
                self._hand_out([chosen], "", 0, 0)
            except StoreDamaged:
                self.database.damage.set_aside_message(chosen[0])
            finally:
                self.database.roll_back()
        return len(self.database.damage.set_aside) - before

    def retry_later(self, delays: Sequence[tuple[Delivery, float]]) -> None:
        """Visible again after so many seconds, and no longer in flight."""
        now = self.clock_ms()
        with self.database.transaction():
            self.database.executemany(
                """
                UPDATE messages SET visible_at = ?, due_at = NULL, in_flight = 0
                WHERE id = ? AND receive_count = ? AND status = 'queued'
                """,
                [
                    (now + int(min(delay_s, limits.MAX_VISIBILITY_TIMEOUT_S) * 1000), *_row(delivery.receipt))
                    for delivery, delay_s in delays
                ],
            )

    def defer(self, due: Sequence[tuple[Delivery, int]], now_ms: int) -> list[Delivery]:
        """Visible again when due, and no longer in flight. All are given back: each stays the message that it is."""
        now = self.clock_ms()
        with self.database.transaction():
            self.database.executemany(
                """
                UPDATE messages SET visible_at = ?, due_at = ?, in_flight = 0
                WHERE id = ? AND receive_count = ? AND status = 'queued'
                """,
                [(now + max(0, due_at - now_ms), due_at, *_row(delivery.receipt)) for delivery, due_at in due],
            )
        return [delivery for delivery, _ in due]

    def release_in_flight(self) -> int:
        """Make visible what the process that died had in flight; its receipts can no longer come back. Not what waits
        out a backoff, unless that is longer than any: then the clock was set back since. The receive count stands: it
        is all that tells of a message that kills its server.

        What is due later waits until then by the time of day, which may have been set since, and is what its sender
        meant."""
        now = self.clock_ms()
        latest = now + limits.MAX_VISIBILITY_TIMEOUT_S * 1000
        with self.database.transaction():
            released = self.database.execute(
                """
                UPDATE messages SET visible_at = ?, due_at = NULL, in_flight = 0
                WHERE status = 'queued' AND in_flight = 1
                """,
                (now,),
            ).rowcount
            self.database.execute(
                """
                UPDATE messages SET visible_at = CASE receive_count WHEN 0 THEN :now ELSE :latest END
                WHERE status = 'queued' AND due_at IS NULL AND visible_at > :now
                    AND (receive_count = 0 OR visible_at > :latest)
                """,
                {"now": now, "latest": latest},
            )
            self.database.execute(
                """
                UPDATE messages SET visible_at = :now + max(0, min(due_at - :time, :longest))
                WHERE status = 'queued' AND due_at IS NOT NULL AND (due_at > :time OR visible_at > :now)
                    AND abs(visible_at - :now - max(0, due_at - :time)) > :little
                """,
                {
                    "now": now,
                    "time": self.time_ms(),
                    "longest": limits.MAX_LATER_S * 1000,
                    "little": limits.CLOCK_GRADUAL_MS,  # for which a million rows need not be written
                },
            )
        return released


def _receipt(message_id: str, receive_count: int) -> str:
    return f"{receive_count}.{message_id}"


def _row(receipt: str) -> tuple[str, int]:
    count, _, message_id = receipt.partition(".")
    return message_id, int(count)
