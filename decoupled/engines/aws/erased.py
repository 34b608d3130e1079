"""What is erased of a record or an item on DynamoDB, and what stays of a record (see `core/forgetting.py`). Pure.

record      pk, workload, status, accepted_at, finished_at, expires_at  stay;  result or reason say that it was
item        goes, or is nobody's
-/edits/…   goes"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from decoupled.core import limits
from decoupled.core.forgetting import FORGOTTEN, NOTHING
from decoupled.core.status import FINAL
from decoupled.core.workload import Message
from decoupled.engines.aws import listing, records
from decoupled.engines.aws.attributes import Attribute, Attributes, encode, encode_time

_STAYS = ("pk", "workload", "status", "accepted_at", "finished_at", "expires_at")
_SEEN = ("status", "accepted_at", "finished_at", "caller")
_TEXTS = {
    "body": "bodies",
    "result": "results",
    records.RESULT_TEXT: "results",
    "reason": "reasons",
    "error": "errors",
    "traceback": "tracebacks",
    "callback": "callbacks",
    "emits": "emits",
}
_json = msgspec.json.Encoder(decimal_format="number")


class Left(NamedTuple):
    """What is put in the place of a record, and the condition that it is still the one that was read, as parameters of
    a request."""

    item: Attributes
    unchanged: dict[str, Any]


def erased(record: Attributes, now_ms: int, expires_at_s: int | None) -> Left:
    """Of a record that is there. `expires_at_s`: when what has ended only now is to go."""
    item = {name: record[name] for name in _STAYS if name in record}
    item |= _end(record["status"] == records.after("process"))
    item.setdefault("finished_at", encode_time(now_ms))
    if expires_at_s is not None and record["status"]["S"] not in FINAL:
        item.setdefault("expires_at", encode(expires_at_s))
    names, values = dict[str, str](), dict[str, Attribute]()
    conditions = []
    for name in _SEEN:
        names[f"#{name}"] = name
        conditions.append(f"#{name} = :{name}" if name in record else f"attribute_not_exists(#{name})")
        values |= {f":{name}": record[name]} if name in record else {}
    return Left(
        item,
        {
            "ConditionExpression": " AND ".join(conditions),
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
        },
    )


def never_begun(message: Message, now_ms: int, expires_at_s: int | None) -> Left:
    """Of a message that has no record yet: whoever is handed it finds that one."""
    item: Attributes = {
        "pk": {"S": message.id},
        "workload": {"S": message.workload},
        "accepted_at": encode_time(message.accepted_at),
        "finished_at": encode_time(now_ms),
        **_end(processed=False),
        **({} if expires_at_s is None else {"expires_at": encode(expires_at_s)}),
    }
    return Left(item, {"ConditionExpression": "attribute_not_exists(pk)"})


def _end(processed: bool) -> Attributes:
    if processed:
        return {"result": encode(msgspec.json.decode(NOTHING))}
    return {"status": records.after("reject"), "reason": encode(FORGOTTEN)}


def is_left(stored: Attributes) -> bool:
    """Whether a record is one of which nothing is left."""
    if stored.get("caller", {}).get("S"):
        return False
    if stored.get("reason") == encode(FORGOTTEN):
        return True
    return stored.get("result") == _end(processed=True)["result"] or stored.get(records.RESULT_TEXT) == encode(NOTHING)


def kinds(record: Attributes) -> Counter[str]:
    """What is erased of it."""
    return Counter(kind for name, kind in _TEXTS.items() if name in record)


def texts(record: Attributes) -> Iterator[str]:
    """What to search for may be in these."""
    try:
        told, emits = records.record(record), records.emits(record)
    except (KeyError, TypeError, ValueError):  # no record that can be read; it goes nonetheless
        yield from strings(record)
        return
    yield from (text for text in (told.body, told.result, told.error, told.reason) if text)
    yield from (emit.body for emit in emits)


def text_of_item(item: Attributes) -> str:
    """Likewise."""
    return _json.encode(listing.item(item)).decode()


def strings(stored: Attributes) -> Iterator[str]:
    """All texts that stand in it, whatever they are."""
    left: list[Any] = [stored]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            left += value.values()
            left += value
        elif isinstance(value, list):
            left += value


def is_record(stored: Attributes) -> bool:
    """Whether it is a message's, and no item's."""
    return "/" not in stored[limits.KEY_ATTRIBUTE].get("S", "/") and "status" in stored and "accepted_at" in stored
