"""One block of the ledger, read in one moment: which numbers it has given out, what rows there are, and which of them
cannot be. Only reads; the whole audit stands in `audit.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from decoupled.core.audit import EMPTY_WHEN_FORGOTTEN, RULES, Day, Mark, Report, faults_of
from decoupled.core.forgetting import FORGOTTEN, NOTHING
from decoupled.core.status import STATUSES, Status
from decoupled.core.upkeep_limits import BLOCK_MESSAGES, SUSPECTS
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.ends import STEP

DAY_MS = 86_400_000
MARK = "audit"  # its name
REMOVED = ("processed", "rejected", "dead", "lost")  # by what it was; lost: when the file was recovered

_COUNTS = """
SELECT accepted_at / ?, workload, status, count(*) FROM messages NOT INDEXED
WHERE seq BETWEEN ? AND ? GROUP BY 1, 2, 3
"""


def _broken(status: Status) -> str:
    rules = (f"{name} IS {'NULL' if must == 'there' else 'NOT NULL'}" for name, must in RULES[status].items())
    return f"WHEN '{status}' THEN {' OR '.join(rules)}"


# Whatever `faults_of` finds is found here; it says then what that is.
_UNFIT = f"""
CASE status {" ".join(_broken(status) for status in STATUSES)} ELSE 1 END
    OR length(id) NOT BETWEEN 1 AND 64 OR id GLOB '*[^A-Za-z0-9._~-]*'
    OR typeof(accepted_at) <> 'integer' OR typeof(finished_at) NOT IN ('integer', 'null')
    OR attempts < 0 OR receive_count < 0 OR mark < 0
    OR (in_flight <> 0 AND (status <> 'queued' OR receive_count = 0))
    OR (status = 'queued' AND visible_at IS NULL)
    OR ended >= (SELECT max(last) FROM ends) + {STEP}
    OR (caller = '' AND (result IS '{NOTHING}' OR reason IS '{FORGOTTEN}')
        AND (body IS NOT NULL OR {" OR ".join(f"coalesce({name}, '') <> ''" for name in EMPTY_WHEN_FORGOTTEN[1:])}))
"""  # noqa: S608  all of it is constant
# A body is not read: whether it is there is what matters.
_SUSPECTS = """
SELECT seq, id, status, accepted_at, CASE WHEN body IS NOT NULL THEN 'there' END AS body, result, reason, finished_at,
    error_type, error, attempts, receive_count, mark, in_flight, visible_at, ended, caller, traceback, callback, digest,
    message_group, trace
FROM messages NOT INDEXED WHERE seq BETWEEN ? AND ? AND ({}) LIMIT ?
"""
_NOT_IN_INDEX = """
SELECT m.id FROM messages AS m NOT INDEXED WHERE m.seq BETWEEN ? AND ? AND NOT EXISTS (
    SELECT 1 FROM messages AS i INDEXED BY sqlite_autoindex_messages_1 WHERE i.id = m.id AND i.rowid = m.seq
) LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Depth:
    """How closely rows are looked at. `results`: that each is JSON. `index`: that each row is found by its id."""

    results: bool = True
    index: bool = True


QUICK = Depth(results=False, index=False)


class Blocks:
    """Audits block after block into one report. Its database is a connection of the caller's, used by one thread."""

    def __init__(self, database: Database, report: Report, depth: Depth) -> None:
        self.database = database
        self.report = report
        self.depth = depth
        self.days: dict[tuple[str, str], Day] = {}
        self.before = 0  # that ended before they were accepted, by the clock

    def audit(self, block: int, upto: int) -> int:
        """One block, of numbers up to `upto`. Returns how many rows there were. Raises StoreUnavailable."""
        first, last = max(1, block * BLOCK_MESSAGES), min(upto, (block + 1) * BLOCK_MESSAGES - 1)
        with self.database.refusals, self.database.snapshot():
            rows = self._count(first, last)
            removed = self._removed(block)
            if rows + removed != last - first + 1:
                self._off(first, last, rows, removed)
            self._suspects(first, last)
            if self.depth.index:
                self._indexed(first, last)
        return rows

    def _count(self, first: int, last: int) -> int:
        rows = 0
        for day, workload, status, count in self.database.execute(_COUNTS, (DAY_MS, first, last)):
            rows += count
            if status not in STATUSES:
                continue  # a suspect
            self.report.counts[status] = self.report.counts.get(status, 0) + count
            name = _date(day)
            entry = self.days.setdefault((name, workload), Day(name, workload))
            setattr(entry, status, getattr(entry, status) + count)
        return rows

    def _removed(self, block: int) -> int:
        statement = f"SELECT {', '.join(REMOVED)} FROM removed WHERE block = ?"  # noqa: S608  the names are constants
        found = self.database.execute(statement, (block,)).fetchone()
        if found is None:
            return 0
        total = self.report.removed if self.report.removed is not None else {}
        for status, count in zip(REMOVED, found, strict=True):
            total[status] = total.get(status, 0) + count
            if count < 0:
                self.report.find("tally", f"fewer than no {status} messages were removed", f"block {block}")
        self.report.removed = total
        return sum(found)

    def _off(self, first: int, last: int, rows: int, removed: int) -> None:
        """The account of these numbers does not balance."""
        given, key = last - first + 1, f"block {first // BLOCK_MESSAGES}"
        where = f"numbers {first} to {last}"
        if rows + removed > given:
            self.report.find(
                "surplus",
                f"{rows:,} are there and {removed:,} removed, of {given:,}: more were removed than are gone",
                where,
                key=key,
                size=rows + removed - given,
            )
            return
        what = f"{given - rows - removed:,} of {given:,} messages are neither there nor removed"
        if not removed:
            seen = self.database.execute(
                "SELECT seq FROM messages NOT INDEXED WHERE seq BETWEEN ? AND ?", (first, last)
            )
            where = f"{where}: {_spans(sorted(set(range(first, last + 1)).difference(seq for (seq,) in seen)))}"
        self.report.find("missing", what, where, key=key, size=given - rows - removed)

    def _suspects(self, first: int, last: int) -> None:
        unfit = _UNFIT + (" OR NOT json_valid(coalesce(result, '{}'))" if self.depth.results else "")
        cursor = self.database.execute(_SUSPECTS.format(unfit), (first, last, SUSPECTS))
        names = [column[0] for column in cursor.description]
        for looked, values in enumerate(cursor, 1):
            if looked == SUSPECTS:
                self.report.unchecked.append(f"more rows that cannot be, if any, of numbers {first} to {last}")
            row = dict(zip(names, values, strict=True))
            for what in list(faults_of(row)) or ["it has the number of an end that was not given yet"]:
                self.report.find("record", what, ids=[str(row["id"])])
        (before,) = self.database.execute(
            "SELECT count(*) FROM messages NOT INDEXED WHERE seq BETWEEN ? AND ? AND finished_at < accepted_at",
            (first, last),
        ).fetchone()
        self.before += before

    def _indexed(self, first: int, last: int) -> None:
        """Else who asks for its id is told that it was never accepted, and who sends it again has it done twice."""
        for (message_id,) in self.database.execute(_NOT_IN_INDEX, (first, last, SUSPECTS)):
            self.report.find("record", "it is not found by its id", "sqlite_autoindex_messages_1", [str(message_id)])


def newest(database: Database) -> int:
    """The number that was given out last. Raises StoreUnavailable."""
    with database.refusals:
        found: int = database.execute("SELECT coalesce(max(seq), 0) FROM messages").fetchone()[0]
    return found


def find_shorter(report: Report, upto: int, seen: int) -> None:
    """An audit has seen a higher number than there is. As messages come, it is found less, and never again at last."""
    what = f"{seen - upto:,} messages: an audit has seen more"
    report.find("missing", what, f"numbers {upto + 1} to {seen}", key=f"seen {seen}", size=seen - upto)


def mark_of(database: Database) -> Mark:
    """Where the audit in a server's background has got to in this file, or in the one that this is a copy of. Raises
    StoreUnavailable."""
    with database.refusals:
        row = database.execute("SELECT value FROM marks WHERE name = ?", (MARK,)).fetchone()
    try:
        return msgspec.json.decode(row[0], type=Mark) if row else Mark()
    except (msgspec.DecodeError, TypeError):
        return Mark()  # it begins anew


def _date(day: Any) -> str:
    try:
        return datetime.fromtimestamp(day * DAY_MS / 1000, UTC).date().isoformat()
    except (TypeError, ValueError, OverflowError, OSError):
        return "unknown"  # its row is a suspect


def _spans(numbers: Sequence[int], most: int = 5) -> str:
    """Numbers in words: `4, 17 to 20`."""
    spans: list[tuple[int, int]] = []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1] = (spans[-1][0], number)
        elif len(spans) == most:
            return f"{_said(spans)} and others"
        else:
            spans.append((number, number))
    return _said(spans)


def _said(spans: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{first}" if first == last else f"{first} to {last}" for first, last in spans)
