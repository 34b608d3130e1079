"""The table on SQLite: records of messages, and the items that workloads write. Conditions are checked before anything
is written, which one writer at a time makes safe."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Context, Decimal
from typing import Any

import msgspec

from decoupled.embedded.database import Database
from decoupled.embedded.queue import insert
from decoupled.engine import Commit, Delivery, Failure, NotStored, Record, Reject, Status, Stored
from decoupled.workload import Add, Message, Number, Put, Unavailable, Write

# A column for each field, in the same order. A queued message's body is nobody's business but the queue's.
_COLUMNS = ", ".join(Record.__struct_fields__[:-1]) + ", CASE status WHEN 'dead' THEN body END"
_READ = f"SELECT {_COLUMNS} FROM messages WHERE id = ?"  # noqa: S608  the columns are a constant

# `queued` and `dead` make way for a final record; a final record stays as it is.
_FINISH = """
UPDATE messages SET status = ?, result = ?, reason = ?, finished_at = ?, body = NULL, in_flight = 0
WHERE id = ? AND status IN ('queued', 'dead')
"""


_PROCESSED = Stored("processed")


class SqliteTable:
    """Implements `decoupled.engine.Table`. Inside a transaction of the database, its changes are part of that one.

    `outage` answers why the table is to be taken for unavailable, or None: see `decoupled spike --outage`."""

    def __init__(self, database: Database, outage: Callable[[], str | None] = lambda: None) -> None:
        self.database = database
        self.outage = outage

    def commit(self, decided: Sequence[tuple[Message, Commit | Reject]], now_ms: int) -> list[Stored | NotStored]:
        """One transaction for all, each message atomic in itself."""
        if (why := self.outage()) is not None:
            return [NotStored(why)] * len(decided)
        with self.database.transaction():
            return [self._commit_one(message, decision, now_ms) for message, decision in decided]

    def _commit_one(self, message: Message, decision: Commit | Reject, now_ms: int) -> Stored:
        if isinstance(decision, Commit):
            items: list[tuple[str, str]] = []
            if decision.writes:
                if self._is_final(message.id):
                    return self._duplicate(message.id)
                reason, items = self._apply(decision.writes)
                if reason is not None:
                    return self._finish(message, "rejected", None, reason, now_ms)
            stored = self._finish(message, "processed", decision.result, None, now_ms)
            if stored.duplicate or not (items or decision.emits):
                return stored
            if items:
                self.database.executemany("INSERT OR REPLACE INTO items (key, item) VALUES (?, ?)", items)
            if decision.emits:  # sent if and only if the record is stored: one transaction
                insert(self.database, decision.emits, now_ms)
            return stored
        return self._finish(message, "rejected", None, decision.reason, now_ms)

    def _finish(self, message: Message, status: Status, result: str | None, reason: str | None, now_ms: int) -> Stored:
        for _ in range(2):
            if self.database.execute(_FINISH, (status, result, reason, now_ms, message.id)).rowcount == 1:
                return _PROCESSED if reason is None else Stored("rejected", reason)
            if self._is_final(message.id):
                break
            self._know(message)
        return self._duplicate(message.id)

    def _know(self, message: Message) -> None:
        """A row for a message that did not come from this queue. Never visible: it is in flight elsewhere."""
        self.database.execute(
            """
            INSERT INTO messages (status, id, workload, accepted_at, caller, body) VALUES ('queued', ?, ?, ?, ?, ?)
            ON CONFLICT (id) DO NOTHING
            """,
            (message.id, message.workload, message.accepted_at, message.caller, message.body),
        )

    def _is_final(self, message_id: str) -> bool:
        row = self.database.execute("SELECT status FROM messages WHERE id = ?", (message_id,)).fetchone()
        return row is not None and row[0] in ("processed", "rejected")

    def _duplicate(self, message_id: str) -> Stored:
        """What it emits went out in the transaction of its record: nothing is left to send."""
        status, reason = self.database.execute(
            "SELECT status, reason FROM messages WHERE id = ?", (message_id,)
        ).fetchone()
        return Stored(status, reason, duplicate=True)

    # --- items ----------------------------------------------------------------

    def _apply(self, writes: Sequence[Write]) -> tuple[str | None, list[tuple[str, str]]]:
        """The reason of the first write whose condition does not hold, or the items as they will be."""
        items = []
        for write in writes:
            stored = self._stored_item(write.key)
            match write:
                case Put(if_absent=reason) if reason is not None and stored is not None:
                    return reason, []
                case Put(item=item):
                    items.append((write.key, _encode(item)))
                case Add(if_present=reason) if reason is not None and stored is None:
                    return reason, []
                case Add():
                    added = _added(stored or {}, write)
                    if added is None:
                        return write.otherwise, []
                    items.append((write.key, _encode(added)))
        return None, items

    def item(self, key: str) -> Mapping[str, Any] | None:
        """The item, numbers as int or Decimal."""
        self._refuse_in_outage()
        return self._stored_item(key)

    def _stored_item(self, key: str) -> dict[str, Any] | None:
        row = self.database.execute("SELECT item FROM items WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0], parse_float=_number, parse_int=int)

    # --- records --------------------------------------------------------------

    def get(self, message_id: str) -> Record | None:
        """The record, `queued` from the moment the message is accepted."""
        self._refuse_in_outage()
        row = self.database.execute(_READ, (message_id,)).fetchone()
        return None if row is None else record_of(row)

    def count_attempt(self, message: Message, failure: Failure | None, now_ms: int, by: int = 1) -> Record:
        """As the protocol says."""
        self._refuse_in_outage()
        failed_at = None if failure is None else now_ms
        error_type, error = (None, None) if failure is None else (failure.error_type, failure.error)
        with self.database.transaction():
            self._know(message)
            self.database.execute(
                """
                UPDATE messages SET
                    attempts = max(attempts + ?, 0),
                    error_type = coalesce(?, error_type),
                    error = coalesce(?, error),
                    first_failed_at = coalesce(first_failed_at, ?),
                    last_failed_at = coalesce(?, last_failed_at)
                WHERE id = ? AND status IN ('queued', 'dead')
                """,
                (by, error_type, error, failed_at, failed_at, message.id),
            )
            row = self.database.execute(_READ, (message.id,)).fetchone()
        return record_of(row)

    def mark_dead(self, record: Record) -> bool:
        """Store a dead record, unless a final one is there."""
        self._refuse_in_outage()
        with self.database.transaction():
            self._know(Message(record.id, record.workload, record.body or "", record.caller, record.accepted_at))
            changed = self.database.execute(
                """
                UPDATE messages SET status = 'dead', finished_at = ?, attempts = ?, error_type = ?, error = ?,
                    first_failed_at = ?, last_failed_at = ?, body = ?, in_flight = 0
                WHERE id = ? AND status IN ('queued', 'dead')
                """,
                (
                    record.finished_at,
                    record.attempts,
                    record.error_type,
                    record.error,
                    record.first_failed_at,
                    record.last_failed_at,
                    record.body,
                    record.id,
                ),
            ).rowcount
        return changed == 1

    def mark_received_too_often(self, delivery: Delivery, now_ms: int) -> None:
        """Store the dead record of a message that was handed out again and again and never settled."""
        message, tries = delivery.message, delivery.receive_count - 1
        dead = Record(
            id=message.id,
            workload=message.workload,
            status="dead",
            accepted_at=message.accepted_at,
            caller=message.caller,
            finished_at=now_ms,
            attempts=tries,
            error_type="MaxReceiveCountExceeded",
            error=f"received {tries} times and never settled: what took it died each time",
            last_failed_at=now_ms,
            body=message.body,
        )
        self.mark_dead(dead)

    def _refuse_in_outage(self) -> None:
        if (why := self.outage()) is not None:
            raise Unavailable(why)


def record_of(row: Sequence[Any]) -> Record:
    """A row of `_COLUMNS` as a Record."""
    values = dict(zip(Record.__struct_fields__, row, strict=True))
    if values["result"] is not None:
        values["result"] = json.loads(values["result"], parse_float=_number)
    return Record(**values)


def _added(stored: dict[str, Any], write: Add) -> dict[str, Any] | None:
    """The item after an Add; None if a bound does not hold."""
    item = dict(stored)
    for name, amount in write.amounts.items():
        total = _EXACT.add(Decimal(stored.get(name, 0)), Decimal(amount))
        if name in write.floor and total < write.floor[name]:
            return None
        if name in write.ceiling and total > write.ceiling[name]:
            return None
        item[name] = _whole(total)
    for name, number in write.lowest.items():
        item[name] = min(stored.get(name, number), number)
    for name, number in write.highest.items():
        item[name] = max(stored.get(name, number), number)
    return item


def _number(text: str) -> Number:
    """A JSON number, exactly."""
    return _whole(Decimal(text))


def _whole(number: Decimal) -> Number:
    """Whole numbers as int, as DynamoDB gives them back."""
    return int(number) if number == number.to_integral_value() else number.normalize(_EXACT)


# Sums of two numbers that DynamoDB would store (38 digits, exponents within ±130) are exact in this many digits.
_EXACT = Context(prec=300)


def _encode(item: Mapping[str, Any]) -> str:
    return _json.encode(item).decode()


_json = msgspec.json.Encoder(decimal_format="number")
