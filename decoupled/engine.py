"""What the functions ask of an engine: the Queue and Table protocols, and the outcomes that cross them. No engine
lives here, and no I/O. SQS and DynamoDB implement it in `decoupled/aws/`, SQLite in `decoupled/embedded/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from decoupled.workload import Message, Write

Status = Literal["queued", "processed", "rejected", "dead"]


class Delivery(msgspec.Struct, frozen=True):
    """A message handed out once: `receipt` is good for this delivery only, and lapses when the message is handed out
    again. `receive_count` counts deliveries, this one included."""

    message: Message
    receipt: str
    receive_count: int


class NotSent(msgspec.Struct, frozen=True):
    """Why a message is not known to be in the queue. `transient`: sending the same again may work. `unknown`: the queue
    may hold it all the same (a time-out, say), so that only an idempotency key makes sending it again safe."""

    detail: str
    transient: bool = True
    unknown: bool = False
    retry_after_s: int = 1


# --- what processing one message came to (made by functions/processor.decide, pure)


class Commit(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Effects, checked and encoded, ready to be applied."""

    result: str  # JSON text of an object
    writes: list[Write] = []
    emits: list[Message] = []


class Reject(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A business rule said no."""

    reason: str


FailureKind = Literal["unavailable", "failed", "undecodable", "not_started"]


class Failure(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Processing came to nothing. `unavailable` and `not_started` are not the message's fault; `failed` is, and counts
    as an attempt; `undecodable` can never succeed."""

    kind: FailureKind
    error_type: str
    error: str
    retry_after_s: float | None = None


Decision = Commit | Reject | Failure

# --- what storing it came to --------------------------------------------------


class Stored(msgspec.Struct, frozen=True):
    """The message has a final record now: `processed`, or `rejected` with a reason (a condition of a write that did
    not hold counts as a rejection). `duplicate`: it had one before, and nothing was applied. `emits` are still to be
    sent, also after a duplicate: the first delivery may have died in between, and their ids are always the same."""

    status: Literal["processed", "rejected"]
    reason: str | None = None
    duplicate: bool = False
    emits: Sequence[Message] = ()


class NotStored(msgspec.Struct, frozen=True):
    """The table is sick; nothing is known to have been applied, and applying again is safe. `refused`: it is not sick,
    but will never take these effects (an item too large, say): that is the message's fault."""

    detail: str
    retry_after_s: float | None = None
    refused: bool = False


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a message by its id. Times are milliseconds since the epoch."""

    id: str
    workload: str
    status: Status
    accepted_at: int
    caller: str = ""
    result: Mapping[str, Any] | None = None  # processed
    reason: str | None = None  # rejected
    finished_at: int | None = None  # processed, rejected or dead since
    attempts: int = 0  # failures that were the message's fault
    error_type: str | None = None  # of the last failure
    error: str | None = None
    first_failed_at: int | None = None
    last_failed_at: int | None = None
    body: str | None = None  # dead: what to redrive


class Queue(Protocol):
    """At-least-once delivery with SQS's semantics. Every method is durable when it returns."""

    def send(self, messages: Sequence[Message], delay_s: float = 0) -> list[NotSent | None]:
        """Put messages on the queue; for each, None (durable) or why not. Never raises for a failed send."""
        ...

    def receive(self, maximum: int, visibility_timeout_s: float) -> list[Delivery]:
        """Hand out up to `maximum` (1..10) visible messages, each hidden for `visibility_timeout_s`."""
        ...

    def delete(self, deliveries: Sequence[Delivery]) -> None:
        """Delete what was delivered. A lapsed receipt deletes nothing, silently."""
        ...

    def retry_later(self, delays: Sequence[tuple[Delivery, float]]) -> None:
        """Make each delivered message visible again after that many seconds. A lapsed receipt changes nothing."""
        ...

    def bury(self, delivery: Delivery, record: Record) -> None:
        """Put the message on the dead-letter queue with its story. Deleting it from this queue is the caller's step.
        Doing it again is harmless: a dead letter is known by its message id."""
        ...


class Table(Protocol):
    """Records and items, with conditions. Every method is durable when it returns and raises `Unavailable` when the
    table is sick, except `commit`, which answers for each message."""

    def commit(self, decided: Sequence[tuple[Message, Commit | Reject]], now_ms: int) -> list[Stored | NotStored]:
        """Apply each message's effects with its record in one atomic step, unless it already has a final record.
        A `queued` or `dead` record is not final."""
        ...

    def count_attempt(self, message: Message, failure: Failure | None, now_ms: int, by: int = 1) -> Record:
        """Count attempts: +1 for a failure, or for the start of an attempt that may never return (no failure yet); 0 to
        note the failure of an attempt counted at its start; -1 to take that back when it was not the message's fault.
        Answers the record after that: `queued` or `dead` with its attempts, or the final one, unchanged."""
        ...

    def mark_dead(self, record: Record) -> bool:
        """Store a dead record, body included. False if the message has a final record."""
        ...

    def get(self, message_id: str) -> Record | None:
        """The record of a message; `queued` without attempts where the engine knows the queue holds it."""
        ...

    def item(self, key: str) -> Mapping[str, Any] | None:
        """An item that workloads wrote, numbers as int or Decimal."""
        ...
