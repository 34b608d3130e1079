"""What the functions do with SQS's queues: send, put off, and keep a copy of a dead letter. How a message looks there
is in `sqs_format.py`; what is due later than SQS can delay, in `schedules.py`."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from decoupled.core import limits
from decoupled.core.identifiers import derived_id
from decoupled.core.outcomes import Delivery, NotSent, Record
from decoupled.core.times import now_ms
from decoupled.core.workload import Message, Unavailable, Workloads
from decoupled.engines.aws.client import AwsError, client, detail, never_left
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
        return delayed(sent, wait_ms / 1000) if wait_ms > 0 else sent

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
        """Where it fails, nothing is lost: the message comes back when its visibility timeout is
        over, as it would have without this call. So a failure is logged, and the batch's other messages go on."""
        entries = [
            {"ReceiptHandle": delivery.receipt, "VisibilityTimeout": visibility(delay)} for delivery, delay in delays
        ]
        try:
            self._batch(self._sqs.change_message_visibility_batch, entries)
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

    def _batch(self, call: Callable[..., Any], entries: Sequence[Entry]) -> None:
        """Call for ten entries at a time. Raises Unavailable if one failed for more than a lapsed receipt."""
        for start in range(0, len(entries), limits.RECEIVE_MAX):
            try:
                answer = call(QueueUrl=self._url, Entries=numbered(entries[start : start + limits.RECEIVE_MAX]))
            except AwsError as error:
                raise Unavailable(detail(error)) from error
            for failed in answer.get("Failed", []):
                if failed["Code"] not in _LAPSED:
                    raise Unavailable(f"{failed['Code']}: {failed.get('Message', '')}")


class QueuePair:
    """Implements Producer and Consumer on a standard queue, and a FIFO queue for the workloads that are `ordered`.

    What waits on the other queue, because its workload was not ordered before, or is not any more, is processed like
    all else; only its backoff cannot be set, and is the visibility timeout."""

    def __init__(self, standard: SqsQueue, fifo: SqsQueue, ordered: Collection[str]) -> None:
        self._standard = standard
        self._fifo = fifo
        self._ordered = ordered

    def send(self, messages: Sequence[Message]) -> list[NotSent | None]:
        """To each queue what is its own, in turn."""
        outcomes: dict[int, NotSent | None] = {}
        for queue in (self._standard, self._fifo):
            indexes = [index for index, message in enumerate(messages) if self._queue(message) is queue]
            if indexes:
                outcomes |= zip(indexes, queue.send([messages[index] for index in indexes]), strict=True)
        return [outcomes[index] for index in range(len(messages))]

    def send_again(self, message: Message, occasion: str) -> NotSent | None:
        """As an SqsQueue does."""
        return self._queue(message).send_again(message, occasion)

    def retry_later(self, delays: Sequence[tuple[Delivery, float]]) -> None:
        """As an SqsQueue does. On the FIFO queue a message that waits keeps those behind it waiting."""
        for queue in (self._standard, self._fifo):
            theirs = [(delivery, delay) for delivery, delay in delays if self._queue(delivery.message) is queue]
            if theirs:
                queue.retry_later(theirs)

    def defer(self, due: Sequence[tuple[Delivery, int]], now_ms: int) -> list[Delivery]:
        """As an SqsQueue does, each its own."""
        given_back: list[Delivery] = []
        for queue in (self._standard, self._fifo):
            theirs = [(delivery, due_at) for delivery, due_at in due if self._queue(delivery.message) is queue]
            given_back += queue.defer(theirs, now_ms)
        return given_back

    def send_dead_letter(self, message: Message, dead: Record) -> None:
        """All to the standard dead-letter queue: what is dead has no order, and a look at a FIFO queue sees no more
        than ten messages of a group."""
        self._standard.send_dead_letter(message, dead)

    def _queue(self, message: Message) -> SqsQueue:
        return self._fifo if message.workload in self._ordered else self._standard


def queues_of(environ: Mapping[str, str], workloads: Workloads) -> SqsQueue | QueuePair:
    """The queues that a function's environment names: QUEUE_URL, DEAD_LETTER_QUEUE_URL where it buries, and
    ORDERED_QUEUE_URL if the stack has ORDERED_WORKLOADS. Raises ValueError if these are not the workloads that are
    ordered."""
    ordered = {name for name, workload in workloads.items() if workload.ordered}
    if missing := ordered - {*environ.get("ORDERED_WORKLOADS", "").split(",")}:
        needed = ",".join(sorted(ordered))
        raise ValueError(
            f"the stack does not know that {min(missing)!r} is ordered: deploy with OrderedWorkloads={needed}"
        )
    dead_letter_url, ordered_url = environ.get("DEAD_LETTER_QUEUE_URL", ""), environ.get("ORDERED_QUEUE_URL", "")
    schedules = functools.partial(Schedules.from_environment, environ)
    return queues(client("sqs"), environ["QUEUE_URL"], dead_letter_url, ordered_url, ordered, schedules)


def queues(
    sqs: Any,
    url: str,
    dead_letter_url: str,
    ordered_url: str,
    ordered: Collection[str],
    schedules: Callable[[str], Schedules | None] = lambda _url: None,
) -> SqsQueue | QueuePair:
    """A stack's: with a FIFO queue for the workloads that are ordered, where it has one. `schedules` makes those that
    send to a queue."""
    standard = SqsQueue(sqs, url, dead_letter_url, schedules(url))
    if not ordered_url:
        return standard
    return QueuePair(standard, SqsQueue(sqs, ordered_url, dead_letter_url, schedules(ordered_url)), ordered)


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
