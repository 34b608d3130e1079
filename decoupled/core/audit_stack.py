"""What an audit of a stack on AWS makes of what it reads: records by the rules, and what is to be somewhere and has no
record. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from decoupled.core import upkeep_limits
from decoupled.core.audit import EMPTY_WHEN_FORGOTTEN, Day, Report, faults_of
from decoupled.core.forgetting import NOTHING
from decoupled.core.status import STATUSES

GRACE_MS = 3_600_000  # for which what was sent may be on its way, and SQS's numbers behind
QUIET_MS = 60_000  # before an audit, without an end: then items have stood still as well
TIMES = ("accepted_at", "finished_at", "first_failed_at", "last_failed_at", "dead_at")
_NOTHING = msgspec.json.decode(NOTHING)
_EMPTY = ("error", "error_type")  # which are not stored where there is nothing to tell


class Records:
    """Counts them by day and workload, and says which cannot be."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._days: dict[tuple[str, str], Day] = {}
        self._bodiless = 0
        self._redriving = 0

    def look_at(self, key: str, row: Mapping[str, Any]) -> None:
        """One record, its times in milliseconds."""
        status = row.get("status")
        for what in faults_of(_as_here(key, row)):
            self._report.find("record", what, ids=[key])
        in_index = "dead" in row or "dead_at" in row
        if status == "dead":
            self._bodiless += "body" not in row
            if not ("dead" in row and "dead_at" in row):
                self._report.find("record", "a dead message that the index of dead records lacks", ids=[key])
        elif status == "queued":
            self._redriving += in_index
        elif in_index:
            self._report.find("record", f"a {status} message in the index of dead records", ids=[key])
        if status in STATUSES:
            self._report.counts[status] = self._report.counts.get(status, 0) + 1
            self._count(row, status)

    def _count(self, row: Mapping[str, Any], status: str) -> None:
        accepted_at = row.get("accepted_at")
        day = "unknown"
        if isinstance(accepted_at, int):
            day = datetime.fromtimestamp(accepted_at / 1000, UTC).date().isoformat()
        entry = self._days.setdefault((day, str(row.get("workload"))), Day(day, str(row.get("workload"))))
        setattr(entry, status, getattr(entry, status) + 1)

    def tell(self) -> None:
        """What they come to."""
        self._report.days = [self._days[key] for key in sorted(self._days)]
        if self._bodiless:
            what = "dead records without a body: too large for one, of a stranger's; or lost"
            self._report.remarks.append(f"{self._bodiless:,} {what}. `decoupled dead show` tells whether SQS has it")
        if self._redriving:
            self._report.remarks.append(f"{self._redriving:,} redrives that were begun and not ended: redrive again")


def _as_here(key: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """As the rules have it: the fields that a record on AWS has."""
    fields = ("status", "accepted_at", "finished_at", "reason", "attempts", "mark", "error_type", "error")
    told = {name: row.get(name) for name in fields} | {"id": key}
    told["attempts"], told["mark"] = row.get("attempts", 0), row.get("mark", 0)
    told |= {name: row.get(name, "") for name in _EMPTY}
    has = {"message_group": row.get("group"), **row}
    told |= {name: has[name] for name in EMPTY_WHEN_FORGOTTEN if has.get(name)} | {"caller": row.get("caller", "")}
    result = row.get("result")
    told["result"] = None if result is None else "{}" if isinstance(result, Mapping) else "[]"
    if result == _NOTHING:
        told["result"] = NOTHING
    return told


class Unseen:
    """What has no final record, and no other either: it has to wait somewhere. Bounded: of each, some are named."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self._ids: list[str] = []
        self._count = 0
        self._ledger: Counter[str] = Counter()
        self._unknown: list[str] = []

    def open(self, message_id: str, seen_ms: int) -> None:
        """A record that is not final, last heard of then."""
        self._add(message_id, seen_ms)

    def emitted(self, message_id: str, at_ms: int) -> None:
        """One that was to be sent at this time, and has no record."""
        self._add(message_id, at_ms)

    def _add(self, message_id: str, at_ms: int) -> None:
        if self._now_ms - at_ms < GRACE_MS:
            return
        self._count += 1
        if len(self._ids) < upkeep_limits.FAULT_IDS:
            self._ids.append(message_id)

    def tell(self, report: Report, waiting: int) -> None:
        """`waiting`: so many do, as SQS counts. Each of those may be one that has no record at all."""
        if self._count > waiting:
            what = f"{self._count:,} messages have not ended, or were emitted and have no record; {waiting:,} wait"
            report.find("missing", what, "queues and schedules", self._ids, count=self._count - waiting)
        elif self._count:
            what = "messages that have not ended, or were emitted and have no record"
            report.unchecked.append(f"{self._count:,} {what}: {waiting:,} wait, and they may be among them")

    def of_ledger(self, message_id: str, status: str | None) -> None:
        """An id that a client has, and its record's status."""
        if status is not None:
            self._ledger[status] += 1
            return
        self._ledger["without a record"] += 1
        if len(self._unknown) < upkeep_limits.FAULT_IDS:
            self._unknown.append(message_id)

    def tell_of_ledger(self, report: Report, waiting: int, asked: int) -> None:
        """An id without a record waits, or has expired, or is lost."""
        missing = self._ledger.pop("without a record", 0)
        if missing > waiting:
            what = (
                f"clients got a 202 for them, they have no record, and {waiting:,} wait (records expire after a while)"
            )
            report.find("unknown", what, "ledger", self._unknown, count=missing)
        elif missing:
            report.unchecked.append(
                f"{missing:,} ids of the ledger have no record: {waiting:,} wait, they may be these"
            )
        if asked:
            said = ", ".join(f"{status} {count:,}" for status, count in sorted(self._ledger.items()))
            report.checked.append(f"{asked:,} ids of the ledger: {said}")
