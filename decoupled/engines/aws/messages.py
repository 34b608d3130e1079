"""What the functions do with an SQS standard queue and its dead-letter queue: send, and put off. How a message looks
there is in `sqs_format.py`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from decoupled.core import limits
from decoupled.core.outcomes import Delivery, NotSent, Record
from decoupled.core.workload import Message, Unavailable
from decoupled.engines.aws.client import AwsError, client, detail, never_left
from decoupled.engines.aws.sqs_format import Entry, batches, dead_letter_entry, entry, numbered, visibility

log = logging.getLogger("decoupled.sqs")


class SqsQueue:
    """Implements Producer and Consumer. Messages are handed out by the event source mapping."""

    def __init__(self, sqs: Any, queue_url: str, dead_letter_queue_url: str) -> None:
        self._sqs = sqs
        self._url = queue_url
        self._dead_letter_url = dead_letter_queue_url
        self._threads = ThreadPoolExecutor(limits.AWS_CONCURRENCY, "sqs")  # starts none before the first large send

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> SqsQueue:
        """The queue that the function's environment names: QUEUE_URL, and DEAD_LETTER_QUEUE_URL where it buries."""
        return cls(client("sqs"), environ["QUEUE_URL"], environ.get("DEAD_LETTER_QUEUE_URL", ""))

    def send(self, messages: Sequence[Message]) -> list[NotSent | None]:
        """SendMessageBatch calls of ten messages and at most 1 MiB, several at a time."""
        calls = list(batches([entry(message) for message in messages]))
        if len(calls) == 1:
            return self._send_batch(calls[0])
        return [outcome for outcomes in self._threads.map(self._send_batch, calls) for outcome in outcomes]

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
