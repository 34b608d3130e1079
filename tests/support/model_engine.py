"""Queue and Table in plain Python: dictionaries, a manual clock, no I/O. It is what the engines are held against, so it
is written to be read, not to be fast. As on SQS and DynamoDB, what a record emits is stored with it and sent after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from decoupled.core import limits
from decoupled.core.callbacks import with_callback
from decoupled.core.outcomes import (
    REUSED,
    Commit,
    Delivery,
    Failure,
    NotSent,
    NotStored,
    Page,
    Record,
    Reject,
    Stored,
)
from decoupled.core.status import OPEN
from decoupled.core.workload import Add, Delete, Message, Put, Update, Write
from decoupled.engines.protocols import Refuse, Share, unheard, whole


class ManualClock:
    """Time passes when a test says so."""

    def __init__(self, now_ms: int = 1_795_000_000_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1000)


@dataclass
class _Row:
    seq: int
    message: Message
    visible_at: int
    due_at: int | None = None
    receive_count: int = 0
    in_flight: bool = False


class ModelQueue:
    """Implements Queue."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self.clock_ms = clock_ms
        self.rows: list[_Row] = []
        self._seq = 0

    def send(self, messages: Sequence[Message]) -> list[NotSent | None]:
        for message in messages:
            self._seq += 1
            visible_at = max(self.clock_ms(), message.due_at or 0)
            handed_out = msgspec.structs.replace(message, due_at=None, digest="")
            self.rows.append(_Row(self._seq, handed_out, visible_at, message.due_at))
        return [None] * len(messages)

    def receive(self, maximum: int, visibility_timeout_s: float) -> list[Delivery]:
        now = self.clock_ms()
        visible = [row for row in self.rows if row.visible_at <= now][:maximum]
        for row in visible:
            row.visible_at = now + int(visibility_timeout_s * 1000)
            row.receive_count += 1
        return [Delivery(row.message, f"{row.seq}.{row.receive_count}", row.receive_count) for row in visible]

    def delete(self, deliveries: Sequence[Delivery]) -> None:
        receipts = {delivery.receipt for delivery in deliveries}
        self.rows = [row for row in self.rows if f"{row.seq}.{row.receive_count}" not in receipts]

    def retry_later(self, delays: Sequence[tuple[Delivery, float]]) -> None:
        by_receipt = {delivery.receipt: delay_s for delivery, delay_s in delays}
        for row in self.rows:
            if (delay_s := by_receipt.get(f"{row.seq}.{row.receive_count}")) is not None:
                row.visible_at, row.due_at = self.clock_ms() + int(delay_s * 1000), None

    def defer(self, due: Sequence[tuple[Delivery, int]], now_ms: int) -> list[Delivery]:
        by_receipt = {delivery.receipt: due_at for delivery, due_at in due}
        for row in self.rows:
            if (due_at := by_receipt.get(f"{row.seq}.{row.receive_count}")) is not None:
                row.visible_at, row.due_at, row.in_flight = max(self.clock_ms(), due_at), due_at, False
        return [delivery for delivery, _ in due]

    def holds(self, message_id: str) -> bool:
        return any(row.message.id == message_id for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)


class ModelFeed(ModelQueue):
    """Implements Feed: one row a message id."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        super().__init__(clock_ms)
        self.accepted: dict[str, str] = {}  # ids, and the digests of what has them
        self.left_off: dict[str, str] = {}

    def send(self, messages: Sequence[Message]) -> list[NotSent | None]:
        return [self._send_one(message) for message in messages]

    def _send_one(self, message: Message) -> NotSent | None:
        if message.id not in self.accepted:
            self.accepted[message.id] = message.digest
            super().send([message])
        before = self.accepted[message.id]
        return REUSED if before and message.digest and before != message.digest else None

    def ready(self) -> list[str]:
        visible = sorted(self._visible(), key=lambda row: row.visible_at)
        return list(dict.fromkeys(row.message.workload for row in visible))

    def queued(self, limit: int) -> dict[str, int]:
        counted = Counter(row.message.workload for row in self.rows)
        return {workload: min(count, limit) for workload, count in counted.items()}

    def claim(self, workload: str, maximum: int, visibility_timeout_s: float, share: Share = whole) -> list[Delivery]:
        """One message of each group in turn, from the group after the last one that was served."""
        waiting: dict[str, list[_Row]] = {}
        for row in sorted(self._visible(), key=lambda row: row.visible_at):
            if row.message.workload == workload:
                waiting.setdefault(row.message.group, []).append(row)
        begun = self.left_off.get(workload, "")
        names = sorted(waiting, key=lambda name: (name <= begun, name))
        rest = {name: waiting[name][: share(name)] for name in names}
        chosen: list[_Row] = []
        while any(rest.values()) and len(chosen) < maximum:
            for name in names:
                if rest[name] and len(chosen) < maximum:
                    chosen.append(rest[name].pop(0))
                    self.left_off[workload] = name
        return [self._hand_out(row, visibility_timeout_s) for row in chosen]

    def set_aside_damaged(self) -> int:
        return 0

    def send_claimed(
        self, messages: Sequence[Message], visibility_timeout_s: float, refuse: Refuse = unheard
    ) -> list[Delivery]:
        before = len(self.rows)
        for message, why in zip(messages, self.send(messages), strict=True):
            if why is not None:
                refuse(message, why)
        return [self._hand_out(row, visibility_timeout_s) for row in self.rows[before:] if row.due_at is None]

    def retry_later(self, delays: Sequence[tuple[Delivery, float]]) -> None:
        super().retry_later(delays)
        given_back = {delivery.receipt for delivery, _ in delays}
        for row in self.rows:
            if f"{row.seq}.{row.receive_count}" in given_back:
                row.in_flight = False

    def release_in_flight(self) -> int:
        in_flight = [row for row in self.rows if row.in_flight]
        for row in in_flight:
            row.visible_at, row.due_at, row.in_flight = self.clock_ms(), None, False
        for row in self.rows:
            if row.due_at is not None:
                continue  # here there is but one clock, which nobody sets
            longest_s = limits.MAX_VISIBILITY_TIMEOUT_S if row.receive_count else 0
            row.visible_at = min(row.visible_at, self.clock_ms() + longest_s * 1000)
        return len(in_flight)

    def _visible(self) -> list[_Row]:
        return [row for row in self.rows if row.visible_at <= self.clock_ms()]

    def _hand_out(self, row: _Row, visibility_timeout_s: float) -> Delivery:
        row.visible_at = self.clock_ms() + int(visibility_timeout_s * 1000)
        row.receive_count += 1
        row.in_flight = True
        return Delivery(row.message, f"{row.seq}.{row.receive_count}", row.receive_count)


class ModelTable:
    """Implements Table."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.items: dict[str, dict[str, Any]] = {}
        self.owners: dict[str, str] = {}  # of items; "" is nobody
        self.emits: dict[str, Sequence[Message]] = {}
        self.dead_letters: dict[str, Record] = {}
        self.marks: dict[str, tuple[int, str]] = {}  # which delivery of a message was counted last
        self.half_buried: Callable[[], None] = lambda: None  # between the record and the dead letter

    def commit(self, decided: Sequence[tuple[Message, Commit | Reject]], now_ms: int) -> list[Stored | NotStored]:
        return [self._commit_one(message, decision, now_ms) for message, decision in decided]

    def _commit_one(self, message: Message, decision: Commit | Reject, now_ms: int) -> Stored:
        before = self.records.get(message.id)
        if before is not None and before.status not in OPEN:
            return self._duplicate(before)
        reason, items = (decision.reason, {}) if isinstance(decision, Reject) else self._after(decision.writes)
        record = before or _queued(message)
        if reason is not None or isinstance(decision, Reject):
            self.records[message.id] = msgspec.structs.replace(
                record, status="rejected", reason=reason, finished_at=now_ms, body=None
            )
            self.emits[message.id] = told = with_callback(message, Reject(reason or ""), now_ms)
            return Stored("rejected", reason, emits=told)
        self.records[message.id] = msgspec.structs.replace(
            record, status="processed", result=decision.result, finished_at=now_ms, body=None
        )
        stored_whole = {write.key for write in decision.writes if isinstance(write, Put)}
        for key, item in items.items():
            if self.items.pop(key, None) is None or key in stored_whole:
                self.owners[key] = message.owner
            if item is not None:
                self.items[key] = item
        self.emits[message.id] = emits = with_callback(message, decision, now_ms)
        return Stored("processed", emits=emits)

    def _after(self, writes: Sequence[Write]) -> tuple[str | None, dict[str, dict[str, Any] | None]]:
        """Why the writes cannot be, or the items as they will be; None for what is gone."""
        items: dict[str, dict[str, Any] | None] = {}
        for write in writes:
            stored = self.items.get(write.key)
            if write.if_present is not None and stored is None:
                return write.if_present, {}
            if write.if_absent is not None and stored is not None:
                return write.if_absent, {}
            before = stored or {}
            kinds = {name: (value, isinstance(value, bool)) for name, value in before.items()}
            if any(kinds.get(name) != (value, isinstance(value, bool)) for name, value in write.equal.items()):
                return write.otherwise, {}
            if before.keys() & set(write.absent):
                return write.otherwise, {}
            match write:
                case Put():
                    items[write.key] = dict(write.item)
                case Delete():
                    items[write.key] = None
                case Update():
                    kept = {name: value for name, value in before.items() if name not in write.remove}
                    items[write.key] = (kept | dict(write.set)) or (stored and {})
                case Add():
                    item = _added(before, write)
                    items[write.key] = item or stored
                    if any(item[name] < least for name, least in write.floor.items()):
                        return write.otherwise, {}
                    if any(item[name] > most for name, most in write.ceiling.items()):
                        return write.otherwise, {}
        return None, items

    def stored(self, message_id: str) -> Stored | None:
        record = self.records.get(message_id)
        if record is None or record.status in OPEN:
            return None
        return self._duplicate(record)

    def _duplicate(self, final: Record) -> Stored:
        assert final.status in ("processed", "rejected")
        return Stored(final.status, final.reason, duplicate=True, emits=self.emits.get(final.id, ()))

    def begin_attempt(self, delivery: Delivery) -> Record:
        return self._change(delivery.message, self._count(delivery))

    def undo_attempt(self, delivery: Delivery) -> None:
        if self.marks.get(delivery.message.id) == (delivery.receive_count, "counted"):
            self.marks[delivery.message.id] = (delivery.receive_count, "taken back")
            self._change(delivery.message, -1)

    def record_failure(self, delivery: Delivery, failure: Failure, now_ms: int, begun: bool = False) -> Record:
        message, by = delivery.message, 0 if begun else self._count(delivery)
        before = self.records.get(message.id)
        if not (begun or by) and before is not None:
            return before
        first = before.first_failed_at if before is not None else None
        return self._change(
            message,
            by,
            error_type=failure.error_type,
            error=failure.error,
            traceback=failure.traceback or (before.traceback if before is not None else None),
            first_failed_at=first or now_ms,
            last_failed_at=now_ms,
        )

    def _count(self, delivery: Delivery) -> int:
        """1 if neither this delivery nor a later one was counted before."""
        last, _ = self.marks.get(delivery.message.id, (0, ""))
        if delivery.receive_count <= last:
            return 0
        self.marks[delivery.message.id] = (delivery.receive_count, "counted")
        return 1

    def _change(self, message: Message, by: int, **story: Any) -> Record:
        record = self.records.get(message.id) or _queued(message)
        if record.status in OPEN:
            record = msgspec.structs.replace(record, attempts=max(record.attempts + by, 0), **story)
            self.records[message.id] = record
        return record

    def bury(self, delivery: Delivery, dead: Record) -> bool:
        before = self.records.get(dead.id)
        if before is not None and before.status not in OPEN:
            return False
        self.records[dead.id] = dead
        self.half_buried()
        self.dead_letters[dead.id] = dead
        return True

    def get(self, message_id: str) -> Record | None:
        return self.records.get(message_id)

    def item(self, key: str, owner: str | None = None) -> Mapping[str, Any] | None:
        theirs = owner is None or (owner and self.owners.get(key) == owner)
        return self.items.get(key) if theirs else None

    def page(self, prefix: str, after: str, limit: int) -> Page:
        found = sorted(key for key in self.items if key.startswith(prefix) and key > after)
        return Page([(key, self.items[key]) for key in found[:limit]], more=len(found) > limit)


def _queued(message: Message) -> Record:
    return Record(message.id, message.workload, "queued", message.accepted_at, message.caller, digest=message.digest)


def _added(stored: dict[str, Any], write: Add) -> dict[str, Any]:
    item = dict(stored)
    for name, amount in write.amounts.items():
        item[name] = Decimal(item.get(name, 0)) + Decimal(amount)
    for name, number in write.lowest.items():
        item[name] = min(item.get(name, number), number)
    for name, number in write.highest.items():
        item[name] = max(item.get(name, number), number)
    return item
