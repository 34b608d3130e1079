"""Records and items on one DynamoDB table. What is said to DynamoDB and what its answers mean; how
records and writes look there is in `records.py` and `writes.py`.

One table with one key, `pk`: a message's id for its record, an item's own key for an item (those contain a slash, ids
never do). What makes effects happen once is a single condition on the record:

    first delivery    ── Put record if not final ──▶ applied
    second delivery   ── Put record if not final ──▶ refused; DynamoDB hands back what the first one stored
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from decoupled.core import callbacks, limits, tracing
from decoupled.core.identifiers import is_id
from decoupled.core.outcomes import Commit, Delivery, Failure, NotStored, Page, Record, Reject, Stored
from decoupled.core.status import FINAL
from decoupled.core.workload import Message, Write
from decoupled.engines.aws import listing, owners, records, writes
from decoupled.engines.aws.attributes import Attributes, encode, encode_time
from decoupled.engines.aws.client import AwsError, client, code, detail, unavailable
from decoupled.engines.aws.open_records import UNEDITED, OpenRecords

# Cancellation reasons that are the message's fault, and would be the same for ever.
_REFUSALS = ("ValidationError", "ItemCollectionSizeLimitExceeded")


class DynamoTable:
    """Implements Table. `record_ttl_days`: how long final records are kept; 0 is for ever. `send_dead_letter` puts a
    copy of what is buried on SQS's dead-letter queue. Of workloads that are `ordered`, what is dead stays so until it
    is redriven: those behind it have gone on. A callback says the id that is `shown` to clients."""

    def __init__(
        self,
        dynamodb: Any,
        table_name: str,
        record_ttl_days: int = 0,
        send_dead_letter: Callable[[Message, Record], None] = lambda _message, _dead: None,
        listed: Collection[str] = (),
        pause: Callable[[float], None] = time.sleep,
        spread: Callable[[], float] = random.random,
        ordered: Collection[str] = (),
        shown: Callable[[Message], str] = callbacks.plain,
    ) -> None:
        self._dynamodb = dynamodb
        self._table = table_name
        self._record_ttl_s = record_ttl_days * 86_400
        self._send_dead_letter = send_dead_letter
        self._listed = listed
        self._ordered = ordered
        self._shown = shown
        self._open = OpenRecords(table_name, pause, spread)
        self._threads = ThreadPoolExecutor(limits.AWS_CONCURRENCY, "commit")  # starts none before the first batch

    @classmethod
    def from_environment(
        cls,
        environ: Mapping[str, str],
        send_dead_letter: Callable[[Message, Record], None] = lambda _message, _dead: None,
        ordered: Collection[str] = (),
        listed: Collection[str] = (),
        shown: Callable[[Message], str] = callbacks.plain,
    ) -> DynamoTable:
        """The table that the function's environment names: TABLE_NAME, RECORD_TTL_DAYS."""
        dynamodb, days = client("dynamodb"), int(environ.get("RECORD_TTL_DAYS", "0"))
        return cls(dynamodb, environ["TABLE_NAME"], days, send_dead_letter, listed, ordered=ordered, shown=shown)

    # --- commit

    def commit(self, decided: Sequence[tuple[Message, Commit | Reject]], now_ms: int) -> list[Stored | NotStored]:
        """Messages that touch the same items one after the other, all others at the same time."""
        began_ns = time.time_ns()
        outcomes: dict[int, Stored | NotStored] = {}

        def apply(lane: list[int]) -> None:
            sick: NotStored | None = None
            for index in lane:
                outcome = outcomes[index] = sick or self._apply(*decided[index], now_ms)
                if isinstance(outcome, NotStored) and not outcome.refused:
                    sick = outcome  # the rest of the lane would wait for the same time-out

        lanes = writes.lanes(decided)
        if len(lanes) == 1:
            apply(lanes[0])
        else:
            list(self._threads.map(apply, lanes))
        if tracing.active is not None:
            tracing.committed([decision.trace for _, decision in decided if decision.trace], "records", began_ns)
        return [outcomes[index] for index in range(len(decided))]

    def _apply(self, message: Message, decision: Commit | Reject, now_ms: int) -> Stored | NotStored:
        try:
            if isinstance(decision, Commit) and decision.writes:
                outcome = self._transact(message, decision, now_ms)
                if not isinstance(outcome, Reject):
                    return outcome
                decision = outcome  # a condition said no, so that the record is the only write
            return self._put(message, decision, now_ms)
        except AwsError as error:
            return NotStored(detail(error), refused=code(error) == "ValidationException")

    def _put(self, message: Message, decision: Commit | Reject, now_ms: int) -> Stored | NotStored:
        emits = callbacks.with_callback(message, decision, now_ms, self._shown)
        record = self._record(message, decision, emits, now_ms)
        _, existing = self._open.unless_final(self._dynamodb.put_item, only_if=self._not_too_late(message), Item=record)
        return _stored(decision, emits) if existing is None else records.duplicate(existing)

    def _not_too_late(self, message: Message) -> str:
        ordered = "attribute_not_exists(#pk) OR #status = :may_queued"
        return ordered if message.workload in self._ordered else UNEDITED

    def _transact(self, message: Message, commit: Commit, now_ms: int) -> Stored | NotStored | Reject:
        """Store a record with its writes, all or nothing. Answers Reject if a condition of a write did not hold."""
        emits = callbacks.with_callback(message, commit, now_ms, self._shown)
        put = {
            "Put": {
                "Item": self._record(message, commit, emits, now_ms),
                **self._open.condition(only_if=self._not_too_late(message)),
            }
        }
        stored = {write.key: self._read(write.key) for write in commit.writes if writes.reads(write)}
        collision = "none"
        for _ in self._open.tries():
            built = [
                (write, writes.action(write, self._table, stored.get(write.key), self._listed, message.owner))
                for write in commit.writes
            ]
            actions = [(write, action) for write, action in built if action is not None]
            try:
                self._dynamodb.transact_write_items(TransactItems=[put, *(action for _, action in actions)])
                return _stored(commit, emits)
            except AwsError as error:
                if code(error) != "TransactionCanceledException":
                    raise
                collision = detail(error)
                reasons = error.response["CancellationReasons"]
                outcome = _cancelled(reasons, [write for write, _ in actions], stored)
                if outcome is not None:
                    return outcome
        return NotStored(collision)

    # --- attempts, dead records, reading

    def stored(self, message_id: str) -> Stored | None:
        """In one GetItem."""
        with unavailable():
            item = self._read(message_id)
        return None if item is None or item["status"]["S"] not in FINAL else records.duplicate(item)

    # A record's `mark` tells which delivery was counted last: twice its receive count, and one more once that was taken
    # back. Number and mark change in one step, so that whatever is sent twice, by botocore say, counts once:
    #
    #     begin(2) ─▶ 4 ── its answer is lost ── begin(2): 4 already ── undo(2) ─▶ 5 ── begin(2), late: 5 already

    def begin_attempt(self, delivery: Delivery) -> Record:
        """In one UpdateItem."""
        return records.record(self._count(delivery, {}))

    def undo_attempt(self, delivery: Delivery) -> None:
        """In one UpdateItem."""
        counted = 2 * delivery.receive_count
        with unavailable():
            self._open.unless_final(
                self._dynamodb.update_item,
                names=("attempts", "mark"),
                values={"by": encode(-1), "counted": encode(counted), "mark": encode(counted + 1)},
                only_if="#mark = :counted",
                Key={"pk": {"S": delivery.message.id}},
                UpdateExpression="SET #mark = :mark ADD #attempts :by",
            )

    def record_failure(self, delivery: Delivery, failure: Failure, now_ms: int, begun: bool = False) -> Record:
        """In one UpdateItem."""
        latest = {
            "last_failed_at": encode_time(now_ms),
            "error_type": encode(failure.error_type),
            "error": encode(failure.error),
        }
        if failure.traceback is not None:
            latest["traceback"] = encode(failure.traceback)
        if begun:
            return records.record(self._change_attempts(delivery.message, 0, latest))
        return records.record(self._count(delivery, latest))

    def _count(self, delivery: Delivery, latest: Attributes) -> Attributes:
        mark = {"mark": encode(2 * delivery.receive_count)}
        return self._change_attempts(delivery.message, 1, latest | mark, "attribute_not_exists(#mark) OR #mark < :mark")

    def _change_attempts(self, message: Message, by: int, latest: Attributes, only_if: str = "") -> Attributes:
        """Add to the attempts of an open record, which begins here if need be, and set the latest attributes. Returns
        what is stored after that: unchanged where it is final, or `only_if` does not hold."""
        first = records.opening(message, "accept")
        if "last_failed_at" in latest:
            first["first_failed_at"] = latest["last_failed_at"]
        key = {"pk": first.pop("pk")}
        sets = [f"#{name} = if_not_exists(#{name}, :{name})" for name in first]
        sets += [f"#{name} = :{name}" for name in latest]
        with unavailable():
            answer, existing = self._open.unless_final(
                self._dynamodb.update_item,
                names=(*first, *latest, "attempts"),
                values={**first, **latest, "by": encode(by)},
                only_if=only_if,
                Key=key,
                UpdateExpression=f"SET {', '.join(sets)} ADD #attempts :by",
                ReturnValues="ALL_NEW",
            )
        after: Attributes = answer["Attributes"] if existing is None else existing
        return after

    def bury(self, delivery: Delivery, dead: Record) -> bool:
        """The record by one PutItem, then the copy on SQS's dead-letter queue. A crash in between
        delivers the message again, and both are done again."""
        message = delivery.message
        with unavailable():
            item = records.dead(dead, message.group, message.callback, message.trace)
            _, existing = self._open.unless_final(self._dynamodb.put_item, only_if=UNEDITED, Item=item)
        if existing is None:
            self._send_dead_letter(message, dead)
        return existing is None or existing["status"] == records.after("bury")  # which has another body by now

    def get(self, message_id: str) -> Record | None:
        """The table does not know what the queue holds: None until something is recorded."""
        if not is_id(message_id):
            return None  # an item's key, or no id at all
        with unavailable():
            stored = self._read(message_id)
        return None if stored is None else records.record(stored)

    def item(self, key: str, owner: str | None = None) -> Mapping[str, Any] | None:
        if "/" not in key or len(key.encode(errors="replace")) > limits.MAX_KEY_BYTES:
            return None  # a record's id, or no key at all
        with unavailable():
            stored = self._read(key)
        if stored is None or (owner is not None and owners.owner(stored) != owner):
            return None
        return listing.item(stored)

    def page(self, prefix: str, after: str, limit: int) -> Page:
        """By the index of the collections that are listed, a moment behind the table."""
        with unavailable():
            return listing.page(self._dynamodb.query(TableName=self._table, **listing.query(prefix, after, limit)))

    # --- what DynamoDB is asked

    def _read(self, key: str) -> Attributes | None:
        answer = self._dynamodb.get_item(TableName=self._table, Key={"pk": {"S": key}}, ConsistentRead=True)
        stored: Attributes | None = answer.get("Item")
        return stored

    def _record(self, message: Message, decision: Commit | Reject, emits: Sequence[Message], now_ms: int) -> Attributes:
        expires_at_s = now_ms // 1000 + self._record_ttl_s if self._record_ttl_s else None
        return records.final(message, decision, emits, now_ms, expires_at_s)


def _stored(decision: Commit | Reject, emits: Sequence[Message]) -> Stored:
    if isinstance(decision, Reject):
        return Stored("rejected", decision.reason, emits=emits)
    return Stored("processed", emits=emits)


def _cancelled(
    reasons: Sequence[Mapping[str, Any]], wanted: Sequence[Write], stored: dict[str, Attributes | None]
) -> Stored | NotStored | Reject | None:
    """What a cancelled transaction means; None to try again, with `stored` brought up to date. The reasons stand in the
    order of the actions, and the first one decides: a collision hides whether that write would have failed, too."""
    record, *others = reasons
    if record["Code"] == "ConditionalCheckFailed":
        return records.duplicate(record["Item"])
    for write, why in zip([None, *wanted], [record, *others], strict=True):
        match why["Code"]:
            case "None":
                continue
            case "ConditionalCheckFailed" if write is not None:
                if (reason := writes.refusal(write, why.get("Item"))) is not None:
                    return Reject(reason)
                stored[write.key] = why.get("Item")  # it is not what the write was built for; others may not be, either
            case "TransactionConflict":
                return None
            case name:
                return NotStored(f"{name}: {why.get('Message')}", refused=name in _REFUSALS)
    return None
