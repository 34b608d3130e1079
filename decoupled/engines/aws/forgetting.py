"""Forgets what a customer sent to a stack, from the first count to the proof.

    count ─▶ erase, record by record ─▶ copies of dead letters, schedules, edits ─▶ read all of the table once more

Each record is put whole, on the condition that it is still the one that was read: so nothing newer is written over,
and DynamoDB has nothing left of it. Killed in the middle, it is asked for again: what is erased has nothing left to
erase."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from decoupled.core import limits, upkeep_limits
from decoupled.core.forgetting import KEPT, Asked, Report, item_kind, unfinished
from decoupled.core.workload import Message, Unavailable
from decoupled.engines.aws import erased, records, stack_events
from decoupled.engines.aws.attributes import Attributes, encode
from decoupled.engines.aws.client import AwsError, code, unavailable
from decoupled.engines.aws.closing import KEY as MOVE_KEY
from decoupled.engines.aws.dead_letter_queue import DeadLetterQueue
from decoupled.engines.aws.due_later import DueLater
from decoupled.engines.aws.edits import Edits, id_of
from decoupled.engines.aws.erased import Left
from decoupled.engines.aws.forgetting_survey import Show, Survey
from decoupled.engines.aws.kept import GROUP, resources
from decoupled.engines.aws.owners import NOBODY
from decoupled.engines.aws.paced import PacedTable
from decoupled.engines.aws.remaining import Remaining
from decoupled.engines.aws.stack import dead_letter_urls, outputs, tool_client

_CHANGED = ("ConditionalCheckFailedException", "TransactionConflictException")


class AwsForgetting:
    """Of one stack. `units_s`: of the table's capacity a second, at most. `told`: the stack's parameters."""

    def __init__(
        self,
        stack: str,
        found: Mapping[str, str],
        group: str | None,
        told: Mapping[str, str],
        units_s: float,
        clients: Callable[[str], Any] = tool_client,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._stack = stack
        self._dynamodb = clients("dynamodb")
        self._table = PacedTable(self._dynamodb, found["TableName"], units_s, pause)
        self._edits = Edits(self._dynamodb, found["TableName"])
        self._later = DueLater(clients("scheduler"), group)
        self._look = partial(DeadLetterQueue, clients("sqs"), dead_letter_urls(found))
        self._remaining = Remaining(clients, found, told, self._table, clock_ms)
        self._units_s = units_s
        self._ttl_s = int(told.get("RecordTtlDays", "0")) * 86_400
        self._clock_ms = clock_ms
        self._surveyed: tuple[Survey, Report] | None = None

    @classmethod
    def of_stack(cls, stack: str, units_s: float) -> AwsForgetting:
        """That of a stack. Raises ValueError or Unavailable."""
        found = outputs(stack)
        with unavailable():
            told = stack_events.parameters(stack_events.current(stack))
            group = next((kept.name for kept in resources(stack) if kept.kind == GROUP), None)
        return cls(stack, found, group, told, units_s)

    def cost(self, asked: Asked) -> str:
        """In words, before it begins. A scan that may be a moment behind takes half a unit for 4 KB."""
        table = self._table.described()
        scan = int(table.get("TableSizeBytes", 0)) / 8_192
        units = scan * (2 + (2 if asked.id is None else 0))
        times = "three times" if asked.id is None else "once"
        return (
            f"the table of {self._stack} has about {int(table.get('ItemCount', 0)):,} records and items; it is read"
            f" {times}: {units:,.0f} read units (USD {units * upkeep_limits.READ_UNIT_USD:.2f} in us-east-1, on"
            f" demand), {units / self._units_s / 3600:,.1f} hours at {self._units_s:g} a second. What is erased takes a"
            " write unit for each KB"
        )

    def survey(self, asked: Asked, show: Show) -> Report:
        """What there is; nothing is changed. Raises ValueError or Unavailable."""
        return self._survey_of(asked, show)[1]

    def _survey_of(self, asked: Asked, show: Show) -> tuple[Survey, Report]:
        """The same once more, where it was made: it reads the whole table."""
        if self._surveyed is None or self._surveyed[0].asked != asked:
            survey = Survey(self._table, self._edits, self._later, self._look, asked, show)
            self._surveyed = survey, survey.report()
        return self._surveyed

    def copies(self) -> list[str]:
        """What else has it, and until when."""
        return list(self._remaining.notes())

    def _refuse_while_it_moves(self) -> None:
        with unavailable():
            answer = self._dynamodb.get_item(
                TableName=self._table.name, Key={"pk": {"S": MOVE_KEY}}, ConsistentRead=True
            )
        if answer.get("Item", {}).get("state") == {"S": "stopped"}:
            raise ValueError(f"nothing is erased while {self._stack} moves to {answer['Item']['to']['S']}")

    # --- erase ------------------------------------------------------------------

    def forget(self, asked: Asked, show: Show) -> Report:
        """All of it. Raises ValueError or Unavailable."""
        survey, there = self._survey_of(asked, show)
        if there.unfinished and not asked.unfinished:
            raise ValueError(unfinished(there))
        self._refuse_while_it_moves()
        report, edited = Report(of=asked.says), set[str]()
        for message in filter(None, survey.open.values()):  # first, as only what is erased now tells of them
            self._give_up(survey, message, report, "given up")
        for stored in survey.everything("erasing"):
            if (message_id := id_of(stored)) is not None:
                edited.add(message_id)
            elif survey.is_whose(stored):
                self._erase_record(survey, stored, report)
            elif survey.owns(stored):
                self._erase_item(survey, stored, report)
        self._erase_copies(survey, report)
        for name, _ in survey.due():
            self._later.delete(name)
            report.count("schedules")
        for message_id in survey.whose_edits(edited):
            self._edits.forget(message_id)
            report.count("edits")
        self._prove(survey, report, show)
        return report

    def _erase_record(self, survey: Survey, stored: Attributes, report: Report, dead: bool = False) -> None:
        """What waits only where that is asked for: it may have come since all was counted."""
        message_id = stored["pk"]["S"]
        for _ in range(limits.CONFLICT_TRIES):
            waits = stored["status"] == records.after("accept") and not (dead or message_id in survey.dead)
            if not survey.is_whose(stored) or (waits and not survey.asked.unfinished):
                return
            if self._put(erased.erased(stored, self._clock_ms(), self._expires_at_s())):
                was = stored["status"]["S"]
                report.count("given up" if waits else "dead" if was == "queued" else was)
                for kind, count in erased.kinds(stored).items():
                    report.count(kind, count)
                return
            now = self._table.read([message_id], whole=True).get(message_id)
            if now is None:
                return
            stored = now
        raise Unavailable(f"{message_id} is written all the time; ask again")

    def _give_up(self, survey: Survey, message: Message, report: Report, kind: str) -> None:
        """One that has no record: whoever is handed it has nothing to do."""
        if self._put(erased.never_begun(message, self._clock_ms(), self._expires_at_s())):
            report.count(kind)
        elif (stored := self._table.read([message.id], whole=True).get(message.id)) is not None:
            self._erase_record(survey, stored, report, dead=kind == "dead")

    def _erase_item(self, survey: Survey, stored: Attributes, report: Report) -> None:
        kind = item_kind(stored["pk"]["S"], survey.asked.keep)
        request: dict[str, Any] = {
            "Key": {"pk": stored["pk"]},
            "ConditionExpression": "#owner = :caller",
            "ExpressionAttributeNames": {"#owner": limits.OWNER_ATTRIBUTE},
            "ExpressionAttributeValues": {":caller": stored[limits.OWNER_ATTRIBUTE]},
        }
        call = self._dynamodb.delete_item
        if kind.startswith(KEPT):
            call = self._dynamodb.update_item
            request["UpdateExpression"] = "SET #owner = :nobody"
            request["ExpressionAttributeValues"][":nobody"] = encode(NOBODY)
        report.count(kind, self._written(call, **request))

    def _erase_copies(self, survey: Survey, report: Report) -> None:
        """Of what is dead. What SQS gave up has no record, or an open one; else there is one already."""
        with survey.copies() as queue:
            for message_id, copies in list(queue.copies.items()):
                message = copies[0].message
                if not survey.is_of(message):
                    continue
                if not copies[0].told:
                    self._give_up(survey, message, report, "dead")
                queue.delete(message_id)
                report.count("copies of dead letters", len(copies))

    def _put(self, left: Left) -> bool:
        return self._written(self._dynamodb.put_item, Item=left.item, **left.unchanged)

    def _written(self, call: Callable[..., Any], **request: Any) -> bool:
        """False if it is not what it was."""
        for _ in range(limits.CONFLICT_TRIES):
            try:
                answer = call(TableName=self._table.name, ReturnConsumedCapacity="TOTAL", **request)
            except AwsError as error:
                if code(error) == _CHANGED[0]:
                    return False
                if code(error) != _CHANGED[1]:
                    with unavailable():
                        raise
            else:
                self._table.spent(answer.get("ConsumedCapacity", {}))
                return True
        return False

    def _expires_at_s(self) -> int | None:
        return self._clock_ms() // 1000 + self._ttl_s if self._ttl_s else None

    # --- prove ------------------------------------------------------------------

    def _prove(self, survey: Survey, report: Report, show: Show) -> None:
        """Nothing in the table is its any more, and none of its texts stands in what was."""
        texts = survey.sought.texts(survey.asked.caller)
        report.searched_for = len(texts)
        edited: dict[str, bool] = {}
        for stored in self._table.scan(partial(show, "searching"), consistent=True):
            report.searched_items += 1
            found = any(text in string for string in erased.strings(stored) for text in texts)
            if (message_id := id_of(stored)) is not None:
                edited[message_id] = found or edited.get(message_id, False)
            elif (
                survey.is_whose(stored)
                or survey.owns(stored)
                or (found and erased.is_record(stored) and erased.is_left(stored))
            ):
                report.left += 1
            else:
                report.elsewhere += found
        whose = survey.whose_edits(edited)
        report.left += len(whose)
        report.elsewhere += sum(found for message_id, found in edited.items() if message_id not in whose)
        report.proven = not report.left and not survey.cut_short
        report.notes += [_LEFT] if report.left else []
        report.notes += [_CUT_SHORT] if survey.cut_short else []


_LEFT = "What is its still came meanwhile, or was written at this moment: see that nothing more comes, and ask again."
_CUT_SHORT = "A dead-letter queue holds more than one look can take: ask again, until this is said no more."
