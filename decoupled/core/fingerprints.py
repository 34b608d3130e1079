"""By what a message or an item of one engine is compared with that of another, after a move. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from decoupled.core.moving import Carried, CarriedItem
from decoupled.core.status import FINAL


def difference(here: Carried, there: Carried | None, serves: bool = False) -> str | None:
    """Why what is there is not what goes over, in a sentence; None if it is. What was queued may have gone on. If the
    other side `serves` by now, so may have what was dead: it was redriven, and may have died again, or was edited."""
    if there is None:
        return f"{here.id} is {here.status} here, and not there"
    if here.status == "queued" or (serves and here.status == "dead" and _has_gone_on(here, there)):
        return None if _identity(here) == _identity(there) else f"{here.id} is another message there"
    if here.status != there.status:
        return f"{here.id} is {here.status} here, and {there.status} there"
    return None if fingerprint(here) == fingerprint(there) else f"{here.id} is {here.status}, and not the same there"


def _has_gone_on(here: Carried, there: Carried) -> bool:
    return (
        here.status != there.status
        or (there.finished_at or 0) > (here.finished_at or 0)
        or len(there.edits) > len(here.edits)
    )


def item_difference(here: CarriedItem, there: CarriedItem | None) -> str | None:
    """Likewise, of an item."""
    if there is None:
        return f"the item {here.key} is not there"
    return None if item_fingerprint(here) == item_fingerprint(there) else f"the item {here.key} is not the same there"


def fingerprint(record: Carried) -> str:
    """By which the records of two engines are compared: the same for what both say alike, however they keep it. Not of
    what a final record need not keep."""
    story = (record.error_type, record.error, record.first_failed_at, record.last_failed_at, record.traceback)
    told: list[Any] = [*_identity(record), record.status, record.finished_at, record.attempts, *_told(story)]
    if record.status in FINAL:
        told += [None if record.result is None else canonical(record.result), record.reason]
    else:
        told += [record.body, record.group, record.callback, record.trace]
        told += [[edit.at, edit.by, edit.body] for edit in record.edits]
    return _digest(told)


def item_fingerprint(item: CarriedItem) -> str:
    """Likewise, of an item."""
    return _digest([item.key, canonical(item.item), item.owner])


def _identity(record: Carried) -> list[Any]:
    return [record.id, record.workload, record.caller, record.accepted_at, record.digest]


def _told(values: Sequence[Any]) -> list[Any]:
    """An empty text and none are the same: one engine keeps no empty ones."""
    return [value or None for value in values]


def canonical(text: str) -> str:
    """A JSON text in its only form: members in order, each number with the digits that count and no others."""
    return _encoder.encode(_plain(_decoder.decode(text))).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return ["list", *map(_plain, value)]
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        sign, digits, exponent = Decimal(value).as_tuple()
        text = "".join(map(str, digits))
        if not (counting := text.rstrip("0")):
            return ["number"]
        return ["number", sign, counting, int(exponent) + len(text) - len(counting)]
    return value


_decoder = msgspec.json.Decoder(Any, float_hook=Decimal)
_encoder = msgspec.json.Encoder(order="sorted")


def _digest(told: Sequence[Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()[:32]
