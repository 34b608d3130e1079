"""A stack as the side that a move goes to: records and items into its table, what waits onto its queues.

    put     PutItem, unless there is a record; of what waits an open one, so that GET knows of it
    send    what is queued by SendMessage, or a schedule; a copy of what is dead onto the dead-letter queue
              └─ died here: done again, and sent twice at worst

What is sent twice has its effects once: the record makes sure of that. Throttled is Unavailable, and whoever calls
waits; nothing here is written with more haste than one call after the other in each thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec

from decoupled.core import limits, upkeep_limits
from decoupled.core.fingerprints import difference, item_difference
from decoupled.core.moving import Carried, CarriedItem, Counts
from decoupled.core.outcomes import NotSent
from decoupled.core.status import FINAL
from decoupled.core.workload import Unavailable
from decoupled.engines.aws import carried as forms
from decoupled.engines.aws import listing
from decoupled.engines.aws.attributes import Attributes, encode_time
from decoupled.engines.aws.client import AwsError, code, detail
from decoupled.engines.aws.edits import Edits
from decoupled.engines.aws.messages import SqsQueue
from decoupled.engines.aws.queues import SqsQueues

T = TypeVar("T")
R = TypeVar("R")

_REFUSED = (
    *("AccessDeniedException", "AccessDenied", "ExpiredTokenException", "ExpiredToken", "UnrecognizedClientException"),
    *("ResourceNotFoundException", "InvalidSignatureException", "NoCredentialsError"),
)
_BATCH = 100  # AWS: items of a BatchGetItem
_THERE = {"ConditionExpression": "attribute_not_exists(pk)", "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}


class AwsTarget:
    """Implements Target. `ordered`: the workloads that keep the order of their groups. `listed`: the collections that
    are listed. `warnings` says what is to be known of the stack."""

    def __init__(
        self,
        name: str,
        dynamodb: Any,
        table_name: str,
        queue: SqsQueue | SqsQueues,
        ordered: Collection[str] = (),
        listed: Collection[str] = (),
        record_ttl_days: int = 0,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        identity: str = "",
    ) -> None:
        self.name = name
        self.identity = identity
        self._dynamodb = dynamodb
        self._table = table_name
        self._edits = Edits(dynamodb, table_name)
        self._queue = queue
        self._ordered = ordered
        self._listed = listed
        self._ttl_s = record_ttl_days * 86_400
        self._clock_ms = clock_ms
        self._begun: Sequence[Any] = ()  # the page that was put last,
        self._done: dict[int, str | None] = {}  # and by place what came of each that was
        self._threads = ThreadPoolExecutor(upkeep_limits.MOVE_CALLS, "move")

    def check(self, counts: Counts) -> Sequence[str]:
        """What it means for the bill, and for records that are too old."""
        notes = [f"{counts.all:,} writes to the table of {self.name}, each of a unit for each KB begun"]
        if counts.queued:
            notes.append(f"{counts.queued:,} messages to its queues, {counts.later:,} of them by schedules at most")
        if self._ttl_s:
            days = self._ttl_s // 86_400
            notes.append(f"final records are kept for {days} days from their end there, and 7 from now at least")
        return notes

    # --- put

    def put(self, records: Sequence[Carried]) -> Sequence[str]:
        """Each unless there is one: what is open may have gone on meanwhile. A final record that a move has put may be
        another one by now, see `is_later`."""
        return [why for why in self._rest(self._put, records) if why]

    def _put(self, record: Carried) -> str | None:
        made = self._attributes(record)
        if record.edits:
            self._edits.keep(forms.letter(record))
        existing = self._put_unless_there(made, record)
        if existing is None:
            return None
        there = self._whole(existing)
        if forms.MOVED in existing and forms.is_later(record, there) and self._replaced(made, there, record):
            return None
        return difference(record, there)

    def _replaced(self, made: Attributes, there: Carried, of: Carried) -> bool:
        """Put it in the place of a final one that a move has put, and that nobody has changed since."""
        try:
            self._dynamodb.put_item(
                TableName=self._table,
                Item=made,
                ConditionExpression="attribute_exists(#moved) AND #status = :status AND accepted_at = :accepted_at",
                ExpressionAttributeNames={"#moved": forms.MOVED, "#status": "status"},
                ExpressionAttributeValues={
                    ":status": {"S": there.status},
                    ":accepted_at": encode_time(there.accepted_at),
                },
            )
        except AwsError as error:
            match code(error):
                case "ConditionalCheckFailedException":
                    return False
                case "ValidationException" if (again := forms.with_text(made, of)) is not None:
                    return self._replaced(again, there, of)
                case "ValidationException":
                    raise ValueError(f"{there.id} does not fit the table of {self.name}: {detail(error)}") from error
            raise self._trouble(f"{there.id} was not put", error) from error
        return True

    def _whole(self, found: Attributes) -> Carried:
        return forms.carried(found, self._edits.of(found["pk"]["S"]) if forms.EDITED in found else ())

    def _attributes(self, record: Carried) -> Attributes:
        expires_at_s = None
        if self._ttl_s and record.status in FINAL:
            ended_s = (record.finished_at or record.accepted_at) // 1000
            expires_at_s = max(ended_s + self._ttl_s, self._clock_ms() // 1000 + upkeep_limits.MOVE_KEEPS_S)
        return forms.attributes(record, expires_at_s)

    def _put_unless_there(self, made: Attributes, of: Carried | None = None) -> Attributes | None:
        """What is there already, and stays. Raises ValueError, which names it, for what DynamoDB never takes."""
        key = made["pk"]["S"]
        try:
            self._dynamodb.put_item(TableName=self._table, Item=made, **_THERE)
        except AwsError as error:
            match code(error):
                case "ConditionalCheckFailedException":
                    existing: Attributes = error.response["Item"]
                    return existing
                case "ValidationException" if of and (again := forms.with_text(made, of)) is not None:
                    return self._put_unless_there(again)
                case "ValidationException":
                    raise ValueError(f"{key} does not fit the table of {self.name}: {detail(error)}") from error
            raise self._trouble(f"{key} was not put", error) from error
        return None

    def _trouble(self, what: str, error: Exception) -> Exception:
        """What may be over in a moment, or what a person has to see to."""
        if code(error) in _REFUSED:
            return ValueError(f"{self.name} does not let this command in: {detail(error)}")
        return Unavailable(f"{what}: {detail(error)}")

    def put_items(self, items: Sequence[CarriedItem]) -> Sequence[str]:
        """Each with its owner, and in the index of those that are listed."""
        return [why for why in self._rest(self._put_item, items) if why]

    def _put_item(self, item: CarriedItem) -> str | None:
        existing = self._put_unless_there(forms.item_attributes(item, listing.names(item.key, self._listed)))
        return None if existing is None else item_difference(item, forms.carried_item(existing))

    # --- what waits, and what is dead

    def send(self, records: Sequence[Carried]) -> None:
        """To the queues what is queued there, and a copy of what is dead there to the dead-letter queue."""
        there = self.get([record.id for record in records])
        still = [it for it in records if it.id in there and it.status == there[it.id].status]
        self._send([record for record in still if record.status == "queued"])
        self._each(self._notice, [record for record in still if record.status == "dead"])

    def _notice(self, dead: Carried) -> None:
        try:
            self._queue.send_dead_letter(dead.message(), forms.record(dead))
        except Unavailable as error:
            raise Unavailable(f"{dead.id} has no copy on the dead-letter queue: {error}") from error

    def _send(self, waiting: Sequence[Carried]) -> None:
        together = [record for record in waiting if record.workload not in self._ordered]
        for some in (together, *_in_turn(record for record in waiting if record.workload in self._ordered)):
            outcomes = self._queue.send([record.message() for record in some])
            for record, outcome in zip(some, outcomes, strict=True):
                if outcome is not None:
                    self._sent_otherwise(record, outcome)

    def _sent_otherwise(self, record: Carried, outcome: NotSent) -> None:
        """What its workload has put off may be too large for a schedule: it then comes sooner, and is put off again, as
        on a stack. Raises Unavailable; ValueError, if it can never be sent."""
        if not outcome.transient and record.due_at is not None and record.receive_count:
            sooner = self._clock_ms() + limits.MAX_DELAY_S * 1000
            (again,) = self._queue.send([msgspec.structs.replace(record.message(), due_at=sooner)])
            if again is None:
                return
            outcome = again
        if outcome.transient:
            raise Unavailable(f"{record.id} was not sent: {outcome.detail}")
        raise ValueError(f"{record.id} can never be sent to a queue of {self.name}: {outcome.detail}")

    # --- taken back

    def take_back(self, records: Sequence[Carried]) -> None:
        """Those that are there as they were put, one by one; what they had before an edit at last, so that they are
        still as they were put for who does it again."""
        there = self.get([record.id for record in records])
        found = [(it, there[it.id]) for it in records if it.id in there]
        same = {it.id for it, was in found if it.status == was.status and difference(it, was) is None}
        self._each(self._remove, list(same))
        gone = [it.id for it in records if it.edits and (it.id in same or it.id not in there)]
        self._each(self._edits.forget, gone)

    def take_back_items(self, items: Sequence[CarriedItem]) -> None:
        """Likewise."""
        there = self.get_items([item.key for item in items])
        self._each(self._remove, [item.key for item in items if item_difference(item, there.get(item.key)) is None])

    def _remove(self, key: str) -> None:
        try:
            self._dynamodb.delete_item(TableName=self._table, Key={"pk": {"S": key}})
        except AwsError as error:
            raise self._trouble(f"{key} was not taken back", error) from error

    # --- look

    def get(self, ids: Sequence[str]) -> Mapping[str, Carried]:
        """In BatchGetItem calls."""
        return {found["pk"]["S"]: self._whole(found) for found in self._read(ids)}

    def get_items(self, keys: Sequence[str]) -> Mapping[str, CarriedItem]:
        """Likewise."""
        return {found["pk"]["S"]: forms.carried_item(found) for found in self._read(keys)}

    def _read(self, keys: Sequence[str]) -> Iterator[Attributes]:
        parts = [keys[start : start + _BATCH] for start in range(0, len(keys), _BATCH)]
        for found in self._each(self._read_part, parts):
            yield from found

    def _read_part(self, keys: Sequence[str]) -> list[Attributes]:
        """Until none is left unprocessed: each answer that has some brings others, or Unavailable."""
        found: list[Attributes] = []
        left: Any = {self._table: {"Keys": [{"pk": {"S": key}} for key in keys], "ConsistentRead": True}}
        while left:
            try:
                answer = self._dynamodb.batch_get_item(RequestItems=left)
            except AwsError as error:
                raise self._trouble(f"{keys[0]} and others were not read", error) from error
            some = answer["Responses"].get(self._table, [])
            left = answer.get("UnprocessedKeys") or {}
            if left and not some:
                raise Unavailable(f"the table of {self.name} is throttled: {keys[0]} and others were not read")
            found += some
        return found

    def finish(self) -> None:
        """It serves already."""

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()

    def _rest(self, do: Callable[[T], str | None], of: Sequence[T]) -> list[str | None]:
        """As `_each`; asked for again, those that were not done. A table that takes fewer writes a second than there
        are here would else never have taken all of them at once."""
        if self._begun is not of:
            self._begun, self._done = of, {}

        def once(place: int) -> None:
            if place not in self._done:
                self._done[place] = do(of[place])

        self._each(once, range(len(of)))
        self._begun, done = (), self._done
        return [done[place] for place in range(len(of))]

    def _each(self, do: Callable[[T], R], of: Sequence[T]) -> list[R]:
        """At once; the first trouble is raised when all have ended."""
        futures = [self._threads.submit(do, one) for one in of]
        errors = [error for future in futures if (error := future.exception()) is not None]
        for error in sorted(errors, key=lambda it: isinstance(it, Unavailable)):
            raise error
        return [future.result() for future in futures]


def _in_turn(waiting: Iterable[Carried]) -> Iterator[list[Carried]]:
    """Parts of which each has one of a group at most: what is not sent keeps those behind it from being sent."""
    part: dict[tuple[str, str], Carried] = {}
    for record in waiting:
        if (group := (record.workload, record.group)) in part:
            yield list(part.values())
            part = {}
        part[group] = record
    if part:
        yield list(part.values())
