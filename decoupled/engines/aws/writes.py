"""A workload's writes as actions of TransactWriteItems, and why one was refused. Pure.

DynamoDB answers "condition failed" and the item as it was, not which part of the condition. `refusal` asks the same
questions of that item again; where none of them says no, the item had changed since it was read, and the write is built
anew from what it is now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Context, Decimal, Inexact
from typing import Any

from decoupled.core.outcomes import Commit, Reject
from decoupled.core.workload import Add, Message, Number, Put, Write
from decoupled.engines.aws.attributes import Attributes, decode, encode, encode_item

_exact = Context(prec=400, traps=[Inexact])  # DynamoDB's exponents span 255 digits; nothing is rounded here


def reads(write: Write) -> bool:
    """Does the action depend on what is stored? DynamoDB can add, but knows no smaller and larger of two."""
    return isinstance(write, Add) and bool(write.lowest or write.highest)


def action(write: Write, table: str, stored: Attributes | None) -> dict[str, Any] | None:
    """The action for a write, given what is stored where `reads` asked for it; None if there is nothing to do."""
    names = {"#pk": "pk"}
    values: Attributes = {}
    if isinstance(write, Put):
        body: dict[str, Any] = {"TableName": table, "Item": {"pk": {"S": write.key}, **encode_item(write.item)}}
        if write.if_absent is not None:
            body["ConditionExpression"] = "attribute_not_exists(#pk)"
            body["ExpressionAttributeNames"] = names
            body["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        return {"Put": body}

    update, conditions = _add(write, stored or {}, names, values)
    body = {"TableName": table, "Key": {"pk": {"S": write.key}}, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    if write.if_present is not None:
        conditions.append("attribute_exists(#pk)")
    else:
        del names["#pk"]
    if conditions:
        body["ConditionExpression"] = " AND ".join(conditions)
    if update:
        body["UpdateExpression"] = update
    if names:
        body["ExpressionAttributeNames"] = names
    if values:
        body["ExpressionAttributeValues"] = values
    if update:
        return {"Update": body}
    return {"ConditionCheck": body} if conditions else None


def _add(write: Add, stored: Attributes, names: dict[str, str], values: Attributes) -> tuple[str, list[str]]:
    """The update expression of an Add, and its conditions; fills in names and values."""
    added, kept, conditions = [], [], []

    def value(number: Number) -> str:
        placeholder = f":v{len(values)}"
        values[placeholder] = encode(number)
        return placeholder

    def name(attribute: str) -> str:
        placeholder = f"#n{len(names)}"
        names[placeholder] = attribute
        return placeholder

    for attribute, amount in write.amounts.items():
        stands_for = name(attribute)
        added.append(f"{stands_for} {value(amount)}")
        # after = stored + amount must stay in its bounds, and what is not stored yet counts as 0.
        for bounds, compare, holds in ((write.floor, ">=", _at_least), (write.ceiling, "<=", _at_most)):
            if attribute in bounds:
                condition = f"{stands_for} {compare} {value(_exact.subtract(Decimal(bounds[attribute]), amount))}"
                if holds(Decimal(amount), bounds[attribute]):
                    condition = f"(attribute_not_exists({stands_for}) OR {condition})"
                conditions.append(condition)
    # Against what was read: replace it if the given number is beyond it, else insist that it is not.
    for given, beyond, within in ((write.lowest, ">", "<="), (write.highest, "<", ">=")):
        for attribute, number in given.items():
            stands_for, known = name(attribute), stored.get(attribute)
            placeholder = value(number)
            if known is None or _beyond(decode(known), beyond, number):
                kept.append(f"{stands_for} = {placeholder}")
                conditions.append(f"(attribute_not_exists({stands_for}) OR {stands_for} {beyond} {placeholder})")
            else:
                conditions.append(f"{stands_for} {within} {placeholder}")
    parts = [f"SET {', '.join(kept)}"] if kept else []
    parts += [f"ADD {', '.join(added)}"] if added else []
    return " ".join(parts), conditions


def refusal(write: Write, stored: Attributes | None) -> str | None:
    """The reason to reject the message with, given the item for which the condition failed; None if the condition
    failed only because the item had changed since it was read."""
    if isinstance(write, Put):
        return write.if_absent
    if stored is None and write.if_present is not None:
        return write.if_present
    for attribute, amount in write.amounts.items():
        after = _exact.add(Decimal(_stored_number(stored or {}, attribute)), amount)
        if not _at_least(after, write.floor.get(attribute, after)) or not _at_most(
            after, write.ceiling.get(attribute, after)
        ):
            return write.otherwise
    return None


def _stored_number(stored: Mapping[str, Any], attribute: str) -> Number:
    number: Number = decode(stored[attribute]) if attribute in stored else 0
    return number


def _at_least(number: Decimal, bound: Number) -> bool:
    return number >= bound


def _at_most(number: Decimal, bound: Number) -> bool:
    return number <= bound


def _beyond(known: Number, compare: str, number: Number) -> bool:
    return known > number if compare == ">" else known < number


def lanes(decided: Sequence[tuple[Message, Commit | Reject]]) -> list[list[int]]:
    """The indexes of messages that have an id or an item in common, together and in order: at the same time they would
    only collide. What is in different lanes touches nothing in common."""
    lanes: list[tuple[set[str], list[int]]] = []
    for index, (message, decision) in enumerate(decided):
        keys = {message.id}
        if isinstance(decision, Commit):
            keys |= {write.key for write in decision.writes}
        joined = [index]
        apart = []
        for lane in lanes:
            if lane[0] & keys:
                keys |= lane[0]
                joined += lane[1]
            else:
                apart.append(lane)
        lanes = [*apart, (keys, sorted(joined))]
    return [indexes for _, indexes in lanes]
