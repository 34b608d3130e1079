"""Batches that a processor gets, and what of them comes back. For tests only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from decoupled.core.workload import Effects, Message, Put, Rejected, Unavailable, Workload
from tests.support.contract import message
from tests.support.engines import AwsEngine
from tests.support.events import process_event

EVERYTHING = "the whole batch comes back"


def mapping(answer: Any, batch: Sequence[str]) -> set[str] | str:
    """What comes back to the queue after an answer, as AWS documents it."""
    if answer is None or not isinstance(answer, Mapping):
        return set() if answer is None else EVERYTHING
    failures = answer.get("batchItemFailures")
    if not failures:
        return set()
    identifiers = [failure.get("itemIdentifier") for failure in failures]
    if any(identifier not in batch for identifier in identifiers):
        return EVERYTHING
    return set(identifiers)


class Entry(msgspec.Struct):
    do: str


def process(entry: Entry, message: Message) -> Effects:
    match entry.do:
        case "fail":
            raise KeyError("sku")
        case "reject":
            raise Rejected("closed")
        case "wait":
            raise Unavailable("the shop's backend is down", retry_after_s=7)
        case "nonsense":
            return None  # type: ignore[return-value]  # which is the nonsense
        case "too large":
            return Effects({}, [Put("a/b", {"text": "x" * 500_000})])
        case "write":
            return Effects({}, [Put(f"written/by/{message.id}", {"n": 1})])
        case _:
            return Effects({"did": entry.do})


WORKLOADS = {"orders": Workload("orders", Entry, process)}


def _record(raw: Mapping[str, Any], receive_count: int) -> dict[str, Any]:
    attributes = {
        name: {
            "stringValue": value["StringValue"],
            "stringListValues": [],
            "binaryListValues": [],
            "dataType": "String",
        }
        for name, value in raw.get("MessageAttributes", {}).items()
    }
    return {
        "messageId": raw["MessageId"],
        "receiptHandle": raw["ReceiptHandle"],
        "body": raw["Body"],
        "attributes": {**raw["Attributes"], "ApproximateReceiveCount": str(receive_count)},
        "messageAttributes": attributes,
        "md5OfBody": raw["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:queue",
        "awsRegion": "us-east-1",
    }


def entry(do: str) -> Message:
    return message(json.dumps({"do": do}))


def event(engine: AwsEngine, receive_count: int = 1) -> dict[str, Any]:
    """What is on the queue, as Lambda hands it to the function."""
    answer = engine.sqs.receive_message(
        QueueUrl=engine.queue_url,
        MaxNumberOfMessages=10,
        MessageAttributeNames=["All"],
        MessageSystemAttributeNames=["All"],
        VisibilityTimeout=180,
    )
    return {"Records": [_record(raw, receive_count) for raw in answer["Messages"]]}


def come_back(engine: AwsEngine, happened: dict[str, Any], **changes: Any) -> list[str]:
    """The bodies' `do` of what comes back to the queue after the processor has seen an event."""
    options: dict[str, Any] = {"queue": engine.queue, "table": engine.table, "remaining_s": lambda: 30.0, **changes}
    answer = process_event(happened, workloads=WORKLOADS, max_attempts=3, **options)
    assert list(answer) == ["batchItemFailures"]
    json.dumps(answer)
    batch = {record["messageId"]: record["body"] for record in happened["Records"]}
    outcome = mapping(answer, list(batch))
    assert outcome != EVERYTHING
    return sorted(json.loads(batch[identifier])["do"] for identifier in outcome)
