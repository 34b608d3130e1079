"""Stores what was decided: applies it, or counts the failure and puts the message off, or buries it. The same for both
engines; it does not know where it runs, or how a decision came about."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, assert_never

import msgspec

from decoupled.core import limits
from decoupled.core.backoff import backoff_s, spread_s
from decoupled.core.metrics import Numbers, by_name
from decoupled.core.outcomes import PROCESSED, Commit, Decision, Delivery, Failure, NotStored, Record, Reject, Stored
from decoupled.core.status import FINAL
from decoupled.core.times import now_ms, rfc3339
from decoupled.core.traces import trace_id
from decoupled.core.workload import Unavailable
from decoupled.engines.protocols import Queue, Table
from decoupled.pipeline import blame
from decoupled.pipeline.runs import Runs

log = logging.getLogger("decoupled.processor")


class Policy:
    """When a message that failed is tried again, and when it is dead. Clock and randomness are passed in.

    `span_s`: the attempts of a message that fails on its own take that long at least, so that there is time to mend a
    bug that fails them all. 0 where the queue can be held instead."""

    def __init__(
        self,
        max_attempts: int,
        now_ms: Callable[[], int] = now_ms,
        spread: Callable[[], float] = random.random,
        span_s: float = 0.0,
        runs: Runs | None = None,
    ) -> None:
        self.max_attempts = max_attempts
        self.span_s = span_s
        self.runs = runs or Runs()
        self.now_ms = now_ms
        self.spread = spread

    def pause_s(self, attempts: int, retry_after_s: float | None) -> float:
        """Before a message that has failed so often on its own is tried again."""
        spread = self.spread()
        quickly = backoff_s(attempts, spread, retry_after_s)
        return min(
            max(quickly, spread_s(attempts, self.max_attempts, self.span_s, spread)), limits.MAX_VISIBILITY_TIMEOUT_S
        )

    def waits_for_newer(self, first_failed_at: int | None, now: int) -> bool:
        """May a version be on its way that understands what this one does not?"""
        return now - (first_failed_at or now) < max(limits.VERSION_SKEW_S, self.span_s) * 1000

    def time_of(self, deliveries: Iterable[Delivery]) -> int:
        """When something happens to them: now, and never before they were accepted, whatever was done to the clock
        meanwhile, or however the clocks of two machines differ."""
        return max(self.now_ms(), *[delivery.message.accepted_at for delivery in deliveries])


def settle(
    decided: Sequence[tuple[Delivery, Decision]],
    queue: Queue,
    table: Table,
    policy: Policy,
    begun: bool = False,
    tally: Numbers | None = None,
) -> list[Delivery]:
    """Store what was decided. Returns the deliveries to give back; every other one may be deleted.

    `begun`: the attempt was counted when it began. `tally` is told what messages came to, by their workloads:
    processed, rejected, dead or retried. Where all of this is undone, so is that."""
    tally = Numbers() if tally is None else tally
    final: list[tuple[Delivery, Commit | Reject]] = []
    failures: list[tuple[Delivery, Failure]] = []
    for delivery, decision in decided:
        if isinstance(decision, Failure):
            failures.append((delivery, decision))
        else:
            final.append((delivery, decision))
    if final:
        now = policy.time_of([delivery for delivery, _ in final])
        outcomes = table.commit([(delivery.message, _dated(decision, now)) for delivery, decision in final], now)
        if outcomes.count(PROCESSED) == len(outcomes):
            for workload, count in by_name([delivery.message.workload for delivery, _ in final]).items():
                tally.count("processed", workload, count)
        else:
            for (delivery, _), outcome in zip(final, outcomes, strict=True):
                _count(delivery, outcome, tally)
                if (failure := _finish(delivery, outcome, queue)) is not None:
                    failures.append((delivery, failure))
    if not failures:
        return []
    delays, due = list[tuple[Delivery, float]](), list[tuple[Delivery, int]]()
    for delivery, failure in failures:
        delay: float | None = None
        kind = failure.kind
        try:
            if failure.kind == "not_yet":
                due.append((delivery, _not_yet(delivery, failure, table, policy, begun)))
            else:
                delay = _give_back(delivery, failure, queue, table, policy, begun, tally)
        except Unavailable as error:
            delay, kind = _put_off(delivery, blame.unavailable(error), policy), "unavailable"
        if delay is not None:
            delays.append((delivery, delay))
            tally.put_back(delivery, kind)
    deferred = queue.defer(due, policy.now_ms()) if due else []
    return _retry_later(delays, queue) + deferred


def _count(delivery: Delivery, outcome: Stored | NotStored, tally: Numbers) -> None:
    if isinstance(outcome, Stored) and not outcome.duplicate:
        tally.count(outcome.status, delivery.message.workload)
        if outcome.late:
            tally.count("dead_ended", delivery.message.workload)


def _dated(decision: Commit | Reject, now: int) -> Commit | Reject:
    """What it emits later, with the times at which that is due: from now on, and the same at every redelivery, since
    they are stored with the record."""
    if isinstance(decision, Reject) or not decision.later:
        return decision
    emits = [
        msgspec.structs.replace(emit, due_at=now + round(decision.later[place] * 1000))
        if place in decision.later
        else emit
        for place, emit in enumerate(decision.emits)
    ]
    return msgspec.structs.replace(decision, emits=emits, later={})


def settle_duplicate(delivery: Delivery, queue: Queue, table: Table, policy: Policy) -> list[Delivery]:
    """The message has a final record already: nothing is applied. Returns the delivery if it is to be given back, since
    what the record emits could not be sent."""
    try:
        delay = _follow_up(delivery, queue, table, policy)
    except Unavailable as error:
        delay = _put_off(delivery, blame.unavailable(error), policy)
    return _retry_later([] if delay is None else [(delivery, delay)], queue)


def bury_again(delivery: Delivery, dead: Record, queue: Queue, table: Table, policy: Policy) -> list[Delivery]:
    """An ordered message is dead already, and those behind it may have gone on: it is not tried again, and the attempt
    that began is none. Whoever buried it may have died before the dead-letter queue had it. Returns the delivery if it
    could not be buried now."""
    try:
        table.bury(delivery, msgspec.structs.replace(dead, attempts=dead.attempts - 1, body=delivery.message.body))
    except Unavailable as error:
        return _retry_later([(delivery, _put_off(delivery, blame.unavailable(error), policy))], queue)
    return []


def _retry_later(delays: Sequence[tuple[Delivery, float]], queue: Queue) -> list[Delivery]:
    if delays:
        queue.retry_later(delays)
    return [delivery for delivery, _ in delays]


def _finish(delivery: Delivery, outcome: Stored | NotStored, queue: Queue) -> Failure | None:
    """Send what a stored message emits. Returns why it must be delivered again, if it must."""
    if isinstance(outcome, NotStored):
        if outcome.refused:
            return Failure("failed", "TableRefused", outcome.detail)
        return Failure("unavailable", "TableUnavailable", outcome.detail, outcome.retry_after_s)
    if outcome.reason is not None and not outcome.duplicate:
        log.info("rejected", extra=_fields(delivery) | {"reason": outcome.reason})
    if outcome.digest and delivery.message.digest not in ("", outcome.digest):
        log.warning("same key, another entry: what was processed before it counts", extra=_fields(delivery))
    if outcome.status == "dead":
        log.warning("too late: it is dead, and stays so until somebody redrives it", extra=_fields(delivery))
    if outcome.emits:
        for unsent in filter(None, queue.send(outcome.emits)):
            return Failure("unavailable", "NotSent", f"an emitted message: {unsent.detail}", unsent.retry_after_s)
    return None


def _give_back(
    delivery: Delivery, failure: Failure, queue: Queue, table: Table, policy: Policy, begun: bool, tally: Numbers
) -> float | None:
    """Seconds until the message is tried again; None if it is finished or buried."""
    now = policy.time_of([delivery])
    match failure.kind:
        case "unavailable" | "not_started" | "not_yet":  # `settle` sees to the last one itself
            if begun:
                table.undo_attempt(delivery)
            return _put_off(delivery, failure, policy)
        case "undecodable" | "held":
            record = table.record_failure(delivery, failure, now, begun=True)  # which is no attempt
            if begun:
                table.undo_attempt(delivery)
            waits = failure.kind == "held" or policy.waits_for_newer(record.first_failed_at, now)
            if record.status not in FINAL and waits:
                return _put_off(delivery, failure, policy)
            dead = True
        case "failed" | "not_ours":
            record = table.record_failure(delivery, failure, now, begun)
            dead = failure.kind == "not_ours" or record.attempts >= policy.max_attempts
        case never:
            assert_never(never)
    if record.status in FINAL:
        return _follow_up(delivery, queue, table, policy)
    if dead:
        buried = _bury(delivery, failure, record, table, now)
        if buried and record.status != "dead":
            tally.count("dead", delivery.message.workload)
        return None if buried else _follow_up(delivery, queue, table, policy)
    delay = policy.pause_s(record.attempts, failure.retry_after_s)
    _log_failure(delivery, failure, delay)
    return delay


def _not_yet(delivery: Delivery, failure: Failure, table: Table, policy: Policy, begun: bool) -> int:
    """When a message is due that came before its time: in a second at the soonest, lest it comes again and again."""
    if begun:
        table.undo_attempt(delivery)
    now = policy.now_ms()
    due_at = failure.due_at if failure.due_at is not None else now + round((failure.retry_after_s or 0) * 1000)
    due_at = min(max(due_at, now + round(limits.NOT_YET_S * 1000)), now + limits.MAX_LATER_S * 1000)
    log.info("not due yet", extra=_fields(delivery) | {"due_at": rfc3339(due_at)})
    return due_at


def _put_off(delivery: Delivery, failure: Failure, policy: Policy) -> float:
    """Seconds until a message is tried again that is not to blame."""
    tries = 1 if failure.kind == "not_started" else delivery.receive_count
    delay = backoff_s(tries, policy.spread(), failure.retry_after_s)
    _log_failure(delivery, failure, delay)
    return delay


def _follow_up(delivery: Delivery, queue: Queue, table: Table, policy: Policy) -> float | None:
    """Another delivery of the same message got there first, and may have died before it sent what the message emits.
    Seconds until this delivery must try to send that again; None if nothing is left to send."""
    stored = table.stored(delivery.message.id)
    failure = None if stored is None else _finish(delivery, stored, queue)
    return None if failure is None else _put_off(delivery, failure, policy)


def _bury(delivery: Delivery, failure: Failure, record: Record, table: Table, now: int) -> bool:
    """Make a dead letter of a message. False if it has a final record. A crash within delivers it again, and it is
    buried again under the same id."""
    dead = msgspec.structs.replace(
        record,
        status="dead",
        finished_at=now,
        error_type=failure.error_type,
        error=failure.error,
        traceback=failure.traceback,
        digest=delivery.message.digest or record.digest,
        body=delivery.message.body,
    )
    if not table.bury(delivery, dead):
        return False
    extra = {"error_type": failure.error_type, "error": failure.error}
    log.error("dead", extra=_fields(delivery) | extra)
    return True


def _log_failure(delivery: Delivery, failure: Failure, delay_s: float) -> None:
    extra = {"kind": failure.kind, "error_type": failure.error_type, "error": failure.error}
    log.warning("retry", extra=_fields(delivery) | extra | {"retry_in_s": round(delay_s, 1)})


def _fields(delivery: Delivery) -> dict[str, Any]:
    message = delivery.message
    fields = {"message_id": message.id, "workload": message.workload, "receive_count": delivery.receive_count}
    return fields | {"trace_id": trace_id(message.trace)} if message.trace else fields
