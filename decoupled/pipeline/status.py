"""What became of a message: `GET /{workload}/{id}`; and the items that a workload lets be read, one by one,
`GET /{workload}/{collection}/{key}`, or listed, `GET /{workload}/{collection}`. Reads the table, changes nothing. What
is somebody else's is answered exactly as what is not there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec

from decoupled.core import limits
from decoupled.core.forgetting import is_forgotten
from decoupled.core.identifiers import is_id
from decoupled.core.outcomes import Record
from decoupled.core.problem import Problem, Response, answer
from decoupled.core.shown import view
from decoupled.core.signed_ids import record_id
from decoupled.core.workload import Unavailable, Workload, Workloads
from decoupled.engines.protocols import Table
from decoupled.pipeline.call import Call
from decoupled.pipeline.issued import Issued


def read(call: Call, table: Table, workloads: Workloads, issued: Issued | None = None) -> Response:
    """Answer with the record, the item or the items: 200. `issued`: the ids that were given out, where the table does
    not know what the queue holds. Raises Problem: 400, 404, 410, 422, or 503 when it is sick."""
    name, *rest = call.path or ("",)
    workload = _workload(name, workloads)
    try:
        match rest:
            case [collection] if collection in workload.listed and _is_shown(collection, workload, call):
                return _listing(f"/{name}/{collection}", _parameters(call.query), table)
            case [message_id]:  # a few dozen characters of our own making: no name of a collection
                return shown(_record(workload, message_id, call, table, issued))
            case [collection, key]:
                return _item(workload, collection, key, call, table)
    except Unavailable as error:
        raise _sick(error) from error
    raise Problem(404, "There is nothing here.")


def look(call: Call, table: Table, workloads: Workloads, issued: Issued | None = None) -> Record:
    """The record that the call's workload and id name, for who watches it. Raises Problem: 404, 410, 422, or 503."""
    name, message_id, *_ = call.path
    try:
        return _record(_workload(name, workloads), message_id, call, table, issued)
    except Unavailable as error:
        raise _sick(error) from error


def shown(record: Record) -> Response:
    """The answer that shows it."""
    soon = record.status == "queued" and record.due_at is None
    return answer(200, view(record), {"retry-after": "1"} if soon else {})


def _workload(name: str, workloads: Workloads) -> Workload:
    workload = workloads.get(name)
    if workload is None or workload.internal:
        raise Problem(404, f"There is no workload {name[:64]!r} here.")
    return workload


def _sick(error: Unavailable) -> Problem:
    return Problem(503, f"The table does not answer: {error}", resend="safe", retry_after_s=1)


def _record(workload: Workload, message_id: str, call: Call, table: Table, issued: Issued | None) -> Record:
    if issued is not None:
        record = issued.find(message_id, workload.name, call, table)
    else:
        record = _here(message_id, table) if is_id(message_id) else None
    if record is not None and record.workload == workload.name and is_forgotten(record):
        raise Problem(410, "What was sent under this id was erased, and is forgotten. Sent again, it has no effect.")
    ours = record is not None and (record.caller == call.caller or call.sees_all)
    if record is None or not ours or record.workload != workload.name:
        raise Problem(404, "There is no such record: the id is wrong, or the message is still in the queue.")
    return record


def _here(message_id: str, table: Table) -> Record | None:
    """Where ids are shown as they are. One that came from a stack is known to its client with a tail, which proves
    nothing here, and opens what it does without."""
    if (record := table.get(message_id)) is not None or (own := record_id(message_id)) == message_id:
        return record
    record = table.get(own)
    return None if record is None else msgspec.structs.replace(record, id=message_id)


def _is_shown(collection: str, workload: Workload, call: Call) -> bool:
    """Whether whoever asks sees all of a collection: where there are several callers, the workload has to say so."""
    return collection in (workload.readable if call.sees_all else workload.public)


def _item(workload: Workload, collection: str, key: str, call: Call, table: Table) -> Response:
    item, key = None, f"{workload.name}/{collection}/{key}"
    if collection in workload.readable and len(key.encode(errors="replace")) <= limits.MAX_KEY_BYTES:
        item = table.item(key, None if _is_shown(collection, workload, call) else call.caller)
    if item is None:
        raise Problem(404, "There is no such item.")
    return answer(200, item)


def _parameters(query: str) -> dict[str, str]:
    """As API Gateway decodes them: values of one name are joined by commas."""
    values: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        values.setdefault(name, []).append(value)
    return {name: ",".join(those) for name, those in values.items()}


def _listing(route: str, query: Mapping[str, str], table: Table) -> Response:
    """A page of a collection's items, and where the next one is. `cursor` is the key that the last one ended with."""
    if unknown := query.keys() - {"prefix", "limit", "cursor"}:
        raise Problem(400, f"A listing takes prefix, limit and cursor, not {min(unknown)[:40]!r}.")
    prefix, cursor, limit = query.get("prefix", ""), query.get("cursor", ""), query.get("limit", _MOST)
    if not re.fullmatch("[0-9]{1,3}", limit) or not 1 <= int(limit) <= limits.MAX_LISTED_ITEMS:
        raise Problem(400, f"limit is 1 to {_MOST}; this was {limit[:40]!r}.")
    if cursor and not cursor.startswith(prefix):
        raise Problem(400, "cursor is what `next` of the page before has, with the same prefix.")
    collection = f"{route[1:]}/"
    if max(len(f"{collection}{it}".encode(errors="replace")) for it in (prefix, cursor)) > limits.MAX_KEY_BYTES:
        raise Problem(400, f"A key has {limits.MAX_KEY_BYTES} bytes at most.")
    page = table.page(collection + prefix, collection + cursor if cursor else "", int(limit))
    shown: dict[str, Any] = {"items": [{"key": key.removeprefix(collection), "item": it} for key, it in page.items]}
    if page.more and page.items:
        following = {"prefix": prefix, "limit": limit, "cursor": shown["items"][-1]["key"]}
        shown["next"] = f"{route}?{urlencode(following, errors='replace')}"
    return answer(200, shown)


_MOST = str(limits.MAX_LISTED_ITEMS)
