"""Dead letters out of a record's attributes or a message on SQS's dead-letter queue, and back. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from decoupled.core.dead_letters import DeadLetter
from decoupled.core.outcomes import Record
from decoupled.core.workload import Message
from decoupled.engines.aws import records
from decoupled.engines.aws.attributes import Attributes, decode_time
from decoupled.engines.aws.dead_letter_queue import Copy

STORY = (
    *("finished_at", "error_type", "error", "first_failed_at", "last_failed_at", "traceback", "body", "group"),
    *("callback", "trace", "dead", "dead_at", "edited_at"),
)
"""What a record loses that is redriven."""
OF_DEATH = [name for name in STORY if name != "finished_at"]
"""And what one that is purged."""
_QUEUE_BURIED = "MaxReceiveCountExceeded"
_UNTOLD = "received more often than the queue's redrive policy allows, and never settled: what took it died each time"


def names(attributes: Sequence[str]) -> str:
    """As an expression has them, whatever words DynamoDB has taken for itself."""
    return ", ".join(f"#{name}" for name in attributes)


def recorded(item: Attributes, retention_ms: int) -> DeadLetter:
    """The dead letter that a dead record is."""
    record = records.record(item)
    dead_at = decode_time(item["dead_at"])
    return DeadLetter(
        id=record.id,
        workload=record.workload,
        caller=record.caller,
        group=records.group_of(item),
        accepted_at=record.accepted_at,
        dead_at=dead_at,
        attempts=record.attempts,
        buried_by="queue" if record.error_type == _QUEUE_BURIED else "processor",
        error_type=record.error_type or "",
        error=record.error or "",
        first_failed_at=record.first_failed_at,
        last_failed_at=record.last_failed_at,
        traceback=record.traceback,
        digest=record.digest,
        sqs_deletes_at=dead_at + retention_ms,
        body=record.body,
        callback=records.callback_of(item),
        trace=records.trace_of(item),
    )


def message(item: Attributes, body: str) -> Message:
    """The message again that a dead record is of."""
    record = records.record(item)
    return Message(
        record.id,
        record.workload,
        body,
        record.caller,
        record.accepted_at,
        records.group_of(item),
        digest=record.digest,
        callback=records.callback_of(item),
        trace=records.trace_of(item),
    )


def copied(letter: DeadLetter) -> Message:
    """The message, without its body, that a dead letter is of which has no record."""
    return Message(
        letter.id,
        letter.workload,
        "",
        letter.caller,
        letter.accepted_at,
        letter.group,
        callback=letter.callback,
        trace=letter.trace,
    )


def untold(copy: Copy, retention_ms: int, body: bool) -> DeadLetter:
    """The dead letter that a message without a dead record is. SQS does not tell when it moved one: `dead_at` is when
    the message was sent, which is when its time began to run."""
    message = copy.message
    return DeadLetter(
        id=message.id,
        workload=message.workload,
        caller=message.caller,
        group=message.group,
        accepted_at=message.accepted_at,
        dead_at=copy.sent_at,
        digest=message.digest,
        attempts=0,
        buried_by="processor" if copy.told else "queue",
        error_type=copy.attributes.get("error_type", _QUEUE_BURIED),
        error=copy.attributes.get("error", _UNTOLD),
        sqs_deletes_at=copy.sent_at + retention_ms,
        recorded=False,
        body=message.body if body else None,
        callback=message.callback,
        trace=message.trace,
    )


def record(letter: DeadLetter) -> Record:
    """The dead record that a dead letter becomes when it is imported."""
    return Record(
        id=letter.id,
        workload=letter.workload,
        status="dead",
        accepted_at=letter.accepted_at,
        caller=letter.caller,
        finished_at=letter.dead_at,
        attempts=letter.attempts,
        error_type=letter.error_type,
        error=letter.error,
        first_failed_at=letter.first_failed_at,
        last_failed_at=letter.last_failed_at,
        traceback=letter.traceback,
        digest=letter.digest,
        body=letter.body,
    )
