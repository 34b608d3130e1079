"""The back: an SQS event becomes stored results. Decides what each message comes to, commits that in one atomic step a
message (`settlement.py`), and gives back only what must be tried again.

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
import re
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

import msgspec

from decoupled import limits
from decoupled.effects import encode
from decoupled.engine import Decision, Delivery, Failure, FailureKind, Queue, Record, Reject, Table
from decoupled.workload import Message, Rejected, Unavailable, Workloads, decoder, load
from functions.settlement import DUPLICATE, FINAL, Policy, settle

log = logging.getLogger("decoupled.processor")

SqsEvent = Mapping[str, Any]

TIME_RESERVED_S = 3.0  # of the function's time, for committing what was decided: a store's time-out and one retry
FAIR_SHARE = 0.5  # of a batch's time: a message that was left less is not to blame for running out of it
INTERRUPT_AGAIN_S = 1.0  # a workload that caught the interruption itself is interrupted again
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
    time_s = remaining_s()
    reserved_s = min(TIME_RESERVED_S, time_s / 4)  # a short function timeout still leaves time to process

    def decide_one(delivery: Delivery) -> Decision:
        return decide(delivery.message, workloads, remaining_s() - reserved_s, whole_s=time_s - reserved_s)

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
        elif record.status in FINAL:
            failed += settle([(delivery, DUPLICATE)], queue, table, policy)
        elif record.attempts > policy.max_attempts and _crashes_explain(record, delivery):
            failed += settle([(delivery, _never_returned(record))], queue, table, policy, counted=True)
        else:
            failed += settle([(delivery, decide_one(delivery))], queue, table, policy, counted=True)
    return failed


def _crashes_explain(record: Record, delivery: Delivery) -> bool:
    """What kills its process leaves a mark at every delivery. A table that is sick on and off leaves one now and then:
    the start is counted, and neither the commit nor the taking back gets through."""
    return 2 * record.attempts > delivery.receive_count


def _never_returned(record: Record) -> Failure:
    if record.error_type is not None:
        return Failure("failed", record.error_type, record.error or "")
    return Failure(
        "failed", "Crashed", f"{record.attempts - 1} attempts began and none returned: a crash or a time-out"
    )


# --- decide: pure -------------------------------------------------------------


def read(record: Mapping[str, Any]) -> Delivery:
    """A record of an SQS event as a Delivery. What is not one of our messages gets an empty workload, and is dead."""
    attributes, system = record.get("messageAttributes") or {}, record["attributes"]

    def attribute(name: str, default: str) -> str:
        value: str = (attributes.get(name) or {}).get("stringValue") or default
        return value

    message_id = attribute("id", record["messageId"])
    accepted_at = attribute("accepted_at", str(system.get("SentTimestamp", "")))
    message = Message(
        id=message_id if _ID.fullmatch(message_id) else record["messageId"],
        workload=attribute("workload", ""),
        body=record["body"],
        caller=attribute("caller", ""),
        accepted_at=int(accepted_at) if _MILLISECONDS.fullmatch(accepted_at) else 0,
    )
    return Delivery(message, record["receiptHandle"], int(system["ApproximateReceiveCount"]))


_ID = re.compile(rf"[A-Za-z0-9._~-]{{1,{limits.MAX_ID_CHARS}}}")
_MILLISECONDS = re.compile(r"[0-9]{1,14}")  # until the year 5138


def decide(message: Message, workloads: Workloads, limit_s: float, whole_s: float | None = None) -> Decision:
    """What a message comes to, within `limit_s` seconds. Never raises: a workload's exceptions are verdicts.

    `whole_s` is the time that the batch had, if messages before this one used some of it."""
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
        entry = decoder(workload.schema).decode(message.body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return _failure("undecodable", error)
    except Exception as error:  # noqa: BLE001  the schema's own checks raised what is no verdict on the entry
        return _failure("failed", error)
    try:
        with _TimeLimit(limit_s):
            effects = workload.process(entry, message)
        return encode(effects, message, workloads)
    except Rejected as verdict:
        return Reject(_text(verdict))
    except (Unavailable, ConnectionError, TimeoutError) as error:
        return unavailable(error)
    except _TimeLimitExceeded:
        blameless = whole_s is not None and limit_s < FAIR_SHARE * whole_s
        kind: FailureKind = "not_started" if blameless else "failed"
        return Failure(kind, "TimeLimitExceeded", f"it took longer than the {limit_s:.1f} s that were left")
    except (Exception, SystemExit) as error:
        log.debug("workload raised", exc_info=error, extra={"message_id": message.id})
        return _failure("failed", error)


def unavailable(error: Exception) -> Failure:
    """A sick backend as a Failure."""
    retry_after_s = getattr(error, "retry_after_s", None)
    return _failure("unavailable", error, retry_after_s if isinstance(retry_after_s, (int, float)) else None)


def _failure(kind: FailureKind, error: BaseException, retry_after_s: float | None = None) -> Failure:
    return Failure(kind, type(error).__name__, _text(error), retry_after_s)


def _text(error: BaseException) -> str:
    """What an exception says, as text that every store takes: bounded, and without unpaired surrogates."""
    return str(error)[: limits.MAX_ERROR_CHARS].encode(errors="replace").decode()


class _TimeLimitExceeded(BaseException):
    pass


class _TimeLimit:
    """Interrupt what runs longer than that. Only the main thread can be interrupted, and there a function runs. The
    handler stays in place: setting it anew for each message would cost more than most messages take."""

    __slots__ = ("_seconds",)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds if threading.current_thread() is threading.main_thread() else 0.0

    def __enter__(self) -> None:
        if self._seconds:
            if signal.getsignal(signal.SIGALRM) is not _interrupt:
                signal.signal(signal.SIGALRM, _interrupt)
            signal.setitimer(signal.ITIMER_REAL, self._seconds, INTERRUPT_AGAIN_S)

    def __exit__(self, *_: object) -> None:
        if self._seconds:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise _TimeLimitExceeded


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
