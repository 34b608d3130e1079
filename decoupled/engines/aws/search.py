"""Finds messages of a stack. A table of DynamoDB answers by keys: a message by its id, or by the Idempotency-Key that
its id was made of; and dead ones by everything, since they have an index. For anything else every record would have to
be read (a Scan), which takes minutes and is billed by the record: it is refused, with the reason."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from decoupled.core import limits
from decoupled.core.identifiers import is_id, issued_at, keyed_id
from decoupled.core.outcomes import Record
from decoupled.core.search import Found, Row, Sought, Step, Story
from decoupled.core.signed_ids import record_id
from decoupled.core.status import FINAL
from decoupled.core.times import rfc3339
from decoupled.core.workload import ANONYMOUS
from decoupled.engines.aws import records
from decoupled.engines.aws.attributes import Attributes, encode_time
from decoupled.engines.aws.client import unavailable
from decoupled.engines.aws.dead_letter_table import dead
from decoupled.engines.aws.edits import Edits
from decoupled.engines.aws.stack import tool_client

_NO_INDEX = (
    "a stack's table has no index of {status} messages: look for one by its id, or by its Idempotency-Key with its"
    " caller; only dead ones can be listed"
)
_DEAD_ONLY = "Only dead letters are listed: a stack's table has no index of others, which are found by id or key."
_NO_RECORD = (
    "There is no record{accepted}: its message waits on the queue for its first try, or SQS gave it up (see the dead"
    " letters), or there never was one. SQS cannot be asked for one message."
)
_KEY_ALONE = "an Idempotency-Key is its caller's own: name the caller too, such as iam:ACCOUNT:USERID"
_TRIES = "Of the failures the first and the last are known; and not when SQS hands the message out again."


class AwsSearch:
    """Implements Search (dashboard/sources.py). `workloads`: the names that the stack serves, where they are known;
    `open_to_all`: it asks nobody who they are."""

    def __init__(
        self,
        dynamodb: Any,
        table_name: str,
        workloads: Sequence[str] = (),
        open_to_all: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dynamodb = dynamodb
        self._table = table_name
        self._edits = Edits(dynamodb, table_name)
        self._workloads = workloads
        self._open_to_all = open_to_all
        self._clock = clock

    @classmethod
    def of_outputs(cls, found: Mapping[str, str]) -> AwsSearch:
        """That of the stack that has these outputs."""
        workloads = [name for name in found.get("Workloads", "").split(",") if name]
        return cls(tool_client("dynamodb"), found["TableName"], workloads, found.get("Authorization") == "NONE")

    # --- find

    def find(self, sought: Sought) -> Found:
        """By id or key, with everything else that is given; or dead ones."""
        if sought.id is not None:
            return self._by_id(sought, sought.id)
        if sought.key is not None:
            return self._by_key(sought, sought.key)
        if sought.status not in (None, "dead"):
            raise ValueError(_NO_INDEX.format(status=sought.status))
        return self._dead(sought)

    def _by_id(self, sought: Sought, shown: str) -> Found:
        item = self._read(record_id(shown))
        if item is not None:
            return Found([_row(item)] if _matches(item, sought) else [])
        accepted_at = issued_at(record_id(shown))
        accepted = f", of an id that was made at {rfc3339(accepted_at)}" if accepted_at is not None else ""
        return Found([], note=_NO_RECORD.format(accepted=accepted))

    def _by_key(self, sought: Sought, key: str) -> Found:
        """The entry that it came with, or each of an array, up to the first that has no record yet."""
        caller = sought.caller or (ANONYMOUS if self._open_to_all else None)
        if caller is None:
            raise ValueError(_KEY_ALONE)
        workloads = self._workloads if sought.workload is None else [sought.workload]
        if not workloads:
            raise ValueError("this stack does not say which workloads it serves: name the workload too")
        tried = workloads[: limits.MAX_WORKLOADS_TRIED]
        items = [item for workload in tried for item in self._keyed(workload, caller, key)]
        if not items:
            return Found([], note=_NO_RECORD.format(accepted=""))
        return Found([_row(item) for item in items if _matches(item, sought)])

    def _keyed(self, workload: str, caller: str, key: str) -> Iterator[Attributes]:
        for index in range(limits.MAX_FOUND):
            item = self._read(keyed_id(workload, caller, key, index))
            if item is None:
                return
            yield item

    def _dead(self, sought: Sought) -> Found:
        """The latest deaths first. What SQS gave up has no record, and is not among them."""
        limit = min(max(sought.limit, 1), limits.MAX_FOUND)
        rows, cursor, note = list[Row](), None, _DEAD_ONLY if sought.status is None else ""
        until = self._clock() + limits.STACK_SEARCH_S
        for item in self._listed(sought):
            if len(rows) == limit:
                return Found(rows, cursor, note)
            if cursor is not None and self._clock() > until:
                return Found(rows, cursor, f"{note} This look was cut short: go on from here.".lstrip())
            cursor = f"{item['dead_at']['S']}/{item['pk']['S']}"
            if _matches(item, msgspec.structs.replace(sought, group=None)) and self._is_of_group(item, sought):
                rows.append(_row(item))
        return Found(rows, None, note)

    def _is_of_group(self, item: Attributes, sought: Sought) -> bool:
        """The index does not have the group; the record has."""
        if sought.group is None:
            return True
        whole = self._read(item["pk"]["S"])
        return whole is not None and records.group_of(whole) == sought.group

    def _listed(self, sought: Sought) -> Iterator[Attributes]:
        """Dead records as their index has them, the latest first: what was accepted after a time died after it."""
        after = {":after": encode_time(max(sought.accepted_after or 0, 0))}
        more: dict[str, Any] = {"ScanIndexForward": False, "Limit": limits.DEAD_PAGE}
        if sought.cursor is not None:
            more["ExclusiveStartKey"] = _start(sought.cursor)
        return dead(self._dynamodb, self._table, ">= :after", after, **more)

    # --- the story of one

    def story(self, message_id: str) -> Story | None:
        """From its record, which is there from its first failure or its end on: None before."""
        item = self._read(record_id(message_id))
        if item is None:
            return None
        record = records.record(item)
        return Story(
            row=_row(item),
            record=msgspec.structs.replace(record, body=None, traceback=None),
            steps=_steps(record, item)
            + [Step("edited", it.at, f"its body, by {it.by}") for it in self._edits.of(record.id)],
            receive_count=int(item["mark"]["N"]) // 2 if "mark" in item else 0,
            body=record.body,
            result=None if record.result is None else msgspec.json.decode(record.result),
            note="" if record.status in FINAL and not record.attempts else _TRIES,
        )

    def _read(self, message_id: str) -> Attributes | None:
        """The item of a message's record; None of anything else."""
        if not is_id(message_id):
            return None
        with unavailable():
            answer = self._dynamodb.get_item(TableName=self._table, Key={"pk": {"S": message_id}}, ConsistentRead=True)
        item: Attributes | None = answer.get("Item")
        return item if item is not None and "status" in item and "accepted_at" in item else None

    def close(self) -> None:
        """Nothing is held."""


_CURSOR = re.compile(r"(\d{4}-\d\d-\d\dT[\d:.]{8,15}Z)/([A-Za-z0-9._~-]{1,64})")


def _start(cursor: str) -> Mapping[str, Any]:
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise ValueError("cursor is none that an earlier answer had")
    return {"dead": records.DEAD_KEY, "dead_at": {"S": found[1]}, "pk": {"S": found[2]}}


def _row(item: Attributes) -> Row:
    record = records.record(item)
    most = limits.MAX_SHOWN_CHARS
    return Row(
        id=record.id,
        workload=record.workload,
        status=record.status,
        accepted_at=record.accepted_at,
        caller=record.caller[:most],
        group=records.group_of(item),
        finished_at=record.finished_at,
        attempts=record.attempts,
        error_type=record.error_type or "",
        error=(record.error or "")[:most],
        reason=(record.reason or "")[:most],
    )


def _matches(item: Attributes, sought: Sought) -> bool:
    record = records.record(item)
    text = None if sought.error is None else sought.error.casefold()
    texts = [(told or "").casefold() for told in (record.error, record.reason)]
    return (
        (sought.workload is None or record.workload == sought.workload)
        and (sought.caller is None or record.caller == sought.caller)
        and (sought.group is None or records.group_of(item) == sought.group)
        and (sought.status is None or record.status == sought.status)
        and (text is None or text == (record.error_type or "").casefold() or any(text in it for it in texts))
        and (sought.accepted_after is None or record.accepted_at >= sought.accepted_after)
        and (sought.accepted_before is None or record.accepted_at <= sought.accepted_before)
    )


def _steps(record: Record, item: Attributes) -> list[Step]:
    """What the record tells, in the order in which it happened."""
    steps = [Step("accepted", record.accepted_at, record.caller)]
    failure = f"{record.error_type}: {record.error}"
    if record.first_failed_at is not None and record.first_failed_at != record.last_failed_at:
        steps.append(Step("failed", record.first_failed_at, "the first time"))
    if record.last_failed_at is not None:
        again = f"{failure} (failure {record.attempts})" if record.attempts > 1 else failure
        steps.append(Step("failed", record.last_failed_at, again, record.traceback or ""))
    if record.status == "queued":
        steps.append(Step("waits", None, "on the queue, to be tried again"))
    else:
        steps.append(Step(record.status, record.finished_at, record.reason or ""))
    for emit in records.emits(item):
        due = f", due {rfc3339(emit.due_at)}" if emit.due_at is not None else ""
        steps.append(Step("emitted", record.finished_at, f"{emit.workload}{due}", id=emit.id))
    return steps
