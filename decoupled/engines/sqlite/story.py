"""The story of one message, as far as its row tells it, and the rows of what it emitted, whose ids are made of its own.
Nothing is written down only to be told here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

import msgspec

from decoupled.core import limits
from decoupled.core.outcomes import Record
from decoupled.core.search import Row, Step, Story
from decoupled.core.urls import host
from decoupled.core.workload import Message
from decoupled.engines.sqlite import edits
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.table import COLUMNS, record_of

_READ = f"""
SELECT {COLUMNS}, message_group, receive_count, in_flight, visible_at, callback,
    CASE WHEN status = 'queued' THEN body END
FROM messages WHERE id = ?
"""  # noqa: S608  the columns are a constant


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the row has beside the record."""

    group: str
    receive_count: int
    in_flight: int
    visible_at: int | None  # of the queue's clock
    callback: str
    body: str | None


def read(database: Database, message_id: str, now: int, queue_now: int) -> Story | None:
    """What is known; `now` is the time of day, `queue_now` that of the clock which messages wait by."""
    with database.refusals, database.snapshot():
        row = database.execute(_READ, (message_id,)).fetchone()
        if row is None:
            return None
        columns = len(Record.__struct_fields__)
        record, kept = record_of(row[:columns]), _Kept(*row[columns:])
        emitted = _emitted(database, record, kept.callback)
        edited = [Step("edited", it.at, f"its body, by {it.by}") for it in edits.of(database, [message_id])[message_id]]
    wait_ms = 0 if kept.visible_at is None else max(0, kept.visible_at - queue_now)
    steps = [*_accepted(record), *_received(record, kept), *_failed(record), *_waits(record, kept, now, wait_ms)]
    if record.status != "dead":  # what was dead before is told of no more than that
        steps, edited = [*edited, *steps], []
    return Story(
        row=_row(record, kept.group),
        record=msgspec.structs.replace(record, result=None, body=None),
        steps=[*steps, *_ended(record), *edited, *emitted],
        receive_count=kept.receive_count,
        body=record.body if record.status == "dead" else kept.body,
        result=None if record.result is None else msgspec.Raw(record.result.encode()),
        note=_note(record, kept),
    )


def _row(record: Record, group: str) -> Row:
    return Row(
        id=record.id,
        workload=record.workload,
        status=record.status,
        accepted_at=record.accepted_at,
        caller=record.caller,
        group=group,
        finished_at=record.finished_at,
        attempts=record.attempts,
        error_type=(record.error_type or "")[: limits.MAX_SHOWN_CHARS],
        error=(record.error or "")[: limits.MAX_SHOWN_CHARS],
        reason=(record.reason or "")[: limits.MAX_SHOWN_CHARS],
    )


def _accepted(record: Record) -> Iterator[Step]:
    yield Step("accepted", record.accepted_at, f"of {record.caller}" + (", under a key" if record.digest else ""))
    if record.due_at is not None:
        yield Step("due", record.due_at, "not before this time")


def _received(record: Record, kept: _Kept) -> Iterator[Step]:
    if kept.receive_count:
        times = "once" if kept.receive_count == 1 else f"{kept.receive_count:,} times"
        now = ", and is with a worker now" if record.status == "queued" and kept.in_flight else ""
        yield Step("received", None, f"handed out {times}{now}")


def _failed(record: Record) -> Iterator[Step]:
    if record.first_failed_at is None:
        return
    if record.first_failed_at != record.last_failed_at:
        yield Step("failed", record.first_failed_at, "for the first time")
    what = f"{record.error_type}: {record.error}" if record.error else record.error_type or ""
    yield Step("failed", record.last_failed_at, what, record.traceback or "")


def _waits(record: Record, kept: _Kept, now: int, wait_ms: int) -> Iterator[Step]:
    """What a queued message waits for. The queue's clock is not the time of day; what is left of the wait is the same
    by both."""
    if record.status != "queued" or kept.visible_at is None:
        return
    if kept.in_flight and wait_ms:
        yield Step(
            "waits", now + wait_ms, f"for its worker, for {_seconds(wait_ms)} at most; then it is handed out again"
        )
    elif wait_ms:
        yield Step("waits", now + wait_ms, f"to be handed out in {_seconds(wait_ms)}")
    else:
        yield Step("waits", None, "to be handed out: there is nothing else that it waits for")


def _seconds(wait_ms: int) -> str:
    return f"{max(1, round(wait_ms / 1000)):,} s"


def _ended(record: Record) -> Iterator[Step]:
    match record.status:
        case "queued":
            pass
        case "processed":
            yield Step("processed", record.finished_at)
        case "rejected":
            yield Step("rejected", record.finished_at, record.reason or "")
        case "dead":
            yield Step("dead", record.finished_at, f"after {record.attempts:,} attempts that failed")
        case never:
            assert_never(never)


def _emitted(database: Database, record: Record, callback: str) -> list[Step]:
    """What went on the queue with its end, in the order in which it was emitted."""
    message = Message(record.id, record.workload, "", record.caller, record.accepted_at)
    places = {message.emitted_id(place): "" for place in range(limits.MAX_EMITS)}
    if callback:
        told = f", which tells {host(callback)} of the end"
        places |= {message.callback_id(): told, message.callback_id(purged=True): told}
    rows = database.execute(
        "SELECT id, workload, status FROM messages WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(places)),),
    )
    there = {message_id: f"to {workload}{places[message_id]}: {status}" for message_id, workload, status in rows}
    at = record.finished_at
    return [Step("emitted", at, there[message_id], id=message_id) for message_id in places if message_id in there]


def _note(record: Record, kept: _Kept) -> str:
    notes = []
    if record.attempts > 1:
        notes.append("Of its failures the times of the first and the last are kept, and what the last one was.")
    if kept.receive_count > record.attempts + 1:
        notes.append("It was handed out more often than it failed: it was put off, or what took it died.")
    if record.status == "processed":
        notes.append("Which items it wrote is not kept with it; what it emitted is found by its id.")
    return " ".join(notes)
