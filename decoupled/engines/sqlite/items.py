"""The items that workloads write, on SQLite: read, and as they will be after a message's writes. Conditions are checked
before anything is written, which one writer at a time makes safe. An item that nobody in particular owns has the owner
""."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Context, Decimal
from typing import Any, assert_never

import msgspec

from decoupled.core import limits
from decoupled.core.outcomes import Page
from decoupled.core.workload import Add, Delete, Number, Put, Update, Write
from decoupled.engines.sqlite.database import Database

Changed = tuple[str, str | None, str]
"""An item as it will be: its key, its text, or None if it will be gone, and its owner."""


def read(database: Database, key: str) -> tuple[dict[str, Any] | None, str]:
    """The item, numbers as int or Decimal, and its owner."""
    with database.refusals:
        row = database.execute("SELECT item, owner FROM items WHERE key = ?", (key,)).fetchone()
    return (None, "") if row is None else (_item.decode(row[0]), row[1])


def page(database: Database, prefix: str, after: str, limit: int) -> Page:
    """By a range of the keys' index, which is in the order of their UTF-8."""
    found: list[tuple[str, Mapping[str, Any]]] = []
    size = 0
    with database.refusals:
        rows = database.execute(
            "SELECT key, item FROM items WHERE key >= ? AND key > ? AND key < ? ORDER BY key LIMIT ?",
            (prefix, after, _end(prefix), limit + 1),
        )
        for key, text in rows:
            size += len(text)
            if len(found) == limit or (found and size > limits.MAX_LISTED_BYTES):
                return Page(found, more=True)
            found.append((key, _item.decode(text)))
    return Page(found, more=False)


def _end(prefix: str) -> str:
    """The first text after all those that begin with a prefix, which has a slash in it: its last character that has a
    next one, made that. No text holds a surrogate."""
    prefix = prefix.rstrip("\U0010ffff")
    following = ord(prefix[-1]) + 1
    return prefix[:-1] + chr(0xE000 if following == 0xD800 else following)


class TooLarge(Exception):  # noqa: N818  a verdict on the write
    """An item that would be larger than one may be."""


def after(database: Database, writes: Sequence[Write], owner: str) -> tuple[str | None, list[Changed]]:
    """The reason of the first write whose condition does not hold, or the items as they will be. Those that are new, or
    stored whole, are the owner's. Raises TooLarge."""
    changed: list[Changed] = []
    for write in writes:
        stored, whose = read(database, write.key)
        if stored is None or isinstance(write, Put):
            whose = owner
        if (reason := _refusal(write, stored)) is not None:
            return reason, []
        item: Mapping[str, Any] | None
        match write:
            case Put():
                item = write.item
            case Add():
                item = _added(stored or {}, write)
                if item is None:
                    return write.otherwise, []
            case Update():
                kept = {name: value for name, value in (stored or {}).items() if name not in write.remove}
                item = {**kept, **write.set}
            case Delete():
                item = None
            case never:
                assert_never(never)
        if item or isinstance(write, (Put, Delete)) or stored is not None:  # to add nothing makes no item
            changed.append((write.key, None if item is None else _checked(write, _encode(item)), whose))
    return None, changed


def _checked(write: Write, text: str) -> str:
    """What effects could not be checked for: an item grows by updates."""
    if isinstance(write, Update) and len(text.encode()) > limits.MAX_ITEM_BYTES:
        raise TooLarge(f"the item {write.key!r} would be over {limits.MAX_ITEM_BYTES} bytes")
    return text


def store(database: Database, changed: Sequence[Changed]) -> None:
    """Write them, inside a transaction."""
    database.executemany(
        "INSERT OR REPLACE INTO items (key, item, owner) VALUES (?, ?, ?)", [it for it in changed if it[1]]
    )
    if gone := [(key,) for key, item, _ in changed if item is None]:
        database.executemany("DELETE FROM items WHERE key = ?", gone)


def _refusal(write: Write, stored: Mapping[str, Any] | None) -> str | None:
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


def _added(stored: dict[str, Any], write: Add) -> dict[str, Any] | None:
    """The item after an Add; None if a bound does not hold."""
    item = dict(stored)
    for name, amount in write.amounts.items():
        total = _EXACT.add(Decimal(stored.get(name, 0)), Decimal(amount))
        if name in write.floor and total < write.floor[name]:
            return None
        if name in write.ceiling and total > write.ceiling[name]:
            return None
        item[name] = _whole(total)
    for name, number in write.lowest.items():
        item[name] = min(stored.get(name, number), number)
    for name, number in write.highest.items():
        item[name] = max(stored.get(name, number), number)
    return item


def _number(text: str) -> Number:
    """A JSON number, exactly."""
    return _whole(Decimal(text))


def _whole(number: Decimal) -> Number:
    """Whole numbers as int, as DynamoDB gives them back."""
    return int(number) if number == number.to_integral_value() else number.normalize(_EXACT)


# Sums of two numbers that DynamoDB would store (38 digits, exponents within ±130) are exact in this many digits.
_EXACT = Context(prec=300)


def _encode(item: Mapping[str, Any]) -> str:
    return _json.encode(item).decode()


_json = msgspec.json.Encoder(decimal_format="number")
_item = msgspec.json.Decoder(dict[str, Any], float_hook=_number)  # whole numbers of over 64 bits, too
