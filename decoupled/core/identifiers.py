"""Ids of messages: what is one, and how they are made. Pure; randomness and clock are passed in."""

from __future__ import annotations

import hashlib
import re

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


def new_id(now_ms: int, index: int, random_hex: str) -> str:
    """A fresh id, of 33 hex digits when `random_hex` has 18: the time, the place in the request (under 4,096), chance.

    Ids that grow with time keep their index entries together on disk, which halves the cost of storing them."""
    return f"{now_ms:012x}{index:03x}{random_hex}"
