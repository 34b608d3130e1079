"""SQS's dead-letter queues, looked at and not emptied: the standard one, and a FIFO one for what SQS itself gave up on
the FIFO queue. SQS cannot list: a look receives everything that is there, which hides it from others for a moment, and
gives it back afterwards. Of a FIFO queue it sees ten messages of a group at most: those hide the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from decoupled.core import limits
from decoupled.core.workload import Message, Unavailable
from decoupled.engines.aws.client import unavailable
from decoupled.engines.aws.sqs_format import SYSTEM_ATTRIBUTES, message_of, received_attributes

HIDDEN_S = 300  # from others, by a look; a tool that dies leaves it so for this long
_DEPTHS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
EMPTY_ANSWERS = 2  # in a row mean that nothing is left: each has asked all of SQS's servers (long polling)


@dataclass(frozen=True, slots=True)
class Copy:
    """A message on the dead-letter queue. `told`: the processor put it there, with its story in `attributes`; if not,
    SQS moved it. `sent_at`: milliseconds; SQS keeps the time of the first sending when it moves a message."""

    message: Message
    queue_url: str
    receipt: str
    sent_at: int
    attributes: dict[str, str]

    @property
    def told(self) -> bool:
        """Did the processor bury it?"""
        return "dead_at" in self.attributes


class DeadLetterQueue:
    """One look at the queues, and what is done with what it found."""

    def __init__(self, sqs: Any, urls: Sequence[str], receive_wait_s: int = 1) -> None:
        self._sqs = sqs
        self._urls = urls
        self._receive_wait_s = receive_wait_s
        self.copies: dict[str, list[Copy]] = {}  # by message id; still hidden
        self.cut_short = False

    def retention_s(self) -> int:
        """How long SQS keeps a message."""
        return self._attribute(self._urls[0], "MessageRetentionPeriod")

    def look(self) -> None:
        """Receive all there is, up to MAX_PEEKED."""
        for url in self._urls:
            self._look(url)
            if url.endswith(".fifo") and self._attribute(url, "ApproximateNumberOfMessages"):
                self.cut_short = True

    def _look(self, url: str) -> None:
        empty, total = 0, 0
        while empty < EMPTY_ANSWERS and total < limits.MAX_PEEKED:
            with unavailable():
                answer = self._sqs.receive_message(
                    QueueUrl=url,
                    MaxNumberOfMessages=limits.RECEIVE_MAX,
                    VisibilityTimeout=HIDDEN_S,
                    WaitTimeSeconds=self._receive_wait_s,
                    MessageAttributeNames=["All"],
                    MessageSystemAttributeNames=SYSTEM_ATTRIBUTES,
                )
            received = answer.get("Messages", [])
            empty = 0 if received else empty + 1
            total += len(received)
            for message in received:
                copy = _copy(message, url)
                self.copies.setdefault(copy.message.id, []).append(copy)
        self.cut_short |= total >= limits.MAX_PEEKED

    def refuse_unseen(self) -> None:
        """Raises ValueError if there is more than a look can take; Unavailable while another look, or what a tool has
        left that was killed in one, hides some, HIDDEN_S at most."""
        if self.cut_short:
            raise ValueError("the dead-letter queue holds more than one look can take: redrive or purge some first")
        there = sum(self._attribute(url, name) for url in self._urls for name in _DEPTHS)
        if (hidden := there - sum(map(len, self.copies.values()))) > 0:
            raise Unavailable(f"{hidden:,} messages on the dead-letter queue are hidden by another look at it")

    def _attribute(self, url: str, name: str) -> int:
        with unavailable():
            answer = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])
        return int(answer["Attributes"][name])

    def delete(self, message_id: str) -> None:
        """Delete the copies of a message."""
        for copy in self.copies.pop(message_id, []):
            with unavailable():
                self._sqs.delete_message(QueueUrl=copy.queue_url, ReceiptHandle=copy.receipt)

    def release(self) -> None:
        """Give back what is still hidden. Where that fails, it comes back by itself."""
        left = [copy for copies in self.copies.values() for copy in copies]
        self.copies.clear()
        for url in self._urls:
            self._release(url, [copy for copy in left if copy.queue_url == url])

    def _release(self, url: str, left: Sequence[Copy]) -> None:
        for batch in _tens(left):
            entries = [
                {"Id": str(index), "ReceiptHandle": copy.receipt, "VisibilityTimeout": 0}
                for index, copy in enumerate(batch)
            ]
            with unavailable():
                self._sqs.change_message_visibility_batch(QueueUrl=url, Entries=entries)


def _tens(copies: Sequence[Copy]) -> Iterable[Sequence[Copy]]:
    return (copies[start : start + limits.RECEIVE_MAX] for start in range(0, len(copies), limits.RECEIVE_MAX))


def _copy(received: dict[str, Any], url: str) -> Copy:
    attributes, system = received_attributes(received), received["Attributes"]
    message = message_of(received["MessageId"], received["Body"], attributes, system)
    return Copy(message, url, received["ReceiptHandle"], int(system["SentTimestamp"]), attributes)
