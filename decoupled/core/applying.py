"""What a write makes of an item: whether its conditions hold, and the item as it will be. Pure: the engine reads the
item, and stores it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Context, Decimal
from typing import Any, assert_never

from decoupled.core.workload import Add, Delete, Number, Put, Update, Write

Item = Mapping[str, Any]


def applied(write: Write, stored: Item | None) -> tuple[str | None, Item | None]:
    """The reason why the write cannot be, or the item after it: None if there is none then."""
    if (reason := _refusal(write, stored)) is not None:
        return reason, None
    match write:
        case Put():
            return None, write.item
        case Add():
            item = _added(stored or {}, write)
            return (write.otherwise, None) if item is None else (None, item)
        case Update():
            kept = {name: value for name, value in (stored or {}).items() if name not in write.remove}
            return None, {**kept, **write.set}
        case Delete():
            return None, None
        case never:
            assert_never(never)


def _refusal(write: Write, stored: Item | None) -> str | None:
    """The reason why a write cannot be, a bound apart."""
    if stored is None and write.if_present is not None:
        return write.if_present
    if stored is not None and write.if_absent is not None:
        return write.if_absent
    there = stored or {}
    if any(name in there for name in write.absent):
        return write.otherwise
    if not all(name in there and _same(there[name], value) for name, value in write.equal.items()):
        return write.otherwise
    return None


def _same(stored: Any, given: str | Number) -> bool:
    """To Python, True is 1; to DynamoDB it is no number."""
    return isinstance(stored, bool) == isinstance(given, bool) and bool(stored == given)


def _added(stored: Item, write: Add) -> dict[str, Any] | None:
    """The item after an Add; None if a bound does not hold."""
    item = dict(stored)
    for name, amount in write.amounts.items():
        total = _EXACT.add(Decimal(stored.get(name, 0)), Decimal(amount))
        if name in write.floor and total < write.floor[name]:
            return None
        if name in write.ceiling and total > write.ceiling[name]:
            return None
        item[name] = whole(total)
    for name, number in write.lowest.items():
        item[name] = min(stored.get(name, number), number)
    for name, number in write.highest.items():
        item[name] = max(stored.get(name, number), number)
    return item


def whole(number: Decimal) -> Number:
    """Whole numbers as int, as DynamoDB gives them back."""
    return int(number) if number == number.to_integral_value() else number.normalize(_EXACT)


# Sums of two numbers that DynamoDB would store (38 digits, exponents within ±130) are exact in this many digits.
_EXACT = Context(prec=300)
