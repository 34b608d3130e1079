"""A record as clients see it: what GET answers, and what a callback says. Pure."""

from __future__ import annotations

from typing import Any, assert_never

import msgspec

from decoupled.core.outcomes import Record
from decoupled.core.times import rfc3339


def view(record: Record) -> dict[str, Any]:
    """No body, no caller, no error text, times as RFC 3339."""
    shown: dict[str, Any] = {
        "id": record.id,
        "workload": record.workload,
        "status": record.status,
    }
    if record.accepted_at:  # which not every id tells that has no record yet
        shown["accepted_at"] = rfc3339(record.accepted_at)
    match record.status:
        case "queued" | "dead":
            if record.attempts:
                shown["attempts"] = record.attempts
            if record.due_at is not None and record.status == "queued":
                shown["due_at"] = rfc3339(record.due_at)
        case "processed":
            shown["result"] = msgspec.Raw(record.result or "null")  # as it is stored
        case "rejected":
            shown["reason"] = record.reason
        case never:
            assert_never(never)
    if record.finished_at is not None and record.status != "queued":
        shown[f"{record.status}_at"] = rfc3339(record.finished_at)
    return shown
