"""A client that names a Callback-Url is told what its message came to: when that is final, a message for the workload
`notifications` enters the queue in the same atomic step, and is delivered like any other. What stands in it is made
here, the same for both engines. Pure.

    {"to": [{"kind": "webhook", "url": "https://shop.example/hooks"}], "type": "orders.processed", "data": the record}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import msgspec

from decoupled.core import limits
from decoupled.core.effects import ESCAPED
from decoupled.core.identifiers import derived_id
from decoupled.core.outcomes import Commit, Record, Reject
from decoupled.core.problem import Problem
from decoupled.core.shown import view
from decoupled.core.urls import host
from decoupled.core.workload import Message, Workload, Workloads

WORKLOAD = "notifications"
"""The one that delivers them."""


def check(header: str, event: str, workload: Workload, workloads: Workloads) -> None:
    """The Callback-Url that comes with messages of a workload. Raises Problem 400: what can be told without asking
    anybody, the client hears before anything is accepted. `event`: it is a webhook that its sender has signed."""
    if event:
        raise Problem(400, "Callback-Url: no signature of a webhook covers its headers.")
    deliverer = workloads.get(WORKLOAD)
    if deliverer is None or deliverer.check_callback is None:
        raise Problem(400, f"Callback-Url: there is no workload {WORKLOAD!r} here that could deliver it.")
    if workload.name == WORKLOAD:
        raise Problem(400, f"Callback-Url: {WORKLOAD} delivers callbacks, and has none itself.")
    if len(header) > limits.MAX_CALLBACK_BYTES:
        detail = f"Callback-Url has {len(header)} bytes; {limits.MAX_CALLBACK_BYTES} is the limit."
        raise Problem(400, detail)
    if _SEVERAL.search(header):
        raise Problem(400, "Callback-Url: there is more than one.")
    try:
        deliverer.check_callback(header)
    except ValueError as error:
        raise Problem(400, f"Callback-Url: {error}.") from error
    if other := _NO_URL.search(header):  # EventBridge would fill in <aws.scheduler.…> of what is due later
        raise Problem(400, f"Callback-Url: no URL has the character {other[0]!r}; write it as %{ord(other[0]):02X}.")


_NO_URL = re.compile(r"[^A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]")  # RFC 3986
_SEVERAL = re.compile(r",[ \t]*https?:", re.IGNORECASE)  # headers, joined


def plain(message: Message) -> str:
    """The id as its client has it: as it is, where ids are not signed."""
    return message.id


def with_callback(
    message: Message, final: Commit | Reject, now_ms: int, shown: Callable[[Message], str] = plain
) -> Sequence[Message]:
    """All that goes on the queue with a final record: what it emits, and the callback if there is one, in which the id
    is `shown` as its client has it."""
    emits: Sequence[Message] = final.emits if isinstance(final, Commit) else ()
    return [*emits, callback(message, final, now_ms, shown=shown)] if message.callback else emits


def callback(
    message: Message,
    final: Commit | Reject,
    now_ms: int,
    purged: bool = False,
    shown: Callable[[Message], str] = plain,
) -> Message:
    """The message that tells what this one came to. What it is about happened now, so that it is given up so many days
    from now, however long the other one was dead."""
    body = _body(message, shown(message), final, now_ms)
    name = host(message.callback)
    group = name if len(name) <= limits.MAX_GROUP_CHARS else derived_id("group", name)
    trace = final.trace or message.trace
    return Message(message.callback_id(purged), WORKLOAD, body, message.caller, now_ms, group, trace=trace)


def _body(message: Message, message_id: str, final: Commit | Reject, now_ms: int) -> str:
    """With the record as GET shows it, if there is room: on DynamoDB it stands beside the result and the other emits in
    one item, where lists of small numbers are half as large again as their JSON."""
    record = Record(message_id, message.workload, "rejected", message.accepted_at, finished_at=now_ms)
    if isinstance(final, Commit):
        record = msgspec.structs.replace(record, status="processed", result=final.result)
        others = 2 * len(final.result.encode()) + sum(len(emit.body.encode()) for emit in final.emits)
    else:
        reason = final.reason.encode(errors="replace").decode()
        record, others = msgspec.structs.replace(record, reason=reason), 0
    shown = view(record)
    entry = {
        "to": [{"kind": "webhook", "url": message.callback}],
        "type": f"{message.workload}.{record.status}",
        "data": shown,
    }
    body = msgspec.json.encode(entry)
    if len(body) > limits.MAX_ENTRY_BYTES or len(body) + others > limits.MAX_ITEM_BYTES:
        named = {name: shown[name] for name in ("id", "workload", "status")}
        body = msgspec.json.encode(entry | {"data": named | {"status_url": f"/{message.workload}/{message_id}"}})
    return body.decode().translate(ESCAPED)
