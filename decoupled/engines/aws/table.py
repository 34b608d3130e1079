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
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from decoupled.core import limits
from decoupled.core.identifiers import is_id
from decoupled.core.outcomes import Commit, Delivery, Failure, NotStored, Record, Reject, Stored
from decoupled.core.status import FINAL
from decoupled.core.workload import Message, Unavailable, Write
from decoupled.engines.aws import records, writes
from decoupled.engines.aws.attributes import Attribute, Attributes, decode_item, encode, encode_time
from decoupled.engines.aws.client import AwsError, client, code, detail

# Cancellation reasons that are the message's fault, and would be the same for ever.
_REFUSALS = ("ValidationError", "ItemCollectionSizeLimitExceeded")
_NONE: Mapping[str, Attribute] = {}
_OPEN, _OPEN_VALUES = records.may("process")


class DynamoTable:
    """Implements Table. `record_ttl_days`: how long final records are kept; 0 is for ever. `send_dead_letter` puts a
    copy of what is buried on SQS's dead-letter queue."""

    def __init__(
        self,
        dynamodb: Any,
        table_name: str,
        record_ttl_days: int = 0,
        send_dead_letter: Callable[[Message, Record], None] = lambda _message, _dead: None,
        pause: Callable[[float], None] = time.sleep,
        spread: Callable[[], float] = random.random,
    ) -> None:
        self._dynamodb = dynamodb
        self._table = table_name
        self._record_ttl_s = record_ttl_days * 86_400
        self._send_dead_letter = send_dead_letter
        self._pause = pause
        self._spread = spread
        self._threads = ThreadPoolExecutor(limits.AWS_CONCURRENCY, "commit")  # starts none before the first batch

    @classmethod
    def from_environment(
        cls,
        environ: Mapping[str, str],
        send_dead_letter: Callable[[Message, Record], None] = lambda _message, _dead: None,
    ) -> DynamoTable:
        """The table that the function's environment names: TABLE_NAME, RECORD_TTL_DAYS."""
        days = int(environ.get("RECORD_TTL_DAYS", "0"))
        return cls(client("dynamodb"), environ["TABLE_NAME"], days, send_dead_letter)

    # --- commit

    def commit(self, decided: Sequence[tuple[Message, Commit | Reject]], now_ms: int) -> list[Stored | NotStored]:
        """Messages that touch the same items one after the other, all others at the same time."""
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
        record = self._record(message, decision, now_ms)
        _, existing = self._unless_final(self._dynamodb.put_item, Item=record)
        return _stored(decision) if existing is None else records.duplicate(existing)

    def _transact(self, message: Message, commit: Commit, now_ms: int) -> Stored | NotStored | Reject:
        """Store a record with its writes, all or nothing. Answers Reject if a condition of a write did not hold."""
        put = {"Put": {"Item": self._record(message, commit, now_ms), **self._condition()}}
        stored = {write.key: self._read(write.key) for write in commit.writes if writes.reads(write)}
        collision = "none"
        for _ in self._tries():
            built = [(write, writes.action(write, self._table, stored.get(write.key))) for write in commit.writes]
            actions = [(write, action) for write, action in built if action is not None]
            try:
                self._dynamodb.transact_write_items(TransactItems=[put, *(action for _, action in actions)])
                return _stored(commit)
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
        with _unavailable():
            item = self._read(message_id)
        return None if item is None or item["status"]["S"] not in FINAL else records.duplicate(item)

    def begin_attempt(self, message: Message) -> Record:
        """In one UpdateItem."""
        return self._change_attempts(message, 1, {}, {})

    def undo_attempt(self, message: Message) -> None:
        """In one UpdateItem."""
        self._change_attempts(message, -1, {}, {})

    def record_failure(self, message: Message, failure: Failure, now_ms: int, begun: bool = False) -> Record:
        """In one UpdateItem."""
        latest = {
            "last_failed_at": encode_time(now_ms),
            "error_type": encode(failure.error_type),
            "error": encode(failure.error),
        }
        if failure.traceback is not None:
            latest["traceback"] = encode(failure.traceback)
        return self._change_attempts(message, 0 if begun else 1, {"first_failed_at": encode_time(now_ms)}, latest)

    def _change_attempts(self, message: Message, by: int, once: Attributes, anew: Attributes) -> Record:
        """Add to the attempts of an open record, which begins here if need be; set attributes once or anew."""
        first = records.opening(message, "accept") | once
        key = {"pk": first.pop("pk")}
        sets = [f"#{name} = if_not_exists(#{name}, :{name})" for name in first]
        sets += [f"#{name} = :{name}" for name in anew]
        with _unavailable():
            answer, final = self._unless_final(
                self._dynamodb.update_item,
                names=(*first, *anew, "attempts"),
                values={**first, **anew, "by": {"N": str(by)}},
                Key=key,
                UpdateExpression=f"SET {', '.join(sets)} ADD #attempts :by",
                ReturnValues="ALL_NEW",
            )
        return records.record(answer["Attributes"] if final is None else final)

    def bury(self, delivery: Delivery, dead: Record) -> bool:
        """The record by one PutItem, then the copy on SQS's dead-letter queue. A crash in between
        delivers the message again, and both are done again."""
        with _unavailable():
            _, final = self._unless_final(self._dynamodb.put_item, Item=records.dead(dead))
        if final is None:
            self._send_dead_letter(delivery.message, dead)
        return final is None

    def get(self, message_id: str) -> Record | None:
        """The table does not know what the queue holds: None until something is recorded."""
        if not is_id(message_id):
            return None  # an item's key, or no id at all
        with _unavailable():
            stored = self._read(message_id)
        return None if stored is None else records.record(stored)

    def item(self, key: str) -> Mapping[str, Any] | None:
        if "/" not in key or len(key.encode(errors="replace")) > limits.MAX_KEY_BYTES:
            return None  # a record's id, or no key at all
        with _unavailable():
            stored = self._read(key)
        if stored is None:
            return None
        del stored["pk"]
        return decode_item(stored)

    # --- what DynamoDB is asked

    def _read(self, key: str) -> Attributes | None:
        answer = self._dynamodb.get_item(TableName=self._table, Key={"pk": {"S": key}}, ConsistentRead=True)
        stored: Attributes | None = answer.get("Item")
        return stored

    def _record(self, message: Message, decision: Commit | Reject, now_ms: int) -> Attributes:
        expires_at_s = now_ms // 1000 + self._record_ttl_s if self._record_ttl_s else None
        return records.final(message, decision, now_ms, expires_at_s)

    def _condition(self, names: Sequence[str] = (), values: Mapping[str, Attribute] = _NONE) -> dict[str, Any]:
        """The condition that there is no final record, with further names and values for the request's expressions."""
        return {
            "TableName": self._table,
            "ConditionExpression": f"attribute_not_exists(#pk) OR {_OPEN}",
            "ExpressionAttributeNames": {f"#{name}": name for name in ("pk", "status", *names)},
            "ExpressionAttributeValues": {
                **_OPEN_VALUES,
                **{f":{name}": value for name, value in values.items()},
            },
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    def _unless_final(
        self,
        call: Callable[..., Any],
        names: Sequence[str] = (),
        values: Mapping[str, Attribute] = _NONE,
        **request: Any,
    ) -> tuple[Any, Attributes | None]:
        """Write a record unless there is a final one: the answer, or that record."""
        collision = Exception("no try was made")
        for _ in self._tries():
            try:
                return call(**self._condition(names, values), **request), None
            except AwsError as error:
                match code(error):
                    case "ConditionalCheckFailedException":
                        final: Attributes = error.response["Item"]
                        return None, final
                    case "TransactionConflictException":  # another delivery's transaction holds the record right now
                        collision = error
                    case _:
                        raise
        raise collision

    def _tries(self) -> Iterator[int]:
        """A few tries, with a growing pause before each but the first; jitter keeps colliders from meeting again."""
        for earlier in range(limits.CONFLICT_TRIES):
            if earlier:
                self._pause(limits.CONFLICT_PAUSE_S * 2 ** (earlier - 1) * (1 - self._spread() / 2))
            yield earlier


def _stored(decision: Commit | Reject) -> Stored:
    if isinstance(decision, Reject):
        return Stored("rejected", decision.reason)
    return Stored("processed", emits=decision.emits)


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
                stored[write.key] = why.get("Item")  # it had changed since it was read
                return None
            case "TransactionConflict":
                return None
            case name:
                return NotStored(f"{name}: {why.get('Message')}", refused=name in _REFUSALS)
    return None


@contextmanager
def _unavailable() -> Iterator[None]:
    """AWS's errors as the protocol's."""
    try:
        yield
    except AwsError as error:
        raise Unavailable(detail(error)) from error
