"""Faults of an audit that a person has looked into, and what came of that: they stay in each report, with who said so
and when, and alarm nobody any more. One that has grown since is told again. Pure.

A fault is known again by its kind and its `key`, which says nothing that changes while messages come: of the numbers
that are missing in a block, say, the block, and not how many messages that has by now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from decoupled.core.audit import MORE, Acknowledgement, Fault, Kind
from decoupled.core.upkeep_limits import FAULTS


class Acknowledged(msgspec.Struct, frozen=True):
    """A fault as it was then: how much of it, and which ids."""

    kind: Kind
    key: str
    size: int
    ids: list[str]
    by: Acknowledgement


def acknowledge(faults: Iterable[Fault], by: Acknowledgement) -> list[Acknowledged]:
    """Those that are not yet. What stands for others that are not told apart cannot be."""
    return [
        Acknowledged(fault.kind, _key(fault), _size(fault), fault.ids, by)
        for fault in faults
        if fault.acknowledged is None and fault.what != MORE
    ]


def added(known: Sequence[Acknowledged], new: Sequence[Acknowledged]) -> list[Acknowledged]:
    """Both, the last word on each; of too many the newest."""
    return list({(it.kind, it.key): it for it in (*known, *new)}.values())[-FAULTS:]


def mark(faults: Iterable[Fault], known: Iterable[Acknowledged]) -> None:
    """Say of each whether it is known, and no worse than it was."""
    by_key = {(it.kind, it.key): it for it in known}
    for fault in faults:
        it = by_key.get((fault.kind, _key(fault)))
        fault.acknowledged = it.by if it is not None and fault.what != MORE and _is_no_worse(fault, it) else None


def same(fault: Fault, other: Fault) -> bool:
    """Whether both are of one kind, however much of it."""
    return (fault.kind, _key(fault)) == (other.kind, _key(other))


def _is_no_worse(fault: Fault, known: Acknowledged) -> bool:
    """Of many ids only some are named, and by chance others: then their number counts."""
    all_named = len(known.ids) == known.size
    return _size(fault) <= known.size and (not all_named or set(fault.ids) <= set(known.ids))


def _key(fault: Fault) -> str:
    return fault.key or f"{fault.what} [{fault.where}]"


def _size(fault: Fault) -> int:
    return fault.size or fault.count
