"""A workload's writes as actions of TransactWriteItems, and why one was refused. Pure.

DynamoDB answers "condition failed" and the item as it was, not which part of the condition. `refusal` asks the same
questions of that item again; where none of them says no, the item is not what the write was built for, having changed
since it was read, and the write is built anew from what it is now."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Context, Decimal, Inexact
from typing import Any, assert_never

from decoupled.core import limits
from decoupled.core.outcomes import Commit, Reject
from decoupled.core.workload import Add, Delete, Item, Message, Number, Put, Update, Write
from decoupled.engines.aws import listing, owners
from decoupled.engines.aws.attributes import Attribute, Attributes, decode, encode, encode_item

_exact = Context(prec=400, traps=[Inexact])  # DynamoDB's exponents span 255 digits; nothing is rounded here


def reads(write: Write) -> bool:
    """Does the action depend on what is stored? DynamoDB can add, but knows no smaller and larger of two."""
    return isinstance(write, Add) and bool(write.lowest or write.highest)


def action(
    write: Write, table: str, stored: Attributes | None, listed: Collection[str] = (), owner: str = ""
) -> dict[str, Any] | None:
    """The action for a write, given what is stored where `reads` asked for it, or a try before this one has found it;
    None if there is nothing to do. An item of a collection that is `listed` gets its name, which puts it into the index
    of these. One that is made, or stored whole, is the owner's."""
    names_it = listing.names(write.key, listed)
    expressions = _Expressions()
    conditions = _conditions(write, expressions)
    body: dict[str, Any] = {"TableName": table}
    update = ""
    match write:
        case Put():
            owned = {limits.OWNER_ATTRIBUTE: owner} if owner else {}
            body["Item"] = {"pk": {"S": write.key}, **encode_item({**names_it, **owned, **write.item})}
        case Add():
            update, bounds = _add(write, stored or {}, names_it, expressions)
            conditions += bounds
        case Update():
            update = _update(write, names_it, expressions)
        case Delete():
            pass
        case never:
            assert_never(never)
    if update and owner:
        update, condition = _owned(update, stored, owner, expressions)
        conditions.append(condition)
    if not isinstance(write, Put):
        body["Key"] = {"pk": {"S": write.key}}
    if update:
        body["UpdateExpression"] = update
    if conditions:
        body["ConditionExpression"] = " AND ".join(conditions)
        body["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
    if expressions.names:
        body["ExpressionAttributeNames"] = expressions.names
    if expressions.values:
        body["ExpressionAttributeValues"] = expressions.values
    match write:
        case Put() | Delete():
            return {type(write).__name__: body}
        case Add() | Update():
            if update:
                return {"Update": body}
            return {"ConditionCheck": body} if conditions else None
        case never:
            assert_never(never)


class _Expressions:
    """The names and values of a request's expressions. DynamoDB refuses one that no expression uses."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.values: Attributes = {}

    def name(self, attribute: str) -> str:
        """What stands for an attribute's name."""
        placeholder = f"#n{len(self.names)}"
        self.names[placeholder] = attribute
        return placeholder

    def value(self, value: Any) -> str:
        """What stands for a value."""
        placeholder = f":v{len(self.values)}"
        self.values[placeholder] = encode(value)
        return placeholder


def _conditions(write: Write, expressions: _Expressions) -> list[str]:
    """What every kind of write may ask for."""
    conditions = []
    if write.if_present is not None:
        conditions.append(f"attribute_exists({expressions.name('pk')})")
    if write.if_absent is not None:
        conditions.append(f"attribute_not_exists({expressions.name('pk')})")
    conditions += [f"attribute_not_exists({expressions.name(attribute)})" for attribute in write.absent]
    conditions += [
        f"{expressions.name(attribute)} = {expressions.value(value)}" for attribute, value in write.equal.items()
    ]
    return conditions


def _update(write: Update, names_it: Item, expressions: _Expressions) -> str:
    new = {**names_it, **write.set} if write.set or write.remove else {}
    sets = [f"{expressions.name(attribute)} = {expressions.value(value)}" for attribute, value in new.items()]
    removes = [expressions.name(attribute) for attribute in write.remove]
    parts = [f"SET {', '.join(sets)}"] if sets else []
    parts += [f"REMOVE {', '.join(removes)}"] if removes else []
    return " ".join(parts)


def _add(write: Add, stored: Attributes, names_it: Item, expressions: _Expressions) -> tuple[str, list[str]]:
    """The update expression of an Add, and the conditions that come of it."""
    added, kept, conditions = [], [], []
    name, value = expressions.name, expressions.value
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
    if added or kept:
        kept += [f"{name(attribute)} = {value(text)}" for attribute, text in names_it.items()]
    parts = [f"SET {', '.join(kept)}"] if kept else []
    parts += [f"ADD {', '.join(added)}"] if added else []
    return " ".join(parts), conditions


def _owned(update: str, stored: Attributes | None, owner: str, expressions: _Expressions) -> tuple[str, str]:
    """An update that also says whose the item is, and the condition that comes of it: see `owners.py`."""
    attribute, key = expressions.name(limits.OWNER_ATTRIBUTE), expressions.name("pk")
    if owners.is_unmarked(stored):
        sets = f"{attribute} = {expressions.value(owners.NOBODY)}"
        condition = f"attribute_exists({key}) AND attribute_not_exists({attribute})"
    else:
        sets = f"{attribute} = if_not_exists({attribute}, {expressions.value(owner)})"
        condition = f"(attribute_not_exists({key}) OR attribute_exists({attribute}))"
    more = f", {update.removeprefix('SET ')}" if update.startswith("SET ") else f" {update}"
    return f"SET {sets}{more}", condition


def refusal(write: Write, stored: Attributes | None) -> str | None:
    """The reason to reject the message with, given the item for which the condition failed; None if the condition
    failed only because the item had changed since it was read."""
    if stored is None and write.if_present is not None:
        return write.if_present
    if stored is not None and write.if_absent is not None:
        return write.if_absent
    there = stored or {}
    if any(attribute in there for attribute in write.absent):
        return write.otherwise
    if not all(_same(there.get(attribute), value) for attribute, value in write.equal.items()):
        return write.otherwise
    if not isinstance(write, Add):
        return None
    for attribute, amount in write.amounts.items():
        after = _exact.add(Decimal(_stored_number(there, attribute)), amount)
        if not _at_least(after, write.floor.get(attribute, after)) or not _at_most(
            after, write.ceiling.get(attribute, after)
        ):
            return write.otherwise
    return None


def _same(stored: Attribute | None, given: str | Number) -> bool:
    """As DynamoDB compares: a number is no boolean, and has the same value however it is written."""
    return stored is not None and stored.keys() == encode(given).keys() and bool(decode(stored) == given)


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
