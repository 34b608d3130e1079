"""Dead letters on AWS: dead records in DynamoDB, with story and body, and what SQS's dead-letter queue holds.

A record is the dead letter; the processor's copy on the queue rings the alarm and is deleted with it. A message on the
queue without a dead record is one that SQS moved there: whatever received it died each time.

    redrive    record: queued, attempts 0  ──▶  SendMessage  ──▶  record leaves the index  ──▶  copy deleted
                    └─ dies here, or there: the record is still in the index, and is redriven again ─┘

Sending twice does no harm: the record makes the effects happen once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from decoupled.core import limits
from decoupled.core.dead_letters import PURGED, DeadLetter, Outcome, Wanted
from decoupled.core.workload import Message
from decoupled.engines.aws import dead_letter_records as letters
from decoupled.engines.aws import records
from decoupled.engines.aws.attributes import Attribute, Attributes, encode, encode_time
from decoupled.engines.aws.client import AwsError, code, unavailable
from decoupled.engines.aws.dead_letter_queue import Copy, DeadLetterQueue
from decoupled.engines.aws.messages import QueuePair, SqsQueue, queues
from decoupled.engines.aws.stack import outputs, tool_client

_STORY = (
    "finished_at",
    "error_type",
    "error",
    "first_failed_at",
    "last_failed_at",
    "traceback",
    "body",
    "group",
    "dead",
    "dead_at",
)


class AwsDeadLetters:
    """Implements DeadLetters."""

    def __init__(
        self,
        dynamodb: Any,
        table_name: str,
        queue: SqsQueue | QueuePair,
        dead_letter_queue: DeadLetterQueue,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._dynamodb = dynamodb
        self._table = table_name
        self._queue = queue
        self._dead_letter_queue = dead_letter_queue
        self._clock_ms = clock_ms
        self._retention_ms = dead_letter_queue.retention_s() * 1000
        self._looked = False
        self._stale: set[str] = set()  # ids whose copies on the queue are of messages that are no longer dead
        self._tidying = False  # such copies are deleted by what acts, and only told by what looks
        self._threads = ThreadPoolExecutor(limits.AWS_CONCURRENCY, "dead-letters")

    @classmethod
    def of_stack(cls, stack: str) -> AwsDeadLetters:
        """Those of a stack. Raises ValueError or Unavailable."""
        found = outputs(stack)
        sqs = tool_client("sqs")
        ordered_url, ordered = found.get("OrderedQueueUrl", ""), found.get("OrderedWorkloads", "").split(",")
        queue = queues(sqs, found["QueueUrl"], found["DeadLetterQueueUrl"], ordered_url, ordered)
        dead_letter_urls = [
            found[name] for name in ("DeadLetterQueueUrl", "OrderedDeadLetterQueueUrl") if name in found
        ]
        return cls(tool_client("dynamodb"), found["TableName"], queue, DeadLetterQueue(sqs, dead_letter_urls))

    # --- look

    def find(self, wanted: Wanted, bodies: bool = False) -> Iterator[DeadLetter]:
        """First those with a record, then what SQS moved."""
        for letter in self._recorded(wanted):
            if letter in wanted:
                whole = self.get(letter.id) if bodies else letter
                if whole is not None:
                    yield whole
        for copy in self._unrecorded():
            letter = letters.untold(copy, self._retention_ms, bodies)
            if letter in wanted:
                yield letter

    def _recorded(self, wanted: Wanted) -> Iterator[DeadLetter]:
        until = min(wanted.dead_before or self._clock_ms(), self._clock_ms())
        request: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": records.DEAD_INDEX,
            "KeyConditionExpression": "dead = :dead AND dead_at BETWEEN :first AND :last",
            "ExpressionAttributeValues": {
                ":dead": records.DEAD_KEY,
                ":first": encode_time(wanted.dead_after or 0),
                ":last": encode_time(until),
            },
        }
        while True:
            with unavailable():
                page = self._dynamodb.query(**request)
            for item in page["Items"]:
                yield letters.recorded(item, self._retention_ms)
            if "LastEvaluatedKey" not in page:
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def _unrecorded(self) -> list[Copy]:
        """What is on the queue and has no dead record, one copy a message; notes what is stale."""
        self._look()
        found = []
        for message_id, copies in self._dead_letter_queue.copies.items():
            item = self._read(message_id)
            if item is not None and "dead" in item:
                continue
            if item is not None and (item["status"] != records.after("accept") or copies[0].told):
                self._stale.add(message_id)  # finished meanwhile, or redriven by a tool that did not come to its end
            else:
                found.append(copies[0])
        return found

    def _look(self) -> None:
        if not self._looked:
            self._looked = True
            self._dead_letter_queue.look()

    def get(self, message_id: str) -> DeadLetter | None:
        item = self._read(message_id)
        if item is not None and "dead" in item:
            return letters.recorded(item, self._retention_ms)
        copies = (copy for copy in self._unrecorded() if copy.message.id == message_id)
        return next((letters.untold(copy, self._retention_ms, True) for copy in copies), None)

    def _read(self, message_id: str) -> Attributes | None:
        with unavailable():
            answer = self._dynamodb.get_item(TableName=self._table, Key={"pk": {"S": message_id}}, ConsistentRead=True)
        item: Attributes | None = answer.get("Item")
        return item

    # --- act

    def redrive(self, chosen: Sequence[DeadLetter]) -> list[Outcome]:
        self._look()
        self._tidying = True
        return list(self._threads.map(self._redrive_one, chosen))

    def _redrive_one(self, letter: DeadLetter) -> Outcome:
        return self._redrive_recorded(letter) if letter.recorded else self._redrive_copy(letter)

    def _redrive_recorded(self, letter: DeadLetter) -> Outcome:
        item = self._read(letter.id)
        if item is None or "dead" not in item:
            return _not_dead(item)
        record = records.record(item)
        copies = self._dead_letter_queue.copies.get(letter.id, [])
        body = record.body if record.body is not None else next((copy.message.body for copy in copies), None)
        if body is None:
            return Outcome(None, "its body was too large for its record, and SQS has deleted it")
        seen = {":seen": item["dead_at"]}
        # Not that it is dead: one that was redriven half is queued, and still in the index.
        began = self._change(
            letter.id,
            "SET #status = :queued, attempts = :none REMOVE mark",
            "dead_at = :seen",
            {**seen, **_NO_ATTEMPTS, ":queued": records.after("redrive")},
            "status",
        )
        if not began:
            return Outcome(None, "it changed at this moment")
        group = records.group_of(item)
        message = Message(
            record.id, record.workload, body, record.caller, record.accepted_at, group, digest=record.digest
        )
        if (outcome := self._send(message, item["dead_at"]["S"])) is not None:
            return outcome
        # Whatever became of it meanwhile stands: a final record has no dead_at, and one that died again has another.
        self._change(letter.id, f"REMOVE {_names(_STORY)}", "dead_at = :seen", seen, *_STORY)
        self._dead_letter_queue.delete(letter.id)
        return Outcome("redriven")

    def _redrive_copy(self, letter: DeadLetter) -> Outcome:
        copies = self._dead_letter_queue.copies.get(letter.id)
        if not copies:
            return Outcome(None, "SQS's dead-letter queue does not have it any more")
        queued = {":queued": records.after("accept")}
        none = "SET attempts = :none REMOVE mark"  # its receive count begins anew
        self._change(letter.id, none, "#status = :queued", {**queued, **_NO_ATTEMPTS}, "status")
        if (outcome := self._send(copies[0].message, str(copies[0].sent_at))) is not None:
            return outcome
        self._dead_letter_queue.delete(letter.id)
        return Outcome("redriven")

    def _send(self, message: Message, death: str) -> Outcome | None:
        unsent = self._queue.send_again(message, death)
        return None if unsent is None else Outcome(None, f"it was not sent: {unsent.detail}")

    def restore(self, chosen: Sequence[DeadLetter]) -> list[Outcome]:
        return list(self._threads.map(self._restore_one, chosen))

    def _restore_one(self, letter: DeadLetter) -> Outcome:
        item = records.dead(letters.record(letter), letter.group)
        purged, values = records.may("restore")
        try:
            self._dynamodb.put_item(
                TableName=self._table,
                Item=item,
                ConditionExpression=f"attribute_not_exists(pk) OR ({purged} AND reason = :purged)",
                ExpressionAttributeNames={"#status": "status"},
                ExpressionAttributeValues={**values, ":purged": {"S": PURGED}},
            )
        except AwsError as error:
            if code(error) != "ConditionalCheckFailedException":
                with unavailable():
                    raise
            return _not_dead(self._read(letter.id))
        return Outcome("imported")

    def purge(self, chosen: Sequence[DeadLetter]) -> list[Outcome]:
        self._look()
        self._tidying = True
        return list(self._threads.map(self._purge_one, chosen))

    def _purge_one(self, letter: DeadLetter) -> Outcome:
        removed = [name for name in _STORY if name != "finished_at"]
        purged = self._change(
            letter.id,
            "SET #status = :rejected, reason = :purged, finished_at = :now,"
            " workload = if_not_exists(workload, :workload), accepted_at = if_not_exists(accepted_at, :accepted_at)"
            f" REMOVE {_names(removed)}",
            "attribute_exists(dead)" if letter.recorded else "attribute_not_exists(pk) OR #status = :queued",
            {
                ":rejected": records.after("purge"),
                ":purged": {"S": PURGED},
                ":now": encode_time(self._clock_ms()),
                ":workload": encode(letter.workload),
                ":accepted_at": encode_time(letter.accepted_at),
                **({} if letter.recorded else {":queued": records.after("accept")}),
            },
            "status",
            *removed,
        )
        if not purged:
            return _not_dead(self._read(letter.id))
        self._dead_letter_queue.delete(letter.id)
        return Outcome("purged")

    def _change(
        self, message_id: str, update: str, condition: str, values: Mapping[str, Attribute], *names: str
    ) -> bool:
        """Update a record; False if the condition does not hold."""
        used = {f"#{name}": name for name in names if f"#{name}" in f"{update} {condition}"}
        try:
            self._dynamodb.update_item(
                TableName=self._table,
                Key={"pk": {"S": message_id}},
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeValues=dict(values),
                **({"ExpressionAttributeNames": used} if used else {}),
            )
        except AwsError as error:
            if code(error) != "ConditionalCheckFailedException":
                with unavailable():
                    raise
            return False
        return True

    # --- end

    def notes(self) -> list[str]:
        """A look that was cut short; copies that are in the way."""
        notes = []
        if self._dead_letter_queue.cut_short:
            notes.append("the dead-letter queue holds more than one look can take: look again after a redrive")
        if self._stale:
            then = "were deleted from it" if self._tidying else "leave it with the next redrive or purge"
            notes.append(f"{len(self._stale)} messages on the dead-letter queue are not dead any more, and {then}")
        return notes

    def close(self) -> None:
        """Tidy up, and give back what the look had hidden."""
        self._threads.shutdown()
        for message_id in self._stale if self._tidying else ():
            self._dead_letter_queue.delete(message_id)
        self._dead_letter_queue.release()


_NO_ATTEMPTS: Mapping[str, Attribute] = {":none": {"N": "0"}}


def _names(attributes: Sequence[str]) -> str:
    return ", ".join(f"#{name}" for name in attributes)


def _not_dead(item: Attributes | None) -> Outcome:
    return Outcome(None, "there is no such message" if item is None else f"it is {item['status']['S']}")
