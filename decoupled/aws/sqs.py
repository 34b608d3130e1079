"""Messages on an SQS standard queue with its dead-letter queue: the Queue protocol. A message's body is the entry's
JSON text; what else is known of it stands in message attributes, which the console shows and a redrive keeps."""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from decoupled import limits
from decoupled.aws.attributes import rfc3339
from decoupled.aws.client import AwsError, client, detail, never_left
from decoupled.engine import Delivery, NotSent, Record
from decoupled.workload import Message, Unavailable

log = logging.getLogger("decoupled.sqs")

Entry = dict[str, Any]  # of a SendMessageBatch, without its Id


class SqsQueue:
    """The Queue protocol on SQS. `receive_wait_s`: how long a receive waits for a first message (long polling)."""

    def __init__(self, sqs: Any, queue_url: str, dead_letter_queue_url: str, receive_wait_s: int = 1) -> None:
        self._sqs = sqs
        self._url = queue_url
        self._dead_letter_url = dead_letter_queue_url
        self._receive_wait_s = receive_wait_s
        self._threads = ThreadPoolExecutor(limits.AWS_CONCURRENCY, "sqs")  # starts none before the first large send

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> SqsQueue:
        """The queue that the function's environment names: QUEUE_URL, and DEAD_LETTER_QUEUE_URL where it buries."""
        return cls(client("sqs"), environ["QUEUE_URL"], environ.get("DEAD_LETTER_QUEUE_URL", ""))

    def send(self, messages: Sequence[Message], delay_s: float = 0) -> list[NotSent | None]:
        """As in the protocol: SendMessageBatch calls of ten messages and at most 1 MiB, several at a time."""
        delay = min(math.ceil(delay_s), limits.MAX_DELAY_S)
        entries = [_entry(message) | ({"DelaySeconds": delay} if delay else {}) for message in messages]
        batches = list(_batches(entries))
        if len(batches) == 1:
            return self._send_batch(batches[0])
        return [outcome for outcomes in self._threads.map(self._send_batch, batches) for outcome in outcomes]

    def _send_batch(self, entries: Sequence[Entry]) -> list[NotSent | None]:
        try:
            answer = self._sqs.send_message_batch(QueueUrl=self._url, Entries=_numbered(entries))
        except AwsError as error:
            return [NotSent(detail(error), unknown=not never_left(error))] * len(entries)
        sent = {entry["Id"] for entry in answer.get("Successful", [])}
        failed = {entry["Id"]: entry for entry in answer.get("Failed", [])}
        return [None if str(index) in sent else _not_sent(failed.get(str(index))) for index in range(len(entries))]

    def receive(self, maximum: int, visibility_timeout_s: float) -> list[Delivery]:
        """As in the protocol."""
        try:
            answer = self._sqs.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=maximum,
                VisibilityTimeout=_visibility(visibility_timeout_s),
                WaitTimeSeconds=self._receive_wait_s,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
            )
        except AwsError as error:
            raise Unavailable(detail(error)) from error
        return [_delivery(message) for message in answer.get("Messages", [])]

    def delete(self, deliveries: Sequence[Delivery]) -> None:
        """As in the protocol. SQS may deliver a deleted message again all the same; the table knows it then."""
        entries = [{"ReceiptHandle": delivery.receipt} for delivery in deliveries]
        self._batch(self._sqs.delete_message_batch, entries)

    def retry_later(self, delays: Sequence[tuple[Delivery, float]]) -> None:
        """As in the protocol. Where it fails, nothing is lost: the message comes back when its visibility timeout is
        over, as it would have without this call. So a failure is logged, and the batch's other messages go on."""
        entries = [
            {"ReceiptHandle": delivery.receipt, "VisibilityTimeout": _visibility(delay)} for delivery, delay in delays
        ]
        try:
            self._batch(self._sqs.change_message_visibility_batch, entries)
        except Unavailable as error:
            log.warning("backoff not set", extra={"error": str(error)})

    def bury(self, delivery: Delivery, record: Record) -> None:
        """As in the protocol. The copy on the dead-letter queue has the body as it was, and the story in attributes.

        Raises Unavailable if SQS did not take it."""
        entry = _dead_letter(delivery.message, record)
        try:
            self._sqs.send_message(QueueUrl=self._dead_letter_url, **entry)
        except AwsError as error:
            raise Unavailable(detail(error)) from error

    def _batch(self, call: Callable[..., Any], entries: Sequence[Entry]) -> None:
        """Call for ten entries at a time. Raises Unavailable if one failed for more than a lapsed receipt."""
        for start in range(0, len(entries), limits.RECEIVE_MAX):
            try:
                answer = call(QueueUrl=self._url, Entries=_numbered(entries[start : start + limits.RECEIVE_MAX]))
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


# --- messages as SQS carries them: pure ----------------------------------------


def _entry(message: Message) -> Entry:
    attributes = {
        "id": message.id,
        "workload": message.workload,
        "caller": message.caller,
        "accepted_at": str(message.accepted_at),
    }
    return {
        "MessageBody": message.body,
        "MessageAttributes": _attributes(attributes),
        "MessageGroupId": _group_id(message.caller),
    }


def _dead_letter(message: Message, record: Record) -> Entry:
    """The entry with its story: ten attributes, which is as many as SQS takes."""
    entry = _entry(message)
    story = {
        "error_type": record.error_type,
        "attempts": str(record.attempts),
        "first_failed_at": rfc3339(record.first_failed_at or record.finished_at or record.accepted_at),
        "last_failed_at": rfc3339(record.last_failed_at or record.finished_at or record.accepted_at),
        "dead_at": rfc3339(record.finished_at or record.accepted_at),
    }
    full = entry["MessageAttributes"] | _attributes(story) | _attributes({"error": record.error})
    # A stranger's message may fill SQS's 1 MiB to the last byte. Then the story is told by the record alone.
    nothing: dict[str, Any] = {}
    for attributes in (full, entry["MessageAttributes"], nothing):
        entry["MessageAttributes"] = attributes
        if _size(entry) <= limits.MAX_SQS_BYTES:
            break
    return entry


_NOT_IN_SQS = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _attributes(values: Mapping[str, str | None]) -> dict[str, Any]:
    """Message attributes of type String; SQS takes no empty ones, and only the characters of XML 1.0."""
    return {
        name: {"DataType": "String", "StringValue": _NOT_IN_SQS.sub("\ufffd", value)}
        for name, value in values.items()
        if value
    }


def _group_id(caller: str) -> str:
    """The tenant of a fair queue: no caller's flood delays the others' messages. Keeps no order."""
    if re.fullmatch(r"[!-~]{1,128}", caller):
        return caller
    return hashlib.sha256(caller.encode(errors="replace")).hexdigest()


def _batches(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        entry_size = _size(entry)
        if batch and (len(batch) == limits.RECEIVE_MAX or size + entry_size > limits.MAX_SQS_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry_size
    if batch:
        yield batch


def _size(entry: Entry) -> int:
    """Bytes as SQS counts them: the body, and each attribute's name, type and value."""
    return len(entry["MessageBody"].encode()) + sum(
        len(name) + len(attribute["DataType"]) + len(attribute["StringValue"].encode())
        for name, attribute in entry["MessageAttributes"].items()
    )


def _numbered(entries: Sequence[Entry]) -> list[Entry]:
    return [{"Id": str(index), **entry} for index, entry in enumerate(entries)]


def _visibility(seconds: float) -> int:
    return min(math.ceil(seconds), limits.MAX_VISIBILITY_TIMEOUT_S)


_ID = re.compile(rf"[A-Za-z0-9._~-]{{1,{limits.MAX_ID_CHARS}}}")
_MILLISECONDS = re.compile(r"[0-9]{1,14}")  # until the year 5138


def _delivery(message: Mapping[str, Any]) -> Delivery:
    """A received message as a Delivery, by the rules of functions/processor.read; a stranger's has no workload."""

    def attribute(name: str, default: str) -> str:
        value: str = message.get("MessageAttributes", {}).get(name, {}).get("StringValue", default)
        return value

    message_id = attribute("id", message["MessageId"])
    accepted_at = attribute("accepted_at", message["Attributes"].get("SentTimestamp", ""))
    return Delivery(
        Message(
            id=message_id if _ID.fullmatch(message_id) else message["MessageId"],
            workload=attribute("workload", ""),
            body=message["Body"],
            caller=attribute("caller", ""),
            accepted_at=int(accepted_at) if _MILLISECONDS.fullmatch(accepted_at) else 0,
        ),
        message["ReceiptHandle"],
        int(message["Attributes"]["ApproximateReceiveCount"]),
    )
