"""The items that workloads write, on SQLite: read, and as they will be after a message's writes. Conditions are checked
before anything is written, which one writer at a time makes safe. An item that nobody in particular owns has the owner
""."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from decoupled.core import limits
from decoupled.core.applying import applied, whole
from decoupled.core.outcomes import Page
from decoupled.core.workload import Delete, Number, Put, Update, Write
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
        reason, item = applied(write, stored)
        if reason is not None:
            return reason, []
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


def _number(text: str) -> Number:
    """A JSON number, exactly."""
    return whole(Decimal(text))


def _encode(item: Mapping[str, Any]) -> str:
    return _json.encode(item).decode()


_json = msgspec.json.Encoder(decimal_format="number")
_item = msgspec.json.Decoder(dict[str, Any], float_hook=_number)  # whole numbers of over 64 bits, too
