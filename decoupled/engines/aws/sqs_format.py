"""Messages as SQS carries them: the body is the entry's JSON text, and what else is known of it stands in message
attributes, which the console shows and a redrive keeps; the group, in MessageGroupId. The only place that writes or
reads these. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from decoupled.core import limits, stack_limits, traces
from decoupled.core.identifiers import derived_id, is_id
from decoupled.core.outcomes import Delivery, Record
from decoupled.core.times import parse_ms, rfc3339
from decoupled.core.workload import Message

Entry = dict[str, Any]  # of a SendMessageBatch, without its Id
SqsEvent = Mapping[str, Any]
"""What the event source mapping hands to Lambda."""

# --- out


def entry(message: Message) -> Entry:
    attributes = {
        "id": message.id,
        "workload": message.workload,
        "caller": message.caller,
        "accepted_at": str(message.accepted_at),
        "digest": message.digest,
        "callback": message.callback,
        "hops": str(message.hops or ""),
    }
    sent: Entry = {
        "MessageBody": message.body,
        "MessageAttributes": _attributes(attributes),
        "MessageGroupId": group_id(message),
    }
    if message.trace:
        sent["MessageSystemAttributes"] = _attributes({"AWSTraceHeader": traces.xray(message.trace)})
        sent["MessageAttributes"] |= _attributes({"tracestate": traces.state(message.trace)})
    return sent


def scheduled(message: Message) -> Entry:
    """The entry for a schedule, which puts it on the queue later. The context of a trace is an attribute of ours there:
    the scheduler has a trace of its own to tell of in AWSTraceHeader."""
    sent = entry(message)
    if sent.pop("MessageSystemAttributes", None):
        sent["MessageAttributes"].pop("tracestate", None)
        sent["MessageAttributes"] |= _attributes({"trace": message.trace})
    return sent


def in_order(sent: Entry, message: Message, occasion: str = "") -> Entry:
    """The entry for a FIFO queue. That drops, without a word, whatever has the deduplication id of what it took within
    five minutes; so a message that is sent again on purpose, a dead letter say, needs an `occasion` of its own."""
    deduplication_id = derived_id(message.id, "again", occasion) if occasion else message.id
    return {**sent, "MessageDeduplicationId": deduplication_id}


def dead_letter_entry(message: Message, record: Record) -> Entry:
    """The entry with its story: as much of that as SQS has attributes for, the most important first. The record has
    all of it."""
    sent = entry(message)
    for name in ("digest", "hops", "tracestate"):  # redriven by hand, a message begins a chain anew
        sent["MessageAttributes"].pop(name, None)
    died_at = record.finished_at or record.accepted_at
    story = {
        "dead_at": rfc3339(died_at),
        "error_type": record.error_type,
        "error": record.error,
        "attempts": str(record.attempts),
        "first_failed_at": rfc3339(record.first_failed_at or died_at),
        "last_failed_at": rfc3339(record.last_failed_at or died_at),
    }
    everything = [*sent["MessageAttributes"].items(), *_attributes(story).items()]
    full = dict(everything[: limits.MAX_SQS_ATTRIBUTES])
    # A stranger's message may fill SQS's 1 MiB to the last byte. Then the story is told by the record alone.
    nothing: dict[str, Any] = {}
    for attributes in (full, sent["MessageAttributes"], nothing):
        sent["MessageAttributes"] = attributes
        if _size(sent) <= limits.MAX_SQS_BYTES:
            break
    return sent


_NOT_IN_SQS = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _attributes(values: Mapping[str, str | None]) -> dict[str, Any]:
    """Message attributes of type String; SQS takes no empty ones, and only the characters of XML 1.0."""
    return {
        name: {"DataType": "String", "StringValue": _NOT_IN_SQS.sub("\ufffd", value)}
        for name, value in values.items()
        if value
    }


_GROUP_ID = re.compile(f"[!-~]{{1,{limits.MAX_GROUP_ID_CHARS}}}")


def group_id(message: Message) -> str:
    """The group as SQS takes it, with the workload before it: `notifications:shop.example`. Of a group that is too
    long, or has other characters than visible ASCII, its digest; that is the group's name from there on."""
    workload, group = message.workload, message.group.encode(errors="replace").decode()
    for name in (f"{workload}:{group}", f"{workload}:{derived_id('group', group)}"):
        if _GROUP_ID.fullmatch(name):
            return name
    return derived_id("group", workload, group)  # a stranger's workload may be anything


def _group(group_id: str, workload: str) -> str:
    """The group again; "" where another version, or a stranger, sent the message."""
    prefix = f"{workload}:"
    return group_id.removeprefix(prefix) if workload and group_id.startswith(prefix) else ""


def batches(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
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


def numbered(entries: Sequence[Entry]) -> list[Entry]:
    return [{"Id": str(index), **entry} for index, entry in enumerate(entries)]


def delayed(entry: Entry, due_at: int, delay_s: float) -> Entry:
    """An entry that SQS hands out after a delay of its own, at most MAX_DELAY_S; and says when that was."""
    attributes = entry["MessageAttributes"] | _attributes({"due_at": str(due_at)})
    return {**entry, "MessageAttributes": attributes, "DelaySeconds": math.ceil(delay_s)}


def visibility(seconds: float) -> int:
    return min(math.ceil(seconds), stack_limits.MAX_HIDDEN_S)


# --- in


class SqsDelivery(Delivery, frozen=True):
    """With the name of the queue that its receipt is good for."""

    queue: str = ""


def deliveries(event: SqsEvent) -> list[Delivery]:
    """The records of a Lambda event as deliveries."""
    return [_delivery(record) for record in event["Records"]]


def _delivery(record: Mapping[str, Any]) -> Delivery:
    found = record.get("messageAttributes") or {}
    attributes = {name: (value or {}).get("stringValue") or "" for name, value in found.items()}
    system = record["attributes"]
    message = message_of(record["messageId"], record["body"], attributes, system)
    sent_at, due_at = parse_ms(system.get("SentTimestamp", "")), parse_ms(attributes.get("due_at", ""))
    return SqsDelivery(
        message,
        record["receiptHandle"],
        int(system["ApproximateReceiveCount"]),
        waits_since=max(message.accepted_at, sent_at or 0, due_at or 0),
        tried_since=parse_ms(system.get("ApproximateFirstReceiveTimestamp", "")) or 0,
        queue=str(record.get("eventSourceARN", "")).rpartition(":")[2],
    )


def batch_item_failures(event: SqsEvent, failed: Sequence[Delivery]) -> dict[str, Any]:
    """The answer that makes Lambda deliver these again, and delete the event's other messages."""
    message_ids = {record["receiptHandle"]: record["messageId"] for record in event["Records"]}
    return {"batchItemFailures": [{"itemIdentifier": message_ids[delivery.receipt]} for delivery in failed]}


def received_attributes(received: Mapping[str, Any]) -> dict[str, str]:
    """The attributes of a message as ReceiveMessage answers it."""
    return {
        name: (value or {}).get("StringValue") or "" for name, value in received.get("MessageAttributes", {}).items()
    }


SYSTEM_ATTRIBUTES = ["SentTimestamp", "MessageGroupId", "AWSTraceHeader"]
"""What a receive must ask for, of what SQS itself knows of a message."""


def message_of(sqs_id: str, body: str, attributes: Mapping[str, str], system: Mapping[str, str]) -> Message:
    """A message from its attributes and SQS's own. A stranger's has no workload, SQS's id, and the time when it was
    sent."""
    message_id, workload = attributes.get("id", ""), attributes.get("workload", "")
    accepted_at = parse_ms(attributes.get("accepted_at", ""))
    if accepted_at is None:
        accepted_at = parse_ms(str(system.get("SentTimestamp", ""))) or 0
    return Message(
        id=message_id if is_id(message_id) else sqs_id,
        workload=workload,
        body=body,
        caller=attributes.get("caller", ""),
        accepted_at=accepted_at,
        group=_group(system.get("MessageGroupId", ""), workload),
        digest=attributes.get("digest", ""),
        callback=attributes.get("callback", ""),
        trace=_trace(attributes, system),
        hops=parse_ms(attributes.get("hops", "")) or 0,
    )


def _trace(attributes: Mapping[str, str], system: Mapping[str, str]) -> str:
    """The context of a trace, as a schedule's or SQS's own attribute has it."""
    if trace := traces.kept(attributes.get("trace", "")):
        return trace
    trace = traces.of_xray(system.get("AWSTraceHeader", ""))
    return traces.kept(f"{trace} {attributes.get('tracestate', '')}") if trace else ""
