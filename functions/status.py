"""What became of a message: `GET /{workload}/{id}`; and the items that a workload lets be read:
`GET /{workload}/{collection}/{key}`. Reads the table, changes nothing."""

from __future__ import annotations

import functools
import os
import re
from datetime import UTC, datetime
from typing import Any

from decoupled import limits
from decoupled.engine import Record, Table
from decoupled.http import Event, Problem, Response, answer
from decoupled.workload import Unavailable, Workloads, load


def handle(event: Event, table: Table, workloads: Workloads) -> Response:
    """Answer with the record or the item: 200, or a problem (404, or 503 when the table is sick)."""
    try:
        return _read(event.get("pathParameters") or {}, table, workloads)
    except Unavailable as error:
        return Problem(503, f"The table does not answer: {error}", resend="safe", retry_after_s=1).response()
    except Problem as problem:
        return problem.response()


def _read(path: dict[str, str], table: Table, workloads: Workloads) -> Response:
    name = path.get("workload", "")
    workload = workloads.get(name)
    if workload is None:
        raise Problem(404, f"There is no workload {name[:64]!r} here.")
    if "collection" in path:
        item = None
        key = f"{workload.name}/{path['collection']}/{path['key']}"
        if path["collection"] in workload.readable and len(key.encode(errors="replace")) <= limits.MAX_KEY_BYTES:
            item = table.item(key)
        if item is None:
            raise Problem(404, "There is no such item.")
        return answer(200, item)
    record = table.get(path["id"]) if _ID.fullmatch(path["id"]) else None
    if record is None or record.workload != workload.name:
        raise Problem(404, "There is no such record: the id is wrong, or the message is still in the queue.")
    return answer(200, view(record), {"retry-after": "1"} if record.status == "queued" else {})


_ID = re.compile(rf"[A-Za-z0-9._~-]{{1,{limits.MAX_ID_CHARS}}}")  # what else is asked for, no table needs to be asked


def view(record: Record) -> dict[str, Any]:
    """A record as clients see it: no body, no caller, no error text, times as RFC 3339."""
    shown: dict[str, Any] = {
        "id": record.id,
        "workload": record.workload,
        "status": record.status,
        "accepted_at": rfc3339(record.accepted_at),
    }
    if record.status == "processed":
        shown["result"] = record.result
    if record.reason is not None:
        shown["reason"] = record.reason
    if record.attempts and record.status in ("queued", "dead"):
        shown["attempts"] = record.attempts
    if record.finished_at is not None and record.status != "queued":
        shown[f"{record.status}_at"] = rfc3339(record.finished_at)
    return shown


def rfc3339(ms: int) -> str:
    """Milliseconds since the epoch as 2026-11-23T10:15:30.123Z."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- on Lambda ----------------------------------------------------------------


def handler(event: Event, _context: object) -> Response:
    """Lambda's entry point, behind `GET /{workload}/{id}` and `GET /{workload}/{collection}/{key}`."""
    return handle(event, *_deployed())


@functools.cache
def _deployed() -> tuple[Table, Workloads]:
    from decoupled.aws.dynamodb import DynamoTable

    return DynamoTable.from_environment(os.environ), load(os.environ["WORKLOADS"].split(","))


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _deployed()  # connect while Lambda lends a start-up a whole CPU
