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

from decoupled.core import callbacks, limits
from decoupled.core.dead_letters import PURGED, DeadLetter, Groups, Outcome, Some, Wanted
from decoupled.core.outcomes import Reject
from decoupled.core.workload import Message
from decoupled.engines.aws import dead_letter_looks, records
from decoupled.engines.aws import dead_letter_records as letters
from decoupled.engines.aws.attributes import Attribute, Attributes, encode, encode_time
from decoupled.engines.aws.dead_letter_queue import Copy, DeadLetterQueue
from decoupled.engines.aws.dead_letter_records import OF_DEATH, STORY
from decoupled.engines.aws.dead_letter_table import DeadRecords
from decoupled.engines.aws.edits import CHANGED, Edits, seen
from decoupled.engines.aws.messages import SqsQueue
from decoupled.engines.aws.queues import SqsQueues, queues
from decoupled.engines.aws.stack import dead_letter_urls, outputs, own_queue_urls, tool_client


class AwsDeadLetters:
    """Implements DeadLetters."""

    def __init__(
        self,
        dynamodb: Any,
        table_name: str,
        queue: SqsQueue | SqsQueues,
        dead_letter_queue: DeadLetterQueue,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._records = DeadRecords(dynamodb, table_name)
        self._edits = Edits(dynamodb, table_name)
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
        return cls.of_outputs(outputs(stack))

    @classmethod
    def of_outputs(cls, found: Mapping[str, str]) -> AwsDeadLetters:
        """Those of the stack that has these outputs."""
        sqs = tool_client("sqs")
        ordered_url, ordered = found.get("OrderedQueueUrl", ""), found.get("OrderedWorkloads", "").split(",")
        own = own_queue_urls(found)
        queue = queues(sqs, found["QueueUrl"], found["DeadLetterQueueUrl"], own, ordered_url, ordered)
        look = DeadLetterQueue(sqs, dead_letter_urls(found))
        return cls(tool_client("dynamodb"), found["TableName"], queue, look)

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

    def some(self, wanted: Wanted, after: str | None, most: int) -> Some:
        return dead_letter_looks.some(self._recorded, self._untold, wanted, after, most)

    def groups(self, wanted: Wanted) -> Groups:
        return dead_letter_looks.groups(self.find(wanted))

    def _untold(self) -> Iterator[DeadLetter]:
        return (letters.untold(copy, self._retention_ms, False) for copy in self._unrecorded())

    def _recorded(self, wanted: Wanted) -> Iterator[DeadLetter]:
        until = self._clock_ms() if wanted.dead_before is None else wanted.dead_before
        for item in self._records.listed(wanted.dead_after or 0, until):
            yield letters.recorded(item, self._retention_ms)

    def _unrecorded(self) -> list[Copy]:
        """What is on the queue and has no dead record, one copy a message; notes what is stale."""
        self._look()
        return [it for each in self._dead_letter_queue.copies if (it := self._left(each, self._records.read(each)))]

    def _left(self, message_id: str, item: Attributes | None) -> Copy | None:
        copies = self._dead_letter_queue.copies.get(message_id)
        if not copies or (item is not None and "dead" in item):
            return None
        if item is not None and (item["status"] != records.after("accept") or copies[0].told):
            self._stale.add(message_id)  # finished meanwhile, or redriven by a tool that did not come to its end
            return None
        return copies[0]

    def see_all(self) -> None:
        """For who leaves the queues behind. Raises ValueError or Unavailable, if a look does not see all of them."""
        self._look()
        self._dead_letter_queue.refuse_unseen()

    def _look(self) -> None:
        if not self._looked:
            self._looked = True
            self._dead_letter_queue.look()

    def get(self, message_id: str) -> DeadLetter | None:
        item = self._records.read(message_id)
        if item is not None and "dead" in item:
            return self._edits.with_edits(letters.recorded(item, self._retention_ms))
        self._look()
        copy = self._left(message_id, item)
        return None if copy is None else letters.untold(copy, self._retention_ms, True)

    # --- act

    def redrive(self, chosen: Sequence[DeadLetter]) -> list[Outcome]:
        self._records.refuse_closed()
        self._look()
        self._tidying = True
        return list(self._threads.map(self._redrive_one, chosen))

    def _redrive_one(self, letter: DeadLetter) -> Outcome:
        return self._redrive_recorded(letter) if letter.recorded else self._redrive_copy(letter)

    def _redrive_recorded(self, letter: DeadLetter) -> Outcome:
        item = self._records.read(letter.id)
        if item is None or "dead" not in item:
            return _not_dead(item)
        record = records.record(item)
        copies = self._dead_letter_queue.copies.get(letter.id, [])
        body = record.body if record.body is not None else next((copy.message.body for copy in copies), None)
        if body is None:
            return Outcome(None, "its body was too large for its record, and SQS has deleted it")
        death, (same_body, its_value) = {":seen": item["dead_at"]}, seen(item)
        # Not that it is dead: one that was redriven half is queued, and still in the index.
        began = self._records.change(
            letter.id,
            "SET #status = :queued, attempts = :none REMOVE mark",
            f"dead_at = :seen AND #status <> :purged AND {same_body}",
            {
                **death,
                **its_value,
                **_NO_ATTEMPTS,
                ":queued": records.after("redrive"),
                ":purged": records.after("purge"),
            },
            "status",
        )
        if not began:
            return Outcome(None, CHANGED)
        message = letters.message(item, body)
        if (outcome := self._send(message, item["dead_at"]["S"])) is not None:
            return outcome
        # Whatever became of it meanwhile stands: a final record has no dead_at, and one that died again has another.
        self._records.change(letter.id, f"REMOVE {letters.names(STORY)}", "dead_at = :seen", death, *STORY)
        self._dead_letter_queue.delete(letter.id)
        return Outcome("redriven")

    def _redrive_copy(self, letter: DeadLetter) -> Outcome:
        copies = self._dead_letter_queue.copies.get(letter.id)
        if not copies:
            return Outcome(None, "SQS's dead-letter queue does not have it any more")
        queued = {":queued": records.after("accept")}
        none = "SET attempts = :none REMOVE mark"  # its receive count begins anew
        self._records.change(letter.id, none, "#status = :queued", {**queued, **_NO_ATTEMPTS}, "status")
        if (outcome := self._send(copies[0].message, str(copies[0].sent_at))) is not None:
            return outcome
        self._dead_letter_queue.delete(letter.id)
        return Outcome("redriven")

    def _send(self, message: Message, death: str) -> Outcome | None:
        unsent = self._queue.send_again(message, death)
        return None if unsent is None else Outcome(None, f"it was not sent: {unsent.detail}")

    def restore(self, chosen: Sequence[DeadLetter]) -> list[Outcome]:
        self._records.refuse_closed()
        return list(self._threads.map(self._restore_one, chosen))

    def _restore_one(self, letter: DeadLetter) -> Outcome:
        item = records.dead(letters.record(letter), letter.group, letter.callback, letter.trace)
        if not self._records.restore(item):
            return _not_dead(self._records.read(letter.id))
        self._edits.keep(letter)
        return Outcome("imported")

    def edit(self, chosen: Sequence[DeadLetter]) -> list[Outcome]:
        self._records.refuse_closed()
        if not all(letter.recorded for letter in chosen):
            self._look()
        return list(self._threads.map(self._edit_one, chosen))

    def _edit_one(self, letter: DeadLetter) -> Outcome:
        copies = self._dead_letter_queue.copies.get(letter.id, [])
        return self._edits.edit(letter, self._records.read(letter.id), copies)

    def purge(self, chosen: Sequence[DeadLetter]) -> list[Outcome]:
        self._records.refuse_closed()
        self._look()
        self._tidying = True
        return list(self._threads.map(self._purge_one, chosen))

    def _purge_one(self, letter: DeadLetter) -> Outcome:
        if not self._purge_record(letter):
            item = self._records.read(letter.id)
            if item is None or not ("dead" in item and "callback" in item):
                return _not_dead(item)
            if (outcome := self._purge_and_tell(item)) is not None:
                return outcome
        elif letter.callback and (outcome := self._tell(letters.copied(letter))) is not None:
            return outcome
        self._edits.forget(letter.id)
        self._dead_letter_queue.delete(letter.id)
        return Outcome("purged")

    def _purge_record(self, letter: DeadLetter) -> bool:
        """In one step, where the record tells of no callback."""
        return self._records.change(
            letter.id,
            f"SET {_PURGED}, workload = if_not_exists(workload, :workload),"
            f" accepted_at = if_not_exists(accepted_at, :accepted_at) REMOVE {letters.names(OF_DEATH)}",
            "attribute_exists(dead) AND attribute_not_exists(#callback)"
            if letter.recorded
            else "attribute_not_exists(pk) OR #status = :queued",
            {
                **self._purged(),
                ":workload": encode(letter.workload),
                ":accepted_at": encode_time(letter.accepted_at),
                **({} if letter.recorded else {":queued": records.after("accept")}),
            },
            "status",
            *OF_DEATH,
        )

    def _purge_and_tell(self, item: Attributes) -> Outcome | None:
        """As `_redrive_recorded`: the record leaves the index when its callback is sent. Dying in between leaves it
        there, and it is purged again."""
        message_id, death = item["pk"]["S"], {":seen": item["dead_at"]}
        if not self._records.change(
            message_id, f"SET {_PURGED}", "dead_at = :seen", {**death, **self._purged()}, "status"
        ):
            return Outcome(None, CHANGED)
        if (outcome := self._tell(letters.message(item, ""))) is not None:
            return outcome
        self._records.change(message_id, f"REMOVE {letters.names(OF_DEATH)}", "dead_at = :seen", death, *OF_DEATH)
        return None

    def _tell(self, purged: Message) -> Outcome | None:
        (unsent,) = self._queue.send([callbacks.callback(purged, Reject(PURGED), self._clock_ms(), purged=True)])
        return None if unsent is None else Outcome(None, f"its callback was not sent: {unsent.detail}")

    def _purged(self) -> dict[str, Attribute]:
        return {
            ":rejected": records.after("purge"),
            ":purged": {"S": PURGED},
            ":now": encode_time(self._clock_ms()),
        }

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


_PURGED = "#status = :rejected, reason = :purged, finished_at = :now"
_NO_ATTEMPTS: Mapping[str, Attribute] = {":none": {"N": "0"}}


def _not_dead(item: Attributes | None) -> Outcome:
    return Outcome(None, "there is no such message" if item is None else f"it is {item['status']['S']}")
