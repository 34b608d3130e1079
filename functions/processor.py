"""The back: an SQS event becomes stored results. Decides what each message comes to, commits that in one atomic step a
message, and gives back only what must be tried again.

    event → read → decide (pure) → settle (commit, or count and back off, or bury) → batchItemFailures

A message delivered for the first time is decided with its batch. One that was delivered before may be what killed the
last attempt, so it is marked before it is touched, and goes alone:

    deliveries ─┬─ first ──────▶ decide all ──▶ settle all, concurrently
                └─ again, each ▶ count_attempt ▶ decide ▶ settle        the mark outlives a crash
"""

from __future__ import annotations

import functools
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import msgspec

from decoupled import limits
from decoupled.effects import encode
from decoupled.engine import Commit, Decision, Delivery, Failure, NotStored, Queue, Record, Reject, Stored, Table
from decoupled.retry import backoff_s
from decoupled.workload import Message, Rejected, Unavailable, Workloads, load

log = logging.getLogger("decoupled.processor")

SqsEvent = Mapping[str, Any]

TIME_RESERVED_S = 3.0  # of the function's time, for committing what was decided: a store's time-out and one retry
_NOT_STARTED = Failure("not_started", "NotStarted", "the function's time was used up by the messages before it")


def handle(
    event: SqsEvent,
    queue: Queue,
    table: Table,
    workloads: Workloads,
    max_attempts: int,
    remaining_s: Callable[[], float],
) -> dict[str, Any]:
    """Process a batch from SQS; answer `{"batchItemFailures": [...]}` with what must be delivered again, only."""
    deliveries = [read(record) for record in event["Records"]]
    message_ids = {record["receiptHandle"]: record["messageId"] for record in event["Records"]}
    policy = Policy(max_attempts)

    def decide_one(delivery: Delivery) -> Decision:
        return decide(delivery.message, workloads, remaining_s() - TIME_RESERVED_S)

    first = [delivery for delivery in deliveries if delivery.receive_count == 1]
    failed = settle([(delivery, decide_one(delivery)) for delivery in first], queue, table, policy)
    failed += _process_again(
        [delivery for delivery in deliveries if delivery.receive_count > 1], decide_one, queue, table, policy
    )
    return {"batchItemFailures": [{"itemIdentifier": message_ids[delivery.receipt]} for delivery in failed]}


def _process_again(
    suspects: Sequence[Delivery],
    decide_one: Callable[[Delivery], Decision],
    queue: Queue,
    table: Table,
    policy: Policy,
) -> list[Delivery]:
    failed: list[Delivery] = []
    sick: Failure | None = None  # the table's last answer; once it is sick, the rest need not wait for its time-outs
    for delivery in suspects:
        if sick is None:
            try:
                record = table.count_attempt(delivery.message, None, policy.now_ms())
            except Unavailable as error:
                sick = unavailable(error)
        if sick is not None:
            failed += settle([(delivery, sick)], queue, table, policy)
        elif record.status in ("processed", "rejected"):
            failed += settle([(delivery, Commit("{}"))], queue, table, policy)  # a duplicate: sends what it still emits
        elif record.attempts > policy.max_attempts:
            failed += settle([(delivery, _never_returned(record))], queue, table, policy, counted=True)
        else:
            failed += settle([(delivery, decide_one(delivery))], queue, table, policy, counted=True)
    return failed


def _never_returned(record: Record) -> Failure:
    if record.error_type is not None:
        return Failure("failed", record.error_type, record.error or "")
    return Failure(
        "failed", "Crashed", f"{record.attempts - 1} attempts began and none returned: a crash or a time-out"
    )


# --- decide: pure -------------------------------------------------------------


def read(record: Mapping[str, Any]) -> Delivery:
    """A record of an SQS event as a Delivery. What is not one of our messages gets an empty workload, and is dead."""
    attributes, system = record.get("messageAttributes", {}), record["attributes"]

    def attribute(name: str, default: str) -> str:
        value: str = attributes.get(name, {}).get("stringValue", default)
        return value

    accepted_at = attribute("accepted_at", str(system.get("SentTimestamp", "")))
    message = Message(
        id=attribute("id", record["messageId"])[: limits.MAX_ID_CHARS],
        workload=attribute("workload", ""),
        body=record["body"],
        caller=attribute("caller", ""),
        accepted_at=int(accepted_at) if accepted_at.isdecimal() else 0,
    )
    return Delivery(message, record["receiptHandle"], int(system["ApproximateReceiveCount"]))


def decide(message: Message, workloads: Workloads, limit_s: float) -> Decision:
    """What a message comes to, within `limit_s` seconds. Never raises: a workload's exceptions are verdicts."""
    if limit_s <= 0:
        return _NOT_STARTED
    if not message.workload:
        return Failure(
            "undecodable", "NotOurs", "the message has no workload attribute: it was not sent by the receiver"
        )
    workload = workloads.get(message.workload)
    if workload is None:
        return Failure("failed", "UnknownWorkload", f"workload {message.workload!r} is not among those served here")
    try:
        entry = _decoder(workload.schema).decode(message.body)
    except (msgspec.DecodeError, RecursionError) as error:
        return Failure("undecodable", type(error).__name__, str(error))
    try:
        with _time_limit(limit_s):
            effects = workload.process(entry, message)
        return encode(effects, message, workloads)
    except Rejected as verdict:
        return Reject(str(verdict))
    except Unavailable as error:
        return unavailable(error)
    except (ConnectionError, TimeoutError) as error:
        return unavailable(error)
    except _TimeLimitExceeded:
        return Failure("failed", "TimeLimitExceeded", f"it took longer than the {limit_s:.1f} s that were left")
    except Exception as error:
        log.debug("workload raised", exc_info=error, extra={"message_id": message.id})
        return Failure("failed", type(error).__name__, str(error)[: limits.MAX_ERROR_CHARS])


def unavailable(error: Exception) -> Failure:
    """A sick backend as a Failure."""
    retry_after_s = getattr(error, "retry_after_s", None)
    return Failure("unavailable", type(error).__name__, str(error)[: limits.MAX_ERROR_CHARS], retry_after_s)


@functools.cache
def _decoder(schema: type[msgspec.Struct]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(schema)


class _TimeLimitExceeded(BaseException):
    pass


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Interrupt what runs longer than that. Only the main thread can be interrupted, and there a function runs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    if signal.getsignal(signal.SIGALRM) is not _interrupt:
        signal.signal(signal.SIGALRM, _interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise _TimeLimitExceeded


# --- settle: the only part that writes ----------------------------------------


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
            _log_failure(delivery, unavailable(error), delay)
        if delay is not None:
            delays.append((delivery, delay))
    if delays:
        queue.retry_later(delays)
    return [delivery for delivery, _ in delays]


def _finish(delivery: Delivery, outcome: Stored | NotStored, queue: Queue) -> Failure | None:
    """Send what a stored message emits; answer why it must be delivered again, if it must."""
    if isinstance(outcome, NotStored):
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
    if record.status in ("processed", "rejected"):
        return None  # another delivery of the same message got there first
    if failure.kind == "undecodable" or record.attempts >= policy.max_attempts:
        _bury(delivery, failure, record, queue, table, now_ms)
        return None
    delay = backoff_s(record.attempts, policy.spread(), failure.retry_after_s)
    _log_failure(delivery, failure, delay)
    return delay


def _bury(delivery: Delivery, failure: Failure, record: Record, queue: Queue, table: Table, now_ms: int) -> None:
    """Move a message to the dead letters: first the record, which GET shows and which keeps the body, then the queue.
    A crash in between delivers the message again, and it is buried again under the same id."""
    dead = msgspec.structs.replace(
        record,
        status="dead",
        finished_at=now_ms,
        error_type=failure.error_type,
        error=failure.error,
        body=delivery.message.body,
    )
    if table.mark_dead(dead):
        queue.bury(delivery, dead)
        log.error("dead", extra=_fields(delivery) | {"error_type": failure.error_type, "error": failure.error})


def _log_failure(delivery: Delivery, failure: Failure, delay_s: float) -> None:
    extra = {"kind": failure.kind, "error_type": failure.error_type, "error": failure.error}
    log.warning("retry", extra=_fields(delivery) | extra | {"retry_in_s": round(delay_s, 1)})


def _fields(delivery: Delivery) -> dict[str, Any]:
    message = delivery.message
    return {"message_id": message.id, "workload": message.workload, "receive_count": delivery.receive_count}


# --- on Lambda ----------------------------------------------------------------


def handler(event: SqsEvent, context: Any) -> dict[str, Any]:
    """Lambda's entry point, behind the event source mapping with ReportBatchItemFailures."""
    return handle(event, *_deployed(), remaining_s=lambda: context.get_remaining_time_in_millis() / 1000)


@functools.cache
def _deployed() -> tuple[Queue, Table, Workloads, int]:
    from decoupled.aws.dynamodb import DynamoTable
    from decoupled.aws.sqs import SqsQueue

    queue, table = SqsQueue.from_environment(os.environ), DynamoTable.from_environment(os.environ)
    return queue, table, load(os.environ["WORKLOADS"].split(",")), int(os.environ["MAX_ATTEMPTS"])


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _deployed()  # connect while Lambda lends a start-up a whole CPU
