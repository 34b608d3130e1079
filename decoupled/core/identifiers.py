"""Ids of messages, and digests of entries: what is one, and how they are made. Pure; randomness and clock are passed
in."""

from __future__ import annotations

import hashlib
import re
from decimal import Decimal
from typing import Any

import msgspec

from decoupled.core import limits

PATTERN = rf"[A-Za-z0-9._~-]{{1,{limits.MAX_ID_CHARS}}}"
"""A regular expression for an id: opaque, and safe in a URL without escaping."""

_ID = re.compile(PATTERN)


def is_id(text: str) -> bool:
    """Can this be the id of a message? What is none, no engine needs to be asked for."""
    return _ID.fullmatch(text) is not None


def derived_id(*parts: str) -> str:
    """The id that these parts always give: 40 hex digits of SHA-256 over them, each with its length before it."""
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def keyed_id(workload: str, caller: str, key: str, index: int = 0) -> str:
    """The id of an entry that came with an Idempotency-Key, by its place in its request."""
    return derived_id(workload, "key", caller, key, str(index))


def event_id(workload: str, caller: str, event: str) -> str:
    """The id of a webhook, by what its sender calls it."""
    return derived_id(workload, "event", caller, event)


def new_id(now_ms: int, index: int, random_hex: str) -> str:
    """A fresh id, of 33 hex digits when `random_hex` has 18: the time, the place in the request (under 4,096), chance.

    Ids that grow with time keep their index entries together on disk, which halves the cost of storing them."""
    return f"{now_ms:012x}{index:03x}{random_hex}"


def issued_at(message_id: str) -> int | None:
    """When an id was made, in milliseconds since the epoch; None where the id does not tell, as a derived one."""
    return int(message_id[:12], 16) if _NEW.fullmatch(message_id) else None


_NEW = re.compile("[0-9a-f]{33}")


def digest_of(entry: bytes | bytearray) -> str:
    """The digest that tells an entry, as its client sent it, from others: 24 hex digits, 96 bits of SHA-256.

    White space, the order of members and how text is escaped do not count. Everything else does: a default that is sent
    or left out, and the digits of a number, since 1.0 and 1.00 may mean two things. The schema has no say in it: the
    same entry has the same digest after a deployment that gave the schema another field."""
    try:
        canonical = _canonical.encode(_entry.decode(entry))
    except (msgspec.MsgspecError, ArithmeticError, RecursionError):  # a number that no Python type holds, say
        canonical = bytes(entry)
    return hashlib.sha256(canonical).hexdigest()[:24]


_entry = msgspec.json.Decoder(Any, float_hook=Decimal)
_canonical = msgspec.json.Encoder(order="sorted", decimal_format="number")
