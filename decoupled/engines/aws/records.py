"""A message's record as the attributes of an item, and back. Pure.

A record lives under its message id, and looks like this in the console:

    pk           01979f3c...               status       processed
    workload     orders                    result       {order_number: ORD-8F41.., total: 79.80, lines: [...], ...}
    accepted_at  2026-11-23T10:15:30.123Z  finished_at  2026-11-23T10:15:30.412Z
    caller       iam:1234:AROA...          expires_at   1811240130 (TTL, if records expire)
    digest       0f3a... (of the entry, if its sender gave a key for it)

A dead one has its story instead of a result, and `dead` and `dead_at`, which put it into the index of dead records."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from decoupled.core import limits
from decoupled.core.outcomes import Commit, Record, Reject, Stored
from decoupled.core.status import TRANSITIONS, Change, sources
from decoupled.core.workload import Message
from decoupled.engines.aws.attributes import Attribute, Attributes, decode, decode_time, encode, encode_time

DEAD_INDEX = "dead"
"""The index that lists dead records by age. Only they have its keys, so that it holds nothing else and costs nothing in
good times. Its partition key is the same for all of them: one Query lists them, at up to 1,000 a second written; faster
deaths are throttled and wait in the queue."""
DEAD_KEY = {"S": "dead"}

RESULT_TEXT = "result_text"
"""A result as its JSON, of a record that came from one machine with numbers that DynamoDB does not take."""

_result = msgspec.json.Decoder(Any, float_hook=Decimal)
_result_text = msgspec.json.Encoder(decimal_format="number")


def may(change: Change) -> tuple[str, Attributes]:
    """The condition that a record has a status from which this change may start (see core/status.py), with the values
    that it needs. `#status` is for the caller to name."""
    values: Attributes = {f":may_{status}": {"S": status} for status in sources(change)}
    return f"#status IN ({', '.join(values)})", values


def after(change: Change) -> Attribute:
    """The status that a record has after this change."""
    return {"S": TRANSITIONS[change].target}


def final(
    message: Message, decision: Commit | Reject, emits: Sequence[Message], now_ms: int, expires_at_s: int | None
) -> Attributes:
    """The record of a message that is processed or rejected, with what is still to be sent."""
    attributes = opening(message, "process" if isinstance(decision, Commit) else "reject")
    attributes["finished_at"] = encode_time(now_ms)
    if isinstance(decision, Reject):
        attributes["reason"] = encode(decision.reason)
    else:
        attributes["result"] = encode(_result.decode(decision.result))
    if emits:
        attributes["emits"] = to_emit(emits)
    if expires_at_s is not None:
        attributes["expires_at"] = {"N": str(expires_at_s)}
    return attributes


def dead(record: Record, group: str = "", callback: str = "", trace: str = "") -> Attributes:
    """A dead record, with its story, its body, and what the message has again when it is redriven: its group, the URL
    of its callback, and the context of its trace."""
    attributes: Attributes = {
        "pk": {"S": record.id},
        "workload": {"S": record.workload},
        "status": after("bury"),
        "accepted_at": encode_time(record.accepted_at),
        "attempts": {"N": str(record.attempts)},
        "dead": DEAD_KEY,
    }
    # The receiver accepts no body over MAX_ENTRY_BYTES. A stranger's may not fit an item; the dead-letter queue has it.
    if record.body is not None and len(record.body.encode(errors="replace")) <= limits.MAX_ENTRY_BYTES:
        attributes["body"] = encode(record.body)
    for name in ("caller", "digest", "error_type", "error", "traceback"):
        if text := getattr(record, name):
            attributes[name] = encode(text)
    for name, text in (("group", group), ("callback", callback), ("trace", trace)):
        if text:
            attributes[name] = encode(text)
    for name in ("finished_at", "first_failed_at", "last_failed_at"):
        if (ms := getattr(record, name)) is not None:
            attributes[name] = encode_time(ms)
    attributes["dead_at"] = attributes.get("finished_at", attributes["accepted_at"])
    return attributes


def record(attributes: Attributes) -> Record:
    """The record that an item holds."""

    def optional(name: str) -> Any:
        return decode(attributes[name]) if name in attributes else None

    def time(name: str) -> int | None:
        return decode_time(attributes[name]) if name in attributes else None

    return Record(
        id=attributes["pk"]["S"],
        workload=attributes["workload"]["S"],
        status=attributes["status"]["S"],
        accepted_at=decode_time(attributes["accepted_at"]),
        caller=optional("caller") or "",
        result=_result_text.encode(decode(attributes["result"])).decode()
        if "result" in attributes
        else optional(RESULT_TEXT),
        reason=optional("reason"),
        finished_at=time("finished_at"),
        attempts=optional("attempts") or 0,
        error_type=optional("error_type"),
        error=optional("error"),
        first_failed_at=time("first_failed_at"),
        last_failed_at=time("last_failed_at"),
        traceback=optional("traceback"),
        due_at=time("due_at"),
        digest=optional("digest") or "",
        body=optional("body"),
    )


def duplicate(attributes: Attributes) -> Stored:
    """What is already stored for a message, with what it emits."""
    return Stored(
        status=attributes["status"]["S"],
        reason=attributes["reason"]["S"] if "reason" in attributes else None,
        duplicate=True,
        emits=emits(attributes),
        digest=attributes["digest"]["S"] if "digest" in attributes else "",
    )


def callback_of(attributes: Attributes) -> str:
    """The URL of the callback that a dead record tells of."""
    return attributes["callback"]["S"] if "callback" in attributes else ""


def trace_of(attributes: Attributes) -> str:
    """The context of the trace that a dead record, or what it emits, is part of."""
    return attributes["trace"]["S"] if "trace" in attributes else ""


def group_of(attributes: Attributes) -> str:
    """The group that a record, or what it emits, tells of; those of 0.2 have none."""
    return attributes["group"]["S"] if "group" in attributes else ""


def emits(attributes: Attributes) -> Sequence[Message]:
    """The messages that a record says are to be sent."""
    return [
        Message(
            id=emit["id"]["S"],
            workload=emit["workload"]["S"],
            body=emit["body"]["S"],
            caller=emit["caller"]["S"],
            accepted_at=decode_time(emit["accepted_at"]),
            group=group_of(emit),
            trace=trace_of(emit),
            due_at=decode_time(emit["due_at"]) if "due_at" in emit else None,
            hops=int(emit["hops"]["N"]) if "hops" in emit else 0,
        )
        for emit in (part["M"] for part in attributes.get("emits", {}).get("L", []))
    ]


def opening(message: Message, change: Change) -> Attributes:
    """What every record of a message begins with, after this change."""
    attributes: Attributes = {
        "pk": {"S": message.id},
        "workload": {"S": message.workload},
        "status": after(change),
        "accepted_at": encode_time(message.accepted_at),
    }
    if message.caller:
        attributes["caller"] = encode(message.caller)
    if message.digest:
        attributes["digest"] = encode(message.digest)
    return attributes


def to_emit(messages: Sequence[Message]) -> Attribute:
    """The messages that are to be sent, as a record keeps them."""
    return {"L": [{"M": _emitted(message)} for message in messages]}


def _emitted(message: Message) -> Attributes:
    attributes: Attributes = {
        "id": {"S": message.id},
        "workload": {"S": message.workload},
        "body": {"S": message.body},
        "caller": encode(message.caller),
        "accepted_at": encode_time(message.accepted_at),
        "group": encode(message.group),
    }
    if message.due_at is not None:
        attributes["due_at"] = encode_time(message.due_at)
    if message.trace:
        attributes["trace"] = encode(message.trace)
    if message.hops:
        attributes["hops"] = encode(message.hops)
    return attributes
