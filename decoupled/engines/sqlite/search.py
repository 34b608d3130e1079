"""Finds messages in a data directory, beside its server, in about a second however large the file is. What has an index
(an id, a key, what is queued, dead or rejected) is found at once; everything else by reading the newest rows first, and
then a person goes on from there. No index is made for it: each would make every message dearer.

What is known of one message stands in `story.py`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from decoupled.core import limits
from decoupled.core.identifiers import event_id, keyed_id
from decoupled.core.search import Found, Row, Sought, Story
from decoupled.core.signed_ids import record_id
from decoupled.core.status import Status
from decoupled.core.times import now_ms
from decoupled.core.workload import ANONYMOUS
from decoupled.engines.sqlite import story
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.looking import (
    DEAD_NEWEST_FIRST,
    NEWEST_FIRST,
    REJECTED_NEWEST_FIRST,
    Late,
    Look,
    Order,
    Position,
    Values,
    mentions,
)
from decoupled.engines.sqlite.queue_clock import QueueClock

_ROW = (
    "finished_at, seq, id, workload, status, accepted_at, caller, message_group, attempts,"
    f" substr(error_type, 1, {limits.MAX_SHOWN_CHARS}), substr(error, 1, {limits.MAX_SHOWN_CHARS}),"
    f" substr(reason, 1, {limits.MAX_SHOWN_CHARS})"
)
_ABOVE_ALL = 10**18 - 1  # as many digits as a cursor takes
_SLOW = "The disk is too slow to say: try again."
_MORE = "This is as far as a look of {:g} s got: go on from here to see what is older."


class SqliteSearch:
    """Implements Search. Used by one thread."""

    def __init__(
        self,
        directory: DataDirectory,
        clock_ms: Callable[[], int] = now_ms,
        queue_clock_ms: Callable[[], int] | None = None,
        workloads: Collection[str] = (),
        look_s: float = limits.LOOK_S,
    ) -> None:
        """`workloads` are those that are known to be served. Raises DataDirectoryError."""
        self.database = Database(directory.file, read_only=True)
        self.workloads = workloads
        self.clock_ms = clock_ms
        self.queue_clock_ms = queue_clock_ms or QueueClock.of(directory.path)
        self.look_s = look_s

    def find(self, sought: Sought) -> Found:
        """See Search. Raises ValueError for a cursor that is not its own."""
        if not 1 <= sought.limit <= limits.MAX_FOUND:
            raise ValueError(f"1 to {limits.MAX_FOUND} messages are shown at once")
        look, which = Look(self.database, self.look_s), _which(self.database, sought)
        if sought.id is not None or sought.key is not None:
            try:
                return self._named(look, sought, which)
            except Late:
                return Found([], note=_SLOW)
        if sought.status == "queued" and (few := self._few_queued(look, sought, which)) is not None:
            return few
        return self._newest(Look(self.database, self.look_s), sought, which)

    def story(self, message_id: str) -> Story | None:
        """See Search."""
        return story.read(self.database, record_id(message_id), self.clock_ms(), self.queue_clock_ms())

    def close(self) -> None:
        """Close the connection."""
        self.database.close()

    # --- by name

    def _named(self, look: Look, sought: Sought, which: _Which) -> Found:
        """Those of these ids."""
        ids, note = [] if sought.id is None else [record_id(sought.id)], ""
        if sought.key is not None:
            workloads = [sought.workload] if sought.workload is not None else self._workloads(look)
            of_key = _ids_of(sought.key, ANONYMOUS if sought.caller is None else sought.caller, workloads)
            ids = of_key if sought.id is None else [message_id for message_id in of_key if message_id in ids]
            note = f"Looked for under {', '.join(workloads) or 'no workload'}, of {sought.caller or ANONYMOUS}."
        rows = look.rows(
            f"""
            SELECT {_ROW} FROM messages
            WHERE id IN (SELECT value FROM json_each(?)) AND {which.condition} ORDER BY seq DESC LIMIT ?
            """,  # noqa: S608  all of it is constant
            (json.dumps(ids), *which.values, sought.limit),
        )
        return Found([_shown(row) for row in rows], note="" if rows else note)

    def _workloads(self, look: Look) -> list[str]:
        """Those that are served, and that the file has messages of: no index has them all, so some rows tell."""
        rows = look.rows(
            """
            SELECT DISTINCT workload FROM (
                SELECT workload FROM (SELECT workload FROM messages ORDER BY seq DESC LIMIT ?1)
                UNION ALL
                SELECT workload FROM (SELECT workload FROM messages ORDER BY seq LIMIT ?1)
            ) LIMIT ?2
            """,
            (limits.LOOK_MOST_ROWS, limits.MAX_WORKLOADS_TRIED),
        )
        return sorted({*self.workloads, *(workload for (workload,) in rows)})[: limits.MAX_WORKLOADS_TRIED]

    # --- by what they have in common

    def _few_queued(self, look: Look, sought: Sought, which: _Which) -> Found | None:
        """The queue has an index, but not by age: where there are few, all of them are put in order. Where there are
        many, the newest rows are mostly queued ones anyway: None."""
        queued, values = which.queued
        cursor = _position(sought.cursor, NEWEST_FIRST)
        source = f"FROM messages INDEXED BY messages_queued WHERE {queued}"
        most = limits.MAX_QUEUED_SORTED
        try:
            ((count,),) = look.rows(f"SELECT count(*) FROM (SELECT 1 {source} LIMIT ?)", (*values, most + 1))  # noqa: S608
            if count > most:
                return None
            rows = look.rows(
                f"SELECT {_ROW} {source} AND {which.condition} AND seq < ? ORDER BY seq DESC LIMIT ?",
                (*values, *which.values, *cursor, sought.limit),
            )
        except Late:
            return None
        return Found([_shown(row) for row in rows], _at(rows[-1], NEWEST_FIRST) if len(rows) == sought.limit else None)

    def _newest(self, look: Look, sought: Sought, which: _Which) -> Found:
        """By the index of their status, if there is one, else all of them."""
        order = _order(sought.status)
        position = _position(sought.cursor, order)
        found: list[Row] = []
        try:
            oldest = self._oldest(look, order, sought.accepted_after)
            for part, values, end in look.parts(order, position):
                rows = look.rows(
                    f"""
                    SELECT {_ROW} FROM messages {order.index} WHERE {part} AND {which.condition}
                    ORDER BY {order.by} LIMIT ?
                    """,  # noqa: S608  all of it is constant
                    (*values, *which.values, sought.limit - len(found)),
                )
                found += map(_shown, rows)
                if len(found) == sought.limit:
                    return Found(found, _at(rows[-1], order))
                if end is None or end <= oldest:
                    return Found(found)
                position = end
        except Late:
            pass  # what it had seen by then
        return Found(found, _text(position), _MORE.format(self.look_s))

    def _oldest(self, look: Look, order: Order, accepted_after: int | None) -> Position:
        """A position from which on nothing was accepted after that time. Rows have no index by time, and what is
        emitted has the time of the message that it comes from; but none is accepted after it was stored, nor ended
        before. So an end before that time tells of all rows below it. (Not of a dead letter: one that was imported
        ended elsewhere.) Where none tells, the way goes on to the first row; a clock that was set back in between may
        hide what was accepted by the wrong time."""
        if accepted_after is None or order is not NEWEST_FIRST:
            return (accepted_after or 0, -1)[2 - len(order.columns) :]
        ((low, high),) = look.rows(_ENDS, ())
        while low < high:
            middle = (low + high + 1) // 2
            ((told,),) = look.rows(_TELLS, (middle, _TELLING, accepted_after))
            low, high = (told, max(told, high)) if told is not None else (low, middle - 1)
        return (low,)


_ENDS = """
SELECT (SELECT coalesce(min(seq), 1) - 1 FROM messages), (SELECT coalesce(max(seq), 0) FROM messages)
"""  # one after the other: asked for both at once, SQLite reads all in between
_TELLING = 20  # rows, of which one will do
_TELLS = """
SELECT max(seq) FROM (SELECT seq, status, finished_at FROM messages WHERE seq >= ? ORDER BY seq LIMIT ?)
WHERE status IN ('processed', 'rejected') AND finished_at < ?
"""


@dataclass(frozen=True, slots=True)
class _Which:
    """Conditions of those that are sought, with their values; `queued`: of what the index of the queue knows."""

    condition: str
    values: Values
    queued: tuple[str, Values]


def _which(database: Database, sought: Sought) -> _Which:
    conditions, values = ["TRUE"], list[Any]()
    by_key = sought.key is not None  # whose caller may be anonymous, and is part of the id anyway
    for condition, value in (
        ("workload = ?", sought.workload),
        ("caller = ?", None if by_key else sought.caller),
        ("message_group = ?", sought.group),
        ("status = ?", sought.status),
        ("accepted_at >= ?", sought.accepted_after),
        ("accepted_at <= ?", sought.accepted_before),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    if sought.error is not None:
        in_error, pattern = mentions(database, "error", sought.error)
        in_reason, _ = mentions(database, "reason", sought.error)
        conditions.append(f"(error_type = ? OR {in_error} OR {in_reason})")
        values += (sought.error, pattern, pattern)
    return _Which(" AND ".join(conditions), tuple(values), _queued(sought))


def _queued(sought: Sought) -> tuple[str, Values]:
    if sought.workload is None:
        return "status = 'queued'", ()
    if sought.group is None:
        return "status = 'queued' AND workload = ?", (sought.workload,)
    return "status = 'queued' AND workload = ? AND message_group = ?", (sought.workload, sought.group)


def _order(status: Status | None) -> Order:
    match status:
        case "dead":
            return DEAD_NEWEST_FIRST
        case "rejected":
            return REJECTED_NEWEST_FIRST
        case "queued" | "processed" | None:
            return NEWEST_FIRST
        case never:
            assert_never(never)


def _ids_of(key: str, caller: str, workloads: Sequence[str]) -> list[str]:
    """All that entries with this key can have, as the receiver makes them; a webhook has its event's name for one."""
    places = range(limits.MAX_BATCH_ENTRIES)
    return [
        message_id
        for workload in workloads
        for message_id in (
            event_id(workload, caller, key),
            *(keyed_id(workload, caller, key, place) for place in places),
        )
    ]


# --- rows and positions


def _shown(row: Sequence[Any]) -> Row:
    finished_at, _, message_id, workload, status, accepted_at, caller, group, attempts, error_type, error, reason = row
    return Row(
        id=message_id,
        workload=workload,
        status=status,
        accepted_at=accepted_at,
        caller=caller,
        group=group,
        finished_at=finished_at,
        attempts=attempts,
        error_type=error_type or "",
        error=error or "",
        reason=reason or "",
    )


def _at(row: Sequence[Any], order: Order) -> str:
    """Where a row stands, as a cursor."""
    return _text(row[2 - len(order.columns) : 2])


def _text(position: Sequence[int]) -> str:
    return ".".join(map(str, position))


def _position(cursor: str | None, order: Order) -> Position:
    """That of a cursor, or one above all rows. Raises ValueError."""
    if cursor is None:
        return (_ABOVE_ALL,) * len(order.columns)
    if not re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", cursor) or cursor.count(".") != len(order.columns) - 1:
        raise ValueError("cursor is what the answer before had, with the same parameters")
    return tuple(map(int, cursor.split(".")))
