"""What sending, processing and storing a message come to: the plain data that crosses between pipeline, engines and
workers. No behaviour lives here; what an engine does with it is asked for in `engines/protocols.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from decoupled.core.status import Status
from decoupled.core.workload import Message, Write


class Delivery(msgspec.Struct, frozen=True):
    """A message handed out once: `receipt` is good for this delivery only, and lapses when the message is handed out
    again. `receive_count` counts deliveries, this one included. `waited_ms`: how long it could have been handed out
    before; `waits_since`: when it was put on the queue, or was due there; `tried_since`: when it was handed out for the
    first time; where the engine knows."""

    message: Message
    receipt: str
    receive_count: int
    waited_ms: int = 0
    waits_since: int = 0  # milliseconds since the epoch, as the next
    tried_since: int = 0


class NotSent(msgspec.Struct, frozen=True):
    """Why a message is not known to be in the queue. `transient`: sending the same again may work. `unknown`: the queue
    may hold it all the same (a time-out, say), so that only an idempotency key makes sending it again safe. `quota`:
    its caller has used up its own, and that is why."""

    detail: str
    transient: bool = True
    unknown: bool = False
    retry_after_s: int = 1
    quota: Quota | None = None


class Quota(msgspec.Struct, frozen=True, array_like=True):
    """What a caller may have accepted, and what of it is left, as the fields of these names in HTTP
    (draft-ietf-httpapi-ratelimit-headers-11)."""

    ratelimit_policy: str
    ratelimit: str


REUSED = NotSent("This Idempotency-Key was used before, and with another entry.", transient=False)
"""Its id is another entry's, as far as their digests tell: it is not accepted, and never will be."""

Together = NotSent | list[NotSent | None] | None
"""What came of messages that were sent together: all are durable (None), none is, or each has its own, in turn."""


def of_each(outcome: Together, count: int) -> Sequence[NotSent | None]:
    """What came of each of so many."""
    return outcome if isinstance(outcome, list) else [outcome] * count


# --- what processing one message came to (made by pipeline/processor.decide)


class Commit(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Effects, checked and encoded, ready to be applied."""

    result: str  # JSON text of an object
    writes: list[Write] = []
    emits: list[Message] = []
    later: dict[int, float] = {}  # seconds after the commit at which one of `emits` is due, by its place there
    trace: str = ""  # the context that what follows goes on with, where it was decided in a span


class Reject(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A business rule said no."""

    reason: str
    trace: str = ""  # likewise


FailureKind = Literal["unavailable", "failed", "undecodable", "not_ours", "not_started", "not_yet", "held"]


class Failure(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Processing came to nothing. `unavailable` and `not_started` are not the message's fault; `failed` is, and counts
    as an attempt; `undecodable` is one that only another version can understand, and `not_ours` one that none can. What
    is `not_yet` due comes back after `retry_after_s`, or at `due_at`. `held`: all messages of its kind fail like this,
    so that it is not the message's fault after all."""

    kind: FailureKind
    error_type: str
    error: str
    retry_after_s: float | None = None
    traceback: str | None = None  # of what the workload raised; kept with a dead letter
    due_at: int | None = None  # milliseconds since the epoch


Decision = Commit | Reject | Failure

# --- what storing it came to --------------------------------------------------


class Stored(msgspec.Struct, frozen=True):
    """The message has a final record now: `processed`, or `rejected` with a reason (a condition of a write that did
    not hold counts as a rejection). `duplicate`: it had one before, and nothing was applied. `emits` are still to be
    sent, also after a duplicate: the first delivery may have died in between, and their ids are always the same.
    `dead`, always a duplicate: it is ordered and was dead before, so that nothing was applied either. `digest`, of a
    duplicate, is that of the entry that has the record, where the queue may hold another one under its id. `late`: it
    was dead until now, where the engine knows that."""

    status: Literal["processed", "rejected", "dead"]
    reason: str | None = None
    duplicate: bool = False
    emits: Sequence[Message] = ()
    digest: str = ""
    late: bool = False


PROCESSED = Stored("processed")
"""What most come to: it is processed, and nothing is left to do."""


class NotStored(msgspec.Struct, frozen=True):
    """The table is sick; nothing is known to have been applied, and applying again is safe. `refused`: it is not sick,
    but will never take these effects (an item too large, say): that is the message's fault."""

    detail: str
    retry_after_s: float | None = None
    refused: bool = False


class Page(msgspec.Struct, frozen=True):
    """Some items of a collection, by their keys and in that order. `more`: there may be some after them."""

    items: list[tuple[str, Mapping[str, Any]]]
    more: bool


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a message by its id. Times are milliseconds since the epoch."""

    id: str
    workload: str
    status: Status
    accepted_at: int
    caller: str = ""
    result: str | None = None  # processed: JSON text of an object
    reason: str | None = None  # rejected
    finished_at: int | None = None  # processed, rejected or dead since
    attempts: int = 0  # failures that were the message's fault
    error_type: str | None = None  # of the last failure
    error: str | None = None
    first_failed_at: int | None = None
    last_failed_at: int | None = None
    traceback: str | None = None  # of the last failure
    due_at: int | None = None  # queued: not before this time, where the engine knows it
    digest: str = ""  # of the entry, where its sender gave a key for it
    body: str | None = None  # dead: what to redrive
