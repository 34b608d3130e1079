"""SQS's dead-letter queue, looked at and not emptied. SQS cannot list: a look receives everything that is there, which
hides it from others for a moment, and gives it back afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from decoupled.core import limits
from decoupled.core.workload import Message
from decoupled.engines.aws.client import unavailable
from decoupled.engines.aws.sqs_format import message_of, received_attributes

HIDDEN_S = 300  # from others, by a look; a tool that dies leaves it so for this long
EMPTY_ANSWERS = 2  # in a row mean that nothing is left: each has asked all of SQS's servers (long polling)


@dataclass(frozen=True, slots=True)
class Copy:
    """A message on the dead-letter queue. `told`: the processor put it there, with its story in `attributes`; if not,
    SQS moved it. `sent_at`: milliseconds; SQS keeps the time of the first sending when it moves a message."""

    message: Message
    receipt: str
    sent_at: int
    attributes: dict[str, str]

    @property
    def told(self) -> bool:
        """Did the processor bury it?"""
        return "dead_at" in self.attributes


class DeadLetterQueue:
    """One look at the queue, and what is done with what it found."""

    def __init__(self, sqs: Any, url: str, receive_wait_s: int = 1) -> None:
        self._sqs = sqs
        self._url = url
        self._receive_wait_s = receive_wait_s
        self.copies: dict[str, list[Copy]] = {}  # by message id; still hidden
        self.cut_short = False

    def retention_s(self) -> int:
        """How long SQS keeps a message."""
        with unavailable():
            answer = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["MessageRetentionPeriod"])
        return int(answer["Attributes"]["MessageRetentionPeriod"])

    def look(self) -> None:
        """Receive all there is, up to MAX_PEEKED."""
        empty, total = 0, 0
        while empty < EMPTY_ANSWERS and not self.cut_short:
            with unavailable():
                answer = self._sqs.receive_message(
                    QueueUrl=self._url,
                    MaxNumberOfMessages=limits.RECEIVE_MAX,
                    VisibilityTimeout=HIDDEN_S,
                    WaitTimeSeconds=self._receive_wait_s,
                    MessageAttributeNames=["All"],
                    MessageSystemAttributeNames=["SentTimestamp"],
                )
            received = answer.get("Messages", [])
            empty = 0 if received else empty + 1
            total += len(received)
            self.cut_short = total >= limits.MAX_PEEKED
            for message in received:
                copy = _copy(message)
                self.copies.setdefault(copy.message.id, []).append(copy)

    def delete(self, message_id: str) -> None:
        """Delete the copies of a message."""
        for copy in self.copies.pop(message_id, []):
            with unavailable():
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=copy.receipt)

    def release(self) -> None:
        """Give back what is still hidden. Where that fails, it comes back by itself."""
        left = [copy for copies in self.copies.values() for copy in copies]
        self.copies.clear()
        for batch in _tens(left):
            entries = [
                {"Id": str(index), "ReceiptHandle": copy.receipt, "VisibilityTimeout": 0}
                for index, copy in enumerate(batch)
            ]
            with unavailable():
                self._sqs.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)


def _tens(copies: list[Copy]) -> Iterable[list[Copy]]:
    return (copies[start : start + limits.RECEIVE_MAX] for start in range(0, len(copies), limits.RECEIVE_MAX))


def _copy(received: dict[str, Any]) -> Copy:
    attributes, sent_at = received_attributes(received), received["Attributes"]["SentTimestamp"]
    message = message_of(received["MessageId"], received["Body"], attributes, sent_at)
    return Copy(message, received["ReceiptHandle"], int(sent_at), attributes)
