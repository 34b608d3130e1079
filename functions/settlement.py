"""What was decided becomes stored: commit, or count and back off, or bury. The only part of the processor that writes;
the embedded engine calls it inside its group commit. Nothing here knows where it runs, or how a decision came about."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from decoupled.engine import Commit, Decision, Delivery, Failure, NotStored, Queue, Record, Reject, Stored, Table
from decoupled.retry import backoff_s
from decoupled.workload import Unavailable

log = logging.getLogger("decoupled.processor")

FINAL = ("processed", "rejected")
DUPLICATE = Commit("{}")  # for a message with a final record: applies nothing, and answers what it still has to emit


class Policy:
    """When a message that failed is tried again, and when it is dead. Clock and randomness are passed in."""

    def __init__(
        self,
        max_attempts: int,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        spread: Callable[[], float] = random.random,
    ) -> None:
        self.max_attempts = max_attempts
        self.now_ms = now_ms
        self.spread = spread


def settle(
    decided: Sequence[tuple[Delivery, Decision]], queue: Queue, table: Table, policy: Policy, counted: bool = False
) -> list[Delivery]:
    """Store what was decided. Answers the deliveries to give back; every other one may be deleted.

    `counted`: the attempt was counted when it began."""
    final: list[tuple[Delivery, Commit | Reject]] = []
    failures: list[tuple[Delivery, Failure]] = []
    for delivery, decision in decided:
        if isinstance(decision, Failure):
            failures.append((delivery, decision))
        else:
            final.append((delivery, decision))
    if final:
        outcomes = table.commit([(delivery.message, decision) for delivery, decision in final], policy.now_ms())
        for (delivery, _), outcome in zip(final, outcomes, strict=True):
            if (failure := _finish(delivery, outcome, queue)) is not None:
                failures.append((delivery, failure))
    delays = []
    for delivery, failure in failures:
        try:
            delay = _give_back(delivery, failure, queue, table, policy, counted)
        except Unavailable as error:
            delay = backoff_s(delivery.receive_count, policy.spread(), error.retry_after_s)
            _log_failure(delivery, Failure("unavailable", "TableUnavailable", str(error)), delay)
        if delay is not None:
            delays.append((delivery, delay))
    if delays:
        queue.retry_later(delays)
    return [delivery for delivery, _ in delays]


def _finish(delivery: Delivery, outcome: Stored | NotStored, queue: Queue) -> Failure | None:
    """Send what a stored message emits; answer why it must be delivered again, if it must."""
    if isinstance(outcome, NotStored):
        if outcome.refused:
            return Failure("failed", "TableRefused", outcome.detail)
        return Failure("unavailable", "TableUnavailable", outcome.detail, outcome.retry_after_s)
    if outcome.reason is not None and not outcome.duplicate:
        log.info("rejected", extra=_fields(delivery) | {"reason": outcome.reason})
    if outcome.emits:
        for unsent in filter(None, queue.send(outcome.emits)):
            return Failure("unavailable", "NotSent", f"an emitted message: {unsent.detail}", unsent.retry_after_s)
    return None


def _give_back(
    delivery: Delivery, failure: Failure, queue: Queue, table: Table, policy: Policy, counted: bool
) -> float | None:
    """Seconds until the message is tried again; None if it is finished or buried."""
    message, now_ms = delivery.message, policy.now_ms()
    if failure.kind in ("unavailable", "not_started"):
        if counted:
            table.count_attempt(message, None, now_ms, by=-1)
        tries = delivery.receive_count if failure.kind == "unavailable" else 1
        delay = backoff_s(tries, policy.spread(), failure.retry_after_s)
        _log_failure(delivery, failure, delay)
        return delay
    record = table.count_attempt(message, failure, now_ms, by=0 if counted else 1)
    if record.status in FINAL:
        return _follow_up(delivery, queue, table, policy)
    if failure.kind == "undecodable" or record.attempts >= policy.max_attempts:
        buried = _bury(delivery, failure, record, queue, table, now_ms)
        return None if buried else _follow_up(delivery, queue, table, policy)
    delay = backoff_s(record.attempts, policy.spread(), failure.retry_after_s)
    _log_failure(delivery, failure, delay)
    return delay


def _follow_up(delivery: Delivery, queue: Queue, table: Table, policy: Policy) -> float | None:
    """Another delivery of the same message got there first, and may have died before it sent what the message emits.
    Seconds until this delivery must try to send that again; None if nothing is left to send."""
    (outcome,) = table.commit([(delivery.message, DUPLICATE)], policy.now_ms())
    failure = _finish(delivery, outcome, queue)
    if failure is None:
        return None
    delay = backoff_s(delivery.receive_count, policy.spread(), failure.retry_after_s)
    _log_failure(delivery, failure, delay)
    return delay


def _bury(delivery: Delivery, failure: Failure, record: Record, queue: Queue, table: Table, now_ms: int) -> bool:
    """Move a message to the dead letters: first the record, which GET shows and which keeps the body, then the queue.
    A crash in between delivers the message again, and it is buried again under the same id. False if the message has a
    final record."""
    dead = msgspec.structs.replace(
        record,
        status="dead",
        finished_at=now_ms,
        error_type=failure.error_type,
        error=failure.error,
        body=delivery.message.body,
    )
    if not table.mark_dead(dead):
        return False
    queue.bury(delivery, dead)
    log.error("dead", extra=_fields(delivery) | {"error_type": failure.error_type, "error": failure.error})
    return True


def _log_failure(delivery: Delivery, failure: Failure, delay_s: float) -> None:
    extra = {"kind": failure.kind, "error_type": failure.error_type, "error": failure.error}
    log.warning("retry", extra=_fields(delivery) | extra | {"retry_in_s": round(delay_s, 1)})


def _fields(delivery: Delivery) -> dict[str, Any]:
    message = delivery.message
    return {"message_id": message.id, "workload": message.workload, "receive_count": delivery.receive_count}
