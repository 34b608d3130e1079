"""What the page asks of messages: those that are sought, and the story of one."""

from __future__ import annotations

from typing import Any

import msgspec

from decoupled.core import limits
from decoupled.core.identifiers import is_id
from decoupled.core.problem import Problem
from decoupled.core.search import Found, Sought, Story
from decoupled.core.signed_ids import record_id
from decoupled.dashboard import asked
from decoupled.dashboard.sources import Sources
from decoupled.pipeline.call import Call
from decoupled.pipeline.receiver import idempotency_key

_NUMBERS = ("accepted_after", "accepted_before")


def find(call: Call, sources: Sources) -> Found:
    """GET /-/messages: those that are sought, the newest first. Raises Problem 400, and 422 for what this engine cannot
    look for."""
    try:
        return sources.search.find(_sought(call))
    except ValueError as error:
        raise Problem(422, f"{error}") from error


def _sought(call: Call) -> Sought:
    given: dict[str, Any] = dict(asked.parameters(call, *Sought.__struct_fields__))
    for name in _NUMBERS:
        if name in given:
            given[name] = asked.number(given, name, 0, limits.MAX_TIME_MS, 0)
    given["limit"] = asked.number(given, "limit", 1, limits.MAX_FOUND, Sought().limit)
    if "id" in given:
        given["id"] = _id(given["id"])
    if given.get("key", "").startswith('"'):  # as it stands in a header
        given["key"] = idempotency_key(given["key"])
    try:
        return msgspec.convert(given, Sought)
    except msgspec.ValidationError as error:
        raise Problem(400, f"{error}.") from error


def story(call: Call, sources: Sources) -> Story:
    """GET /-/messages/ID. Raises Problem 404."""
    found = sources.search.story(_id(call.path[-1]))
    if found is None:
        raise Problem(404, "There is no such message here.")
    return found


def _id(shown: str) -> str:
    """As the engine has it, of one as its client may have it. Raises Problem 404 for what is no message's id."""
    message_id = record_id(shown.strip())
    if not is_id(message_id):
        raise Problem(404, f"{shown[:80]!r} is no message's id.")
    return message_id
