"""Looks at dead letters that end in time, however many there are: some of them from a position on, and how many there
are of each error. They read the index of dead messages and their rows, and nothing else."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from decoupled.core import limits
from decoupled.core.alike import alike
from decoupled.core.dead_letters import DeadLetter, Group, Groups, Some, Wanted
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.looking import DEAD, DEAD_NEWEST_FIRST, Late, Look, Position, Values, mentions

QUEUE_BURIED = "MaxReceiveCountExceeded"  # the error type of what the queue's own safety net caught

COLUMNS = (
    "seq, id, workload, caller, accepted_at, finished_at, attempts, error_type, error, first_failed_at, last_failed_at,"
    " traceback, message_group, digest, callback, trace"
)

_TEXT = f"substr(coalesce(error, ''), 1, {limits.MAX_ALIKE_SEEN_CHARS})"
# Which digits there are makes no difference to what is alike (see core/alike.py), and SQLite is quick to see that.
_DIGITS_ALIKE = functools.reduce(lambda text, digit: f"replace({text}, '{digit}', '0')", "123456789", _TEXT)


def some(database: Database, wanted: Wanted, after: str | None, most: int) -> Some:
    """See DeadLetters."""
    look, found = Look(database), list[DeadLetter]()
    position = _position(after) if after is not None else (wanted.dead_after or 0, -1)
    which, its_values = _wanted(database, wanted)
    try:
        for part, values, end in look.parts(DEAD, position):
            rows = look.rows(
                f"SELECT {COLUMNS} FROM messages {DEAD.index} WHERE {part} AND {which} ORDER BY {DEAD.by} LIMIT ?",  # noqa: S608  all of it is constant
                (*values, *its_values, most - len(found)),
            )
            found += map(letter_of, rows)
            if len(found) == most:
                seq, *_, last_at = rows[-1][:6]
                return Some(found, f"{last_at}.{seq}")
            if end is None:
                return Some(found, None)
            position = end
    except Late:
        pass  # what it had seen by then
    return Some(found, ".".join(map(str, position)))


def groups(database: Database, wanted: Wanted) -> Groups:
    """See DeadLetters; the newest first, where the time is not enough for all."""
    look, counted = Look(database), Groups(whole=False)
    which, its_values = _wanted(database, wanted)
    try:
        for part, values, end in look.parts(DEAD_NEWEST_FIRST, None):
            rows = look.rows(
                f"""
                SELECT workload, coalesce(error_type, ''), {_TEXT}, count(*), min(finished_at), max(finished_at), id
                FROM messages {DEAD.index} WHERE {part} AND {which} GROUP BY workload, error_type, {_DIGITS_ALIKE}
                """,  # noqa: S608  all of it is constant
                (*values, *its_values),
            )
            for workload, error_type, error, *numbers in rows:
                counted.add(Group(workload, alike(error_type, error), error_type, error, *numbers))
            counted.whole = end is None
    except Late:
        pass
    if not counted.whole and (wanted.workload, wanted.error, wanted.alike) == (None, None, None):
        with database.refusals:  # the index has them all by time: ten milliseconds for half a million
            counting = f"SELECT count(*) FROM messages {DEAD.index} WHERE {DEAD.which} AND {which}"  # noqa: S608
            (counted.known,) = database.execute(counting, its_values).fetchone()
    return counted


def _position(after: str) -> Position:
    """Raises ValueError."""
    if not re.fullmatch(r"-?[0-9]{1,18}\.-?[0-9]{1,18}", after):
        raise ValueError("it is no position in the dead letters")
    at, _, seq = after.partition(".")
    return int(at), int(seq)


def _wanted(database: Database, wanted: Wanted) -> tuple[str, Values]:
    """The condition of those that are wanted, with its values."""
    conditions, values = ["TRUE"], list[Any]()
    for condition, value in (
        ("workload = ?", wanted.workload),
        ("finished_at <= ?", wanted.dead_before),
        ("finished_at >= ?", wanted.dead_after),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    if wanted.error is not None:
        text, pattern = mentions(database, "error", wanted.error)
        conditions.append(f"(error_type = ? OR {text})")
        values += (wanted.error, pattern)
    if wanted.alike is not None:
        # The type comes first: so most of the others need no look at their texts.
        database.connection.create_function("alike", 2, alike, deterministic=True)
        error_type, error = "coalesce(error_type, '')", "coalesce(error, '')"
        conditions.append(f"substr(?, 1, length({error_type})) = {error_type} AND alike({error_type}, {error}) = ?")
        values += (wanted.alike, wanted.alike)
    return " AND ".join(conditions), tuple(values)


def letter_of(row: Sequence[Any]) -> DeadLetter:
    """A row of COLUMNS, and perhaps a body, as a dead letter."""
    (
        _,
        message_id,
        workload,
        caller,
        accepted_at,
        dead_at,
        attempts,
        error_type,
        error,
        first,
        last,
        traceback,
        group,
        digest,
        callback,
        trace,
        *body,
    ) = row
    return DeadLetter(
        id=message_id,
        workload=workload,
        caller=caller,
        group=group,
        callback=callback,
        trace=trace,
        accepted_at=accepted_at,
        dead_at=dead_at,
        attempts=attempts,
        buried_by="queue" if error_type == QUEUE_BURIED else "processor",
        error_type=error_type or "",
        error=error or "",
        first_failed_at=first,
        last_failed_at=last,
        traceback=traceback,
        digest=digest,
        body=body[0] if body else None,
    )
