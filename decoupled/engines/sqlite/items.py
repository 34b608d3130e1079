"""The items that workloads write, on SQLite: read, and as they will be after a message's writes. Conditions are checked
before anything is written, which one writer at a time makes safe."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Context, Decimal
from typing import Any

import msgspec

from decoupled.core.workload import Add, Number, Put, Write
from decoupled.engines.sqlite.database import Database


def read(database: Database, key: str) -> dict[str, Any] | None:
    """The item, numbers as int or Decimal."""
    with database.refusals:
        row = database.execute("SELECT item FROM items WHERE key = ?", (key,)).fetchone()
    return None if row is None else json.loads(row[0], parse_float=number, parse_int=int)


def after(database: Database, writes: Sequence[Write]) -> tuple[str | None, list[tuple[str, str]]]:
    """The reason of the first write whose condition does not hold, or keys and items as they will be."""
    changed = []
    for write in writes:
        stored = read(database, write.key)
        match write:
            case Put(if_absent=reason) if reason is not None and stored is not None:
                return reason, []
            case Put(item=item):
                changed.append((write.key, _encode(item)))
            case Add(if_present=reason) if reason is not None and stored is None:
                return reason, []
            case Add():
                added = _added(stored or {}, write)
                if added is None:
                    return write.otherwise, []
                changed.append((write.key, _encode(added)))
    return None, changed


def store(database: Database, changed: Sequence[tuple[str, str]]) -> None:
    """Write them, inside a transaction."""
    database.executemany("INSERT OR REPLACE INTO items (key, item) VALUES (?, ?)", changed)


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


def number(text: str) -> Number:
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
