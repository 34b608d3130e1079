"""What goes over in a move as attributes of DynamoDB's items, and back. Pure.

A final record that came from elsewhere is one like any other, and keeps the story of its failures, which none that was
made here has. One that waits is an open record, so that GET knows of an id that no stack has given out."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from decoupled.core import dead_letters, limits
from decoupled.core.dead_letters import PURGED, DeadLetter
from decoupled.core.forgetting import is_forgotten
from decoupled.core.moving import Carried, CarriedItem, Edit
from decoupled.core.outcomes import Record
from decoupled.core.status import FINAL
from decoupled.core.workload import Item
from decoupled.engines.aws import listing, owners, records
from decoupled.engines.aws.attributes import (
    Attribute,
    Attributes,
    encode,
    encode_item,
    encode_time,
)

_STORY = ("error_type", "error", "traceback")
_STORY_TIMES = ("first_failed_at", "last_failed_at")
MOVED = "moved"
"""Of a final record that a move has put: an earlier round of it may be mistaken by now; no other record is."""
EDITED = "edited_at"
"""Of a dead record: what it had before somebody changed it stands elsewhere, see `edits.py`."""
_SHARED = [name for name in Record.__struct_fields__ if name in Carried.__struct_fields__]

_json = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)
_text = msgspec.json.Encoder(decimal_format="number")


def attributes(carried: Carried, expires_at_s: int | None = None) -> Attributes:
    """A message's record, whatever its status. `expires_at_s`: of a final one."""
    if carried.status == "dead":
        return _dead(carried)
    made: Attributes = {
        "pk": {"S": carried.id},
        "workload": {"S": carried.workload},
        "status": {"S": carried.status},
        "accepted_at": encode_time(carried.accepted_at),
    }
    for name in ("caller", "digest", "reason", *_STORY):
        if text := getattr(carried, name):
            made[name] = encode(text)
    for name in ("finished_at", *_STORY_TIMES):
        if (ms := getattr(carried, name)) is not None:
            made[name] = encode_time(ms)
    if carried.attempts or carried.status not in FINAL:
        made["attempts"] = encode(carried.attempts)
    if carried.due_at is not None and carried.status not in FINAL:
        made["due_at"] = encode_time(carried.due_at)
    if carried.result is not None:
        made["result"] = encode(_json.decode(carried.result))
    if carried.status in FINAL:
        made[MOVED] = {"BOOL": True}
    if expires_at_s is not None and carried.status in FINAL:
        made["expires_at"] = {"N": str(expires_at_s)}
    return made


def is_later(later: Carried, there: Carried) -> bool:
    """Whether what goes over came after the final record that an earlier round of the move has put: it was purged then,
    and imported since; a person had it forgotten since; or its time was over here, and it was sent again under its
    key."""
    if there.status not in FINAL:
        return False
    if there.reason == PURGED and later.reason != PURGED:
        return True
    if is_forgotten(record(later)):
        return not is_forgotten(record(there))
    same_sender = (there.workload, there.caller) == (later.workload, later.caller)
    return same_sender and later.accepted_at > there.accepted_at


def letter(carried: Carried) -> DeadLetter:
    """A dead one, as this side's other parts have it."""
    told = {name: getattr(carried, name) for name in _OF_A_LETTER}
    return DeadLetter(
        **told | {"error_type": carried.error_type or "", "error": carried.error or ""},
        edits=tuple(dead_letters.Edit(it.at, it.by, it.body) for it in carried.edits),
        dead_at=carried.finished_at or carried.accepted_at,
        buried_by="processor",
    )


def of_letter(found: DeadLetter) -> Carried:
    """The message that a dead letter is of, whole."""
    told = {name: getattr(found, name) for name in _OF_A_LETTER}
    return Carried(**told, status="dead", finished_at=found.dead_at, edits=_edits(found.edits))


_OF_A_LETTER = [name for name in Carried.__struct_fields__ if name in DeadLetter.__struct_fields__ and name != "edits"]


def _edits(found: Sequence[dead_letters.Edit]) -> list[Edit]:
    return [Edit(it.at, it.body, it.by) for it in found]


def record(carried: Carried) -> Record:
    """Its record, as this side's other parts have it."""
    return Record(**{name: getattr(carried, name) for name in _SHARED})


def _dead(carried: Carried) -> Attributes:
    made = records.dead(record(carried), carried.group, carried.callback, carried.trace)
    if carried.edits:
        made[EDITED] = encode_time(carried.edits[-1].at)
    return made


def with_text(made: Attributes, carried: Carried) -> Attributes | None:
    """The same with the result as its JSON, for one that DynamoDB does not take: too long a number, too deep or too
    large as a map. None where that is not it."""
    if "result" not in made or carried.result is None:
        return None
    others = {name: value for name, value in made.items() if name != "result"}
    return others | {records.RESULT_TEXT: {"S": carried.result}}


def carried(found: Attributes, edited: Sequence[dead_letters.Edit] = ()) -> Carried:
    """The message that a record is of, as far as it tells: the body of one that waits is on a queue."""
    known = records.record(found)
    told: dict[str, Any] = {name: getattr(known, name) for name in _SHARED}
    return Carried(
        **told,
        group=records.group_of(found),
        callback=records.callback_of(found),
        trace=records.trace_of(found),
        edits=_edits(edited),
    )


def item_attributes(item: CarriedItem, names: Item) -> Attributes:
    """An item, with what puts it into the index of those that are listed, if anything does."""
    owned: dict[str, Any] = {limits.OWNER_ATTRIBUTE: item.owner} if item.owner else {}
    key: dict[str, Attribute] = {limits.KEY_ATTRIBUTE: {"S": item.key}}
    return key | encode_item({**names, **owned, **_json.decode(item.item)})


def carried_item(found: Attributes) -> CarriedItem:
    """The item that these attributes are of."""
    text = _text.encode(listing.item(found)).decode()
    return CarriedItem(found[limits.KEY_ATTRIBUTE]["S"], text, owners.owner(found) or "")
