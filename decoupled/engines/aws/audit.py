"""The audit of a stack on AWS: its table is scanned at a pace, record by record, and what was to be sent is looked for.
Only reads. What waits in SQS has no ids there until it is received, so it is counted, and each record that is not final
has to be among so many:

    open records, emitted ids without a record  ──▶  more than queues and schedules hold? some are lost
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from decoupled.core import audit_stack, limits, upkeep_limits
from decoupled.core.audit import Progress, Report
from decoupled.core.audit_stack import Unseen
from decoupled.core.signed_ids import record_id
from decoupled.core.status import FINAL
from decoupled.core.workload import collection_of
from decoupled.engines.aws import listing, records
from decoupled.engines.aws.attributes import Attributes, decode, decode_time
from decoupled.engines.aws.client import unavailable
from decoupled.engines.aws.kept import GROUP, resources
from decoupled.engines.aws.paced import GET_AT_ONCE, PacedTable, parts
from decoupled.engines.aws.stack import dead_letter_urls, outputs, queue_urls, tool_client

SCHEDULES = 100  # AWS: of a page
_WAITING = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]

Keep = Callable[[str, Mapping[str, Any]], None]
"""Told of each item, by its key."""


class AwsAudit:
    """Of one stack. `units_s`: of the table's reading capacity a second, at most."""

    def __init__(
        self,
        stack: str,
        found: Mapping[str, str],
        group: str | None,
        units_s: float,
        clients: Callable[[str], Any] = tool_client,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._table = PacedTable(clients("dynamodb"), found["TableName"], units_s, pause)
        self._sqs = clients("sqs")
        self._clients = clients
        self._found = found
        self._group = group
        self._clock_ms = clock_ms
        self.report = Report(of=stack)
        self.moving = False  # while it was looked at
        self._since = clock_ms()
        self._records = audit_stack.Records(self.report)
        self._emitted: dict[str, int] = {}
        self._unseen = Unseen(self._since)

    @classmethod
    def of_stack(cls, stack: str, units_s: float) -> AwsAudit:
        """That of a stack. Raises ValueError or Unavailable."""
        group = next((kept.name for kept in resources(stack) if kept.kind == GROUP), None)
        return cls(stack, outputs(stack), group, units_s)

    def run(self, progress: Progress, ledger: Iterable[str], keep: Keep) -> Report:
        """All of it. Raises Unavailable."""
        before = self._waiting()
        self._scan(progress, keep)
        self._look_for_emitted()
        asked = self._ledger(ledger)
        waiting = max(before, self._waiting())
        self.moving = self.moving or waiting > 0
        self._unseen.tell(self.report, waiting)
        self._unseen.tell_of_ledger(self.report, waiting, asked)
        self._records.tell()
        self.report.checked.append(
            f"each record and item of the table, which took {self.units:,.0f} read units"
            f" (USD {self.units * upkeep_limits.READ_UNIT_USD:.2f} in us-east-1, on demand)"
        )
        self.report.unchecked += [
            "what waits in SQS, by id: SQS tells numbers only",
            "whether a message was accepted of which there is no record and which does not wait, without --ledger",
            "effects of messages: final records on AWS keep no bodies",
        ]
        self.report.took_s = round((self._clock_ms() - self._since) / 1000, 3)
        return self.report

    # --- the table --------------------------------------------------------------

    def _scan(self, progress: Progress, keep: Keep) -> None:
        for stored in self._table.scan(lambda done, about: progress("records and items", done, about)):
            self._look_at(stored, keep)

    def _look_at(self, stored: Attributes, keep: Keep) -> None:
        key = stored[limits.KEY_ATTRIBUTE].get("S", "")
        if "/" in key:
            self._item(key, stored, keep)
            return
        try:
            row = {name: decode(attribute) for name, attribute in stored.items()}
            row |= {name: decode_time(stored[name]) for name in audit_stack.TIMES if name in stored}
            row |= {"result": {}} if records.RESULT_TEXT in row else {}  # as text, since no map holds it
            emits = records.emits(stored)
        except (KeyError, TypeError, ValueError) as error:
            self.report.find("record", f"it cannot be read: {type(error).__name__}", ids=[key])
            return
        self._records.look_at(key, row)
        status, ended = row.get("status"), row.get("finished_at")
        if status == "queued":
            self._unseen.open(key, max(row.get("accepted_at", 0), row.get("last_failed_at", 0)))
        if status in FINAL and isinstance(ended, int):
            self.moving = self.moving or ended >= self._since - audit_stack.QUIET_MS
            if row.get("expires_at", self._since) * 1000 > self._since:  # else what it emitted may have gone before it
                self._emitted |= {emit.id: max(ended, emit.due_at or 0) for emit in emits}
        if len(self._emitted) >= GET_AT_ONCE:
            self._look_for_emitted()

    def _item(self, key: str, stored: Attributes, keep: Keep) -> None:
        collection = stored.get(limits.COLLECTION_ATTRIBUTE, {}).get("S")
        if collection is not None and collection != collection_of(key):
            self.report.find("item", "it is listed in a collection that is not its own", ids=[key])
        if "status" in stored and "accepted_at" in stored and "workload" in stored:
            self.report.find("item", "it looks like a record under the key of an item", ids=[key])
        try:
            keep(key, listing.item(stored))
        except (TypeError, ValueError):
            self.report.find("item", "it holds what no workload writes", ids=[key])

    # --- by id ------------------------------------------------------------------

    def _look_for_emitted(self) -> None:
        """Those that were sent a moment ago may have no record yet, as all that wait."""
        found = self._statuses(self._emitted)
        for message_id, at in self._emitted.items():
            if message_id not in found:
                self._unseen.emitted(message_id, at)
        self._emitted = {}

    def _ledger(self, ledger: Iterable[str]) -> int:
        asked = 0
        for some in parts(ledger, upkeep_limits.EMITTED_AT_ONCE):
            asked += len(some)
            found = self._statuses(record_id(message_id) for message_id in some)
            for message_id in some:
                self._unseen.of_ledger(message_id, found.get(record_id(message_id)))
        return asked

    def _statuses(self, ids: Iterable[str]) -> dict[str, str]:
        """Of those that have a record."""
        found = self._table.read(ids)
        return {message_id: stored.get("status", {}).get("S", "") for message_id, stored in found.items()}

    @property
    def units(self) -> float:
        """Of the table's capacity, that it took."""
        return self._table.units

    # --- what waits -------------------------------------------------------------

    def _waiting(self) -> int:
        """On all queues, those of dead letters too, and in schedules."""
        total = 0
        for url in (*queue_urls(self._found), *dead_letter_urls(self._found)):
            with unavailable():
                told = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=_WAITING)["Attributes"]
            total += sum(int(told.get(name, 0)) for name in _WAITING)
        return total + sum(1 for _ in self._schedules())

    def _schedules(self) -> Iterator[Any]:
        if self._group is None:
            return
        scheduler, more = self._clients("scheduler"), dict[str, str]()
        while True:
            with unavailable():
                page = scheduler.list_schedules(GroupName=self._group, MaxResults=SCHEDULES, **more)
            yield from page["Schedules"]
            if not page.get("NextToken"):
                return
            more = {"NextToken": page["NextToken"]}
