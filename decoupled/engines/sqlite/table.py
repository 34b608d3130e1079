"""The table on SQLite: records of messages, and in the same transaction the items that workloads write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import msgspec

from decoupled.core import callbacks
from decoupled.core.outcomes import PROCESSED, Commit, Delivery, Failure, NotStored, Page, Record, Reject, Stored
from decoupled.core.status import ENDED, FINAL, Status
from decoupled.core.times import now_ms
from decoupled.core.workload import Message, Unavailable
from decoupled.engines.sqlite import edits, items, several, tallies
from decoupled.engines.sqlite.database import Database, may
from decoupled.engines.sqlite.inserts import insert

# A column for each field, in the same order. A queued message's body is nobody's business but the queue's.
COLUMNS = ", ".join(Record.__struct_fields__[:-1]) + ", CASE status WHEN 'dead' THEN body END"
_READ = f"SELECT {COLUMNS} FROM messages WHERE id = ?"  # noqa: S608  the columns are a constant

# An open record makes way for a final one, and only an open one changes: see core/status.py.
_FINISH_KEEPING = "UPDATE messages SET status = ?, result = ?, reason = ?, finished_at = ?, in_flight = 0"
_FINISH_ANY = f"{_FINISH_KEEPING}, body = NULL"
# An ordered dead letter stays one until it is redriven, whatever a late delivery of it says: those behind it go on. Of
# the others it is known, so, which were dead.
_FINISHING = {  # those that live, and any; by whether the body is kept
    kept: (f"{finish} WHERE id = ? AND {may('process', living=True)}", f"{finish} WHERE id = ? AND {may('process')}")
    for kept, finish in ((False, _FINISH_ANY), (True, _FINISH_KEEPING))
}


def _process(rows: int, and_set: str = "body = NULL, ") -> str:
    """The same for several that are processed, by their ids: an id and a result of each, and the ids once more."""
    return f"""
    UPDATE messages SET status = 'processed', result = CASE id {"WHEN ? THEN ? " * rows} END, reason = NULL,
        finished_at = ?, {and_set}in_flight = 0
    WHERE id IN ({", ".join("?" * rows)}) AND {may("process", living=True)}
    """  # noqa: S608  what is added is constant


_PROCESS = several.of_each_size(_process)
_PROCESS_KEEPING = several.of_each_size(partial(_process, and_set=""))
_BURY = f"""
UPDATE messages SET status = 'dead', finished_at = ?, attempts = ?, error_type = ?, error = ?,
    first_failed_at = ?, last_failed_at = ?, traceback = ?, body = CASE status WHEN 'dead' THEN body ELSE ? END,
    in_flight = 0
WHERE id = ? AND {may("bury")}
"""  # noqa: S608  the condition is a constant
# `mark` tells of the last delivery that was counted: twice its receive count, and one more once that was taken back.
_CHANGE_ATTEMPTS = f"""
UPDATE messages SET
    attempts = max(attempts + ?, 0),
    mark = coalesce(?, mark),
    error_type = coalesce(?, error_type),
    error = coalesce(?, error),
    traceback = coalesce(?, traceback),
    first_failed_at = coalesce(first_failed_at, ?),
    last_failed_at = coalesce(?, last_failed_at)
WHERE id = ? AND {may("process")} AND mark BETWEEN ? AND ?
"""  # noqa: S608  the condition is a constant
_NO_STORY = (None,) * 5
_NO_BODIES: Mapping[Status, frozenset[str]] = dict.fromkeys(FINAL, frozenset[str]())
_ANY = 2**62  # above every mark


class _NotAlike(Exception):  # noqa: N818  no error
    """One of several messages is not like the others."""


class SqliteTable:
    """Implements Table. Inside a transaction of the database, its changes are part of that one.

    `outage` answers why the table is to be taken for unavailable, or None: see `decoupled spike --outage`. `clock_ms`
    is the queue's, by which what is emitted is visible at once. `keeps`: the workloads whose final messages keep their
    bodies, by status."""

    def __init__(
        self,
        database: Database,
        outage: Callable[[], str | None] = lambda: None,
        clock_ms: Callable[[], int] = now_ms,
        keeps: Mapping[Status, frozenset[str]] = _NO_BODIES,
    ) -> None:
        self.database = database
        self.outage = outage
        self.clock_ms = clock_ms
        self.keeps = keeps

    def commit(self, decided: Sequence[tuple[Message, Commit | Reject]], now_ms: int) -> list[Stored | NotStored]:
        """One transaction for all, each message atomic in itself."""
        if (why := self.outage()) is not None:
            return [NotStored(why)] * len(decided)
        with self.database.transaction():
            if len(decided) > 1 and self._process_alike(decided, now_ms):
                return [PROCESSED] * len(decided)
            stored = [self._commit_one(message, decision, now_ms) for message, decision in decided]
            tallies.add_of(self.database, stored)
            return stored

    def _process_alike(self, decided: Sequence[tuple[Message, Commit | Reject]], now_ms: int) -> bool:
        """Whether all of them get a result and nothing else, as most do, and get it now. Where one has ended before, is
        not here or comes twice, nothing is done."""
        ordered, keeping = self.database.ordered, self.keeps["processed"]
        results: list[tuple[str, str]] = []
        with_bodies: list[tuple[str, str]] = []
        for message, decision in decided:
            if type(decision) is not Commit or decision.writes or decision.emits or message.callback:
                return False
            if message.workload in ordered:
                return False
            (with_bodies if message.workload in keeping else results).append((message.id, decision.result))
        try:
            with self.database.savepoint():
                for some in several.parts(results):
                    self._process(_PROCESS, some, now_ms)
                for some in several.parts(with_bodies):
                    self._process(_PROCESS_KEEPING, some, now_ms)
        except _NotAlike:
            return False
        return True

    def _process(self, statements: Mapping[int, str], results: Sequence[tuple[str, str]], now_ms: int) -> None:
        values = [*chain.from_iterable(results), now_ms, *[message_id for message_id, _ in results]]
        if self.database.execute(statements[len(results)], values).rowcount < len(results):
            raise _NotAlike

    def _commit_one(self, message: Message, decision: Commit | Reject, now_ms: int) -> Stored | NotStored:
        changed: list[items.Changed] = []
        if isinstance(decision, Commit) and decision.writes:
            if (before := self._ended(message)) is not None:
                return before
            try:
                reason, changed = items.after(self.database, decision.writes, message.owner)
            except items.TooLarge as error:
                return NotStored(str(error), refused=True)
            if reason is not None:
                decision = Reject(reason)
        stored = self._finish(message, decision, now_ms)
        if stored.duplicate:
            return stored
        if changed:
            items.store(self.database, changed)
        if emits := callbacks.with_callback(message, decision, now_ms):
            # They are sent if and only if the record is stored: one transaction.
            insert(self.database, emits, self.clock_ms(), now_ms)
        return stored

    def _finish(self, message: Message, decision: Commit | Reject, now_ms: int) -> Stored:
        stored = PROCESSED if isinstance(decision, Commit) else Stored("rejected", decision.reason)
        result = decision.result if isinstance(decision, Commit) else None
        values = (stored.status, result, stored.reason, now_ms, message.id)
        finish_living, finish = _FINISHING[message.workload in self.keeps[stored.status]]
        if self.database.execute(finish_living, values).rowcount == 0:
            if (before := self._ended(message)) is not None:
                return before
            late = self._stored(message.id, ("dead",)) is not None
            if late and edits.since_death(self.database, message.id):
                return Stored("dead", duplicate=True)  # of another body, which was found wrong
            self._ensure_row(message)
            self.database.execute(finish, values)
            return msgspec.structs.replace(stored, late=late)
        return stored

    def _ensure_row(self, message: Message) -> None:
        """A row for a message that did not come from this queue. Never visible: it is in flight elsewhere."""
        self.database.execute(
            """
            INSERT INTO messages (status, id, workload, accepted_at, caller, body, message_group, digest, callback,
                trace)
            VALUES ('queued', ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING
            """,
            (
                message.id,
                message.workload,
                message.accepted_at,
                message.caller,
                message.body,
                message.group,
                message.digest,
                message.callback,
                message.trace,
            ),
        )

    def _ended(self, message: Message) -> Stored | None:
        """What a message has come to, if no delivery changes that any more."""
        return self._stored(message.id, ENDED if message.workload in self.database.ordered else FINAL)

    def _stored(self, message_id: str, statuses: Sequence[Status]) -> Stored | None:
        with self.database.refusals:
            row = self.database.execute("SELECT status, reason FROM messages WHERE id = ?", (message_id,)).fetchone()
        return None if row is None or row[0] not in statuses else Stored(row[0], row[1], duplicate=True)

    def item(self, key: str, owner: str | None = None) -> Mapping[str, Any] | None:
        self._refuse_in_outage()
        item, whose = items.read(self.database, key)
        return item if owner is None or (whose and whose == owner) else None

    def page(self, prefix: str, after: str, limit: int) -> Page:
        self._refuse_in_outage()
        return items.page(self.database, prefix, after, limit)

    # --- records --------------------------------------------------------------

    def get(self, message_id: str) -> Record | None:
        """The record, `queued` from the moment the message is accepted."""
        self._refuse_in_outage()
        with self.database.refusals:
            row = self.database.execute(_READ, (message_id,)).fetchone()
        return None if row is None else record_of(row)

    def stored(self, message_id: str) -> Stored | None:
        """What was emitted went out in the transaction of the record: nothing is left to send."""
        self._refuse_in_outage()
        return self._stored(message_id, FINAL)

    def begin_attempt(self, delivery: Delivery) -> Record:
        counted = 2 * delivery.receive_count
        return self._change_attempts(delivery, 1, counted, (0, counted - 1))

    def undo_attempt(self, delivery: Delivery) -> None:
        counted = 2 * delivery.receive_count
        self._change_attempts(delivery, -1, counted + 1, (counted, counted))

    def record_failure(self, delivery: Delivery, failure: Failure, now_ms: int, begun: bool = False) -> Record:
        story = (failure.error_type, failure.error, failure.traceback, now_ms, now_ms)
        if begun:
            return self._change_attempts(delivery, 0, None, (0, _ANY), story)
        counted = 2 * delivery.receive_count
        return self._change_attempts(delivery, 1, counted, (0, counted - 1), story)

    def _change_attempts(
        self, delivery: Delivery, by: int, mark: int | None, marks: tuple[int, int], story: Sequence[Any] = _NO_STORY
    ) -> Record:
        """Where the record's mark is within `marks`."""
        self._refuse_in_outage()
        message = delivery.message
        with self.database.transaction(), self.database.savepoint():
            self._ensure_row(message)
            self.database.execute(_CHANGE_ATTEMPTS, (by, mark, *story, message.id, *marks))
            row = self.database.execute(_READ, (message.id,)).fetchone()
        return record_of(row)

    def bury(self, delivery: Delivery, dead: Record) -> bool:
        """The dead row, with its body, is the dead letter."""
        self._refuse_in_outage()
        with self.database.transaction(), self.database.savepoint():
            self._ensure_row(delivery.message)
            changed = self.database.execute(
                _BURY,
                (
                    dead.finished_at,
                    dead.attempts,
                    dead.error_type,
                    dead.error,
                    dead.first_failed_at,
                    dead.last_failed_at,
                    dead.traceback,
                    dead.body,
                    dead.id,
                ),
            ).rowcount
        return changed == 1

    def _refuse_in_outage(self) -> None:
        if (why := self.outage()) is not None:
            raise Unavailable(why)


def record_of(row: Sequence[Any]) -> Record:
    """A row of `COLUMNS` as a Record."""
    return Record(*row)
