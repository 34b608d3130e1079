"""Dead letters whose bodies somebody has changed, on DynamoDB. What each had before has an item of its own, since a
record of 400 KB does not take two bodies, and is written anew when its message is processed or dies again:

    pk  -/edits/ID/1    at  2026-11-30T10:15:30.123Z    by  ana@desk    body  {"sku": ...}    expires_at  (TTL)

No workload has the name `-`. While the message is dead, its record has `edited_at`: what was delivered late is of the
body before, and changes nothing then (see `open_records.py`); and who redrives it sees that it has another by now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from decoupled.core.dead_letters import DeadLetter, Edit, Outcome, too_many, unfit
from decoupled.core.stack_limits import EDITS_KEPT_S
from decoupled.core.times import now_ms
from decoupled.core.upkeep_limits import MAX_EDITS
from decoupled.core.workload import Unavailable
from decoupled.engines.aws import dead_letter_records as letters
from decoupled.engines.aws import records
from decoupled.engines.aws.attributes import Attribute, Attributes, decode_time, encode, encode_time
from decoupled.engines.aws.client import AwsError, code, detail, unavailable
from decoupled.engines.aws.dead_letter_queue import Copy

CHANGED = "it changed at this moment"
_DEAD = records.after("bury")
_PREFIX = "-/edits/"


def seen(item: Attributes) -> tuple[str, dict[str, Attribute]]:
    """The condition that a dead record has the body that it had when it was read, with its values."""
    if "edited_at" in item:
        return "edited_at = :edited", {":edited": item["edited_at"]}
    return "attribute_not_exists(edited_at)", {}


class Edits:
    """Those of one table. Every method may raise Unavailable."""

    def __init__(self, dynamodb: Any, table_name: str) -> None:
        self._dynamodb = dynamodb
        self._table = table_name

    def of(self, message_id: str) -> tuple[Edit, ...]:
        """Those of a message, oldest first."""
        found: list[Edit] = []
        while len(found) < MAX_EDITS and (item := self._read(message_id, len(found) + 1)) is not None:
            found.append(Edit(decode_time(item["at"]), item["by"]["S"], item["body"]["S"]))
        return tuple(found)

    def with_edits(self, letter: DeadLetter) -> DeadLetter:
        """The same letter, with those of it."""
        found = self.of(letter.id)
        return msgspec.structs.replace(letter, edits=found) if found else letter

    def edit(self, letter: DeadLetter, item: Attributes | None, copies: Sequence[Copy]) -> Outcome:
        """Change one: see DeadLetters. `item` is its record as it is now, `copies` what SQS has of it, for this tool
        alone."""
        before = self.of(letter.id)
        if (why_not := unfit(letter) or too_many(before)) is not None:
            return Outcome(None, why_not)
        at = max([now_ms(), *[it.at + 1 for it in before]])
        if item is not None and (letter.recorded or item["status"] == _DEAD):
            if item["status"] != _DEAD:
                return Outcome(None, f"it is {item['status']['S']}")
            if "body" not in item or item["body"]["S"] != letter.edits[-1].body:
                return Outcome(None, CHANGED)
            change = self._changed_record(letter, item, at)
        elif copies and copies[0].message.body == letter.edits[-1].body:
            change = self._new_record(letter, at)
        else:
            return Outcome(None, CHANGED)
        kept = self._put(letter.id, len(before) + 1, Edit(at, letter.edits[-1].by, letter.edits[-1].body))
        if self._together(change, kept):
            return Outcome("edited")
        return Outcome(None, CHANGED)

    def _changed_record(self, letter: DeadLetter, item: Attributes, at: int) -> dict[str, Any]:
        dead, values = records.may("redrive")
        same_body, its_value = seen(item)
        values |= {":body": encode(letter.body), ":at": encode_time(at), ":seen": item["dead_at"], **its_value}
        update = "SET body = :body, edited_at = :at"
        if letter.group:
            update, values[":group"] = f"{update}, #group = :group", encode(letter.group)
        else:
            update += " REMOVE #group"
        return {
            "Update": {
                "TableName": self._table,
                "Key": {"pk": {"S": letter.id}},
                "UpdateExpression": update,
                "ConditionExpression": f"{dead} AND dead_at = :seen AND {same_body}",
                "ExpressionAttributeNames": {"#status": "status", "#group": "group"},
                "ExpressionAttributeValues": values,
            }
        }

    def _new_record(self, letter: DeadLetter, at: int) -> dict[str, Any]:
        """Of what SQS gave up, which has none. Its copy stays on SQS's queue, and is deleted when it is redriven."""
        item = records.dead(letters.record(letter), letter.group, letter.callback, letter.trace)
        return {
            "Put": {
                "TableName": self._table,
                "Item": item | {"edited_at": encode_time(at)},
                "ConditionExpression": "attribute_not_exists(pk) OR #status = :queued",
                "ExpressionAttributeNames": {"#status": "status"},
                "ExpressionAttributeValues": {":queued": records.after("accept")},
            }
        }

    def keep(self, letter: DeadLetter) -> None:
        """Those that an imported letter had elsewhere."""
        for number, made in enumerate(letter.edits, 1):
            try:
                self._dynamodb.put_item(**self._put(letter.id, number, made)["Put"])
            except AwsError as error:
                if code(error) != "ConditionalCheckFailedException":  # else it is there
                    raise Unavailable(detail(error)) from error

    def forget(self, message_id: str) -> None:
        """The bodies that a message had before; from the last on, so that a second try finds what is left."""
        for number in range(len(self.of(message_id)), 0, -1):
            with unavailable():
                self._dynamodb.delete_item(TableName=self._table, Key=_key(message_id, number))

    def _read(self, message_id: str, number: int) -> Attributes | None:
        with unavailable():
            answer = self._dynamodb.get_item(TableName=self._table, Key=_key(message_id, number), ConsistentRead=True)
        item: Attributes | None = answer.get("Item")
        return item

    def _put(self, message_id: str, number: int, made: Edit) -> dict[str, Any]:
        expires_at_s = now_ms() // 1000 + EDITS_KEPT_S
        item = {"at": encode_time(made.at), "by": encode(made.by), "body": encode(made.body)}
        return {
            "Put": {
                "TableName": self._table,
                "Item": {**_key(message_id, number), **item, "expires_at": encode(expires_at_s)},
                "ConditionExpression": "attribute_not_exists(pk)",
            }
        }

    def _together(self, *actions: Mapping[str, Any]) -> bool:
        """Both or none; False if a condition does not hold."""
        try:
            self._dynamodb.transact_write_items(TransactItems=actions)
        except AwsError as error:
            reasons = error.response.get("CancellationReasons", []) if hasattr(error, "response") else []
            if not any(reason.get("Code") == "ConditionalCheckFailed" for reason in reasons):
                raise Unavailable(detail(error)) from error
            return False
        return True


def _key(message_id: str, number: int) -> Attributes:
    return {"pk": {"S": f"{_PREFIX}{message_id}/{number}"}}


def id_of(stored: Attributes) -> str | None:
    """Of which message something in the table is a body from before an edit; None if it is none."""
    key: str = stored["pk"].get("S", "")
    return key.removeprefix(_PREFIX).partition("/")[0] if key.startswith(_PREFIX) else None
