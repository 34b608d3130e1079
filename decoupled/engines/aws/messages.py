"""What the functions do with a queue of SQS: send, put off, and keep a copy of a dead letter. Which of a stack's queues
that is stands in `queues.py`; how a message looks there, in `sqs_format.py`; what is due later than SQS can delay, in
`schedules.py`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from decoupled.core import limits, stack_limits
from decoupled.core.identifiers import derived_id
from decoupled.core.outcomes import Delivery, NotSent, Record
from decoupled.core.times import now_ms
from decoupled.core.workload import Message, Unavailable
from decoupled.engines.aws.client import AwsError, code, detail, never_left
from decoupled.engines.aws.schedules import Schedules
from decoupled.engines.aws.sqs_format import (
    Entry,
    batches,
    dead_letter_entry,
    delayed,
    entry,
    in_order,
    numbered,
    scheduled,
    visibility,
)

log = logging.getLogger("decoupled.sqs")


class SqsQueue:
    """Implements Producer and Consumer on one queue. Messages are handed out by the event source mapping."""

    def __init__(
        self,
        sqs: Any,
        queue_url: str,
        dead_letter_queue_url: str,
        schedules: Schedules | None = None,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        self._sqs = sqs
        self._url = queue_url
        self.name = queue_url.rpartition("/")[2]
        self._dead_letter_url = dead_letter_queue_url
        self._schedules = schedules
        self._clock_ms = clock_ms
        self._fifo = queue_url.endswith(".fifo")
        self._threads = ThreadPoolExecutor(limits.AWS_CONCURRENCY, "sqs")  # starts none before the first large send

    def send(self, messages: Sequence[Message]) -> list[NotSent | None]:
        """SendMessageBatch calls of ten messages and at most 1 MiB, several at a time; to a FIFO queue one after the
        other, because it keeps the order in which they arrive. A schedule for each that is due later than SQS can delay
        it; a FIFO queue delays no single message at all."""
        now = self._clock_ms()
        longest_ms = 0 if self._fifo else limits.MAX_DELAY_S * 1000
        later = [m.due_at is not None and m.due_at - now > longest_ms for m in messages]
        calls = list(
            batches([self._entry(m, now) for m, is_later in zip(messages, later, strict=True) if not is_later])
        )
        one_by_one = len(calls) <= 1 or self._fifo
        answers = (map if one_by_one else self._threads.map)(self._send_batch, calls)
        sent = iter([outcome for outcomes in answers for outcome in outcomes])
        scheduled = self._threads.map(
            self._schedule, [m for m, is_later in zip(messages, later, strict=True) if is_later]
        )
        return [next(scheduled) if is_later else next(sent) for is_later in later]

    def _entry(self, message: Message, now: int) -> Entry:
        sent = entry(message)
        if self._fifo:
            return in_order(sent, message)
        wait_ms = 0 if message.due_at is None else message.due_at - now
        return delayed(sent, message.due_at or 0, wait_ms / 1000) if wait_ms > 0 else sent

    def _schedule(self, message: Message) -> NotSent | None:
        """Under the name of its id: sent again, the first one counts."""
        if self._schedules is None or message.due_at is None:
            return NotSent(f"nothing here can be due later than {limits.MAX_DELAY_S} s", transient=False)
        sent = scheduled(message)
        return self._schedules.create(in_order(sent, message) if self._fifo else sent, message.due_at, message.id)

    def send_again(self, message: Message, occasion: str) -> NotSent | None:
        """Send a message that was sent before, on purpose: for the same occasion twice has no further effect."""
        again = entry(message)
        (outcome,) = self._send_batch([in_order(again, message, occasion) if self._fifo else again])
        return outcome

    def _send_batch(self, entries: Sequence[Entry]) -> list[NotSent | None]:
        try:
            answer = self._sqs.send_message_batch(QueueUrl=self._url, Entries=numbered(entries))
        except AwsError as error:
            return [NotSent(detail(error), unknown=not never_left(error))] * len(entries)
        sent = {entry["Id"] for entry in answer.get("Successful", [])}
        failed = {entry["Id"]: entry for entry in answer.get("Failed", [])}
        return [None if str(index) in sent else _not_sent(failed.get(str(index))) for index in range(len(entries))]

    def retry_later(self, delays: Sequence[tuple[Delivery, float]]) -> None:
        """Where it fails, nothing is lost: the message comes back when its visibility timeout is over, as it would have
        without this call. So a failure is logged, and the batch's other messages go on. SQS's twelve hours count from
        the receipt, and where they would be exceeded it sets nothing: what was received long ago waits less."""
        entries = [
            {"ReceiptHandle": delivery.receipt, "VisibilityTimeout": visibility(delay)} for delivery, delay in delays
        ]
        try:
            refused = self._hide(entries)
            if any(entry["VisibilityTimeout"] > stack_limits.SURELY_HIDDEN_S for entry in refused):
                self._hide(
                    [
                        {**entry, "VisibilityTimeout": min(entry["VisibilityTimeout"], stack_limits.SURELY_HIDDEN_S)}
                        for entry in refused
                    ]
                )
        except Unavailable as error:
            log.warning("backoff not set", extra={"error": str(error)})

    def defer(self, due: Sequence[tuple[Delivery, int]], now_ms: int) -> list[Delivery]:
        """Within SQS's longest delay, by the visibility timeout. What is due later would be in flight all that time, of
        which a queue has 120,000: a schedule puts a copy on the queue then, and this delivery is to be deleted. Where
        there can be no schedule, the message comes back sooner, and is found not due again; nor is there one for a FIFO
        queue, where the message keeps its place, and those of its group behind it."""
        given_back = []
        for delivery, due_at in due:
            delay_s = (due_at - now_ms) / 1000
            if delay_s <= limits.MAX_DELAY_S or self._fifo:
                given_back.append((delivery, delay_s))
            elif (unsent := self._schedule_again(delivery.message, due_at)) is not None:
                log.warning("not scheduled", extra={"message_id": delivery.message.id, "error": unsent.detail})
                longest_s = limits.BACKOFF_CAP_S if unsent.transient else limits.MAX_VISIBILITY_TIMEOUT_S
                given_back.append((delivery, min(delay_s, longest_s)))
        if given_back:
            self.retry_later(given_back)
        return [delivery for delivery, _ in given_back]

    def _schedule_again(self, message: Message, due_at: int) -> NotSent | None:
        """Under a name of its own, since the schedule that brought it may not be deleted yet; the same for the same
        minute, should the process die before the delivery is deleted."""
        if self._schedules is None:
            return NotSent("no schedules are set up here", transient=False)
        return self._schedules.create(
            scheduled(message), due_at, derived_id(message.id, "not before", str(due_at // 60_000))
        )

    def send_dead_letter(self, message: Message, dead: Record) -> None:
        """Put a copy on the dead-letter queue, with the body as it was and the story in attributes: it rings the alarm,
        and keeps bodies that no record could. Raises Unavailable."""
        try:
            self._sqs.send_message(QueueUrl=self._dead_letter_url, **dead_letter_entry(message, dead))
        except AwsError as error:
            raise Unavailable(detail(error)) from error

    def _hide(self, entries: Sequence[Entry]) -> list[Entry]:
        """Set the visibility timeouts, ten in a call. Returns those that SQS refused: their receipts have lapsed, or
        the time is too long; which of them, where it refuses a whole call, is not known. Raises Unavailable."""
        refused: list[Entry] = []
        for start in range(0, len(entries), limits.RECEIVE_MAX):
            some = entries[start : start + limits.RECEIVE_MAX]
            try:
                answer = self._sqs.change_message_visibility_batch(QueueUrl=self._url, Entries=numbered(some))
            except AwsError as error:
                if code(error) != "InvalidParameterValue":
                    raise Unavailable(detail(error)) from error
                refused += some
                continue
            for failed in answer.get("Failed", []):
                if failed["Code"] not in _LAPSED:
                    raise Unavailable(f"{failed['Code']}: {failed.get('Message', '')}")
                refused.append(some[int(failed["Id"])])
        return refused


# What SQS says of a receipt whose message was received again, is visible again, or is gone.
_LAPSED = (
    "ReceiptHandleIsInvalid",
    "InvalidParameterValue",
    "MessageNotInflight",
    "AWS.SimpleQueueService.MessageNotInflight",
)
# Entries that SQS blames on the sender, and takes a moment later.
_TRANSIENT = ("KmsThrottled", "KMS.ThrottlingException", "RequestThrottled", "ThrottlingException", "OverLimit")


def _not_sent(failed: Mapping[str, Any] | None) -> NotSent:
    if failed is None:
        return NotSent("SQS did not mention the message in its answer", unknown=True)
    transient = not failed.get("SenderFault", False) or failed["Code"] in _TRANSIENT
    return NotSent(f"{failed['Code']}: {failed.get('Message', '')}", transient=transient)
