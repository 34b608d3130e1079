"""What writes leave of an item, one after the other, as far as that can be known. Pure. Conditions are not looked at:
the writes were applied. Their order is told by the clock of one machine, so it is only believed of

    two that lie ORDER_MS or more apart
    sums, which come to the same in any order
    what was made where nothing was (if_absent): that is the first, unless something was deleted
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from decoupled.core.applying import applied
from decoupled.core.comparing import same
from decoupled.core.workload import Add, Delete, Put, Update, Write

ORDER_MS = 1_000  # a clock that is set goes back by less, unless somebody sets it by hand

Item = Mapping[str, Any]


class Wrote(msgspec.Struct, frozen=True, array_like=True, order=True):
    """A write that was applied, when its message ended, which one that was by its number, and of which kind."""

    at: int
    number: int
    write: Write
    kind: str = ""


class Left(msgspec.Struct):
    """`there`: None where that is not known. `whole`: it has the attributes that are `known`, and no others."""

    there: bool | None
    whole: bool
    known: dict[str, Any] = {}
    without: set[str] = set()  # attributes that it does not have


def left_by(wrote: Sequence[Wrote], fresh: bool) -> Left | None:
    """What these leave, in the order of their times; None where that does not tell their order. `fresh`: before the
    first of them there was no item; else nothing is known of what there was."""
    ordered = _ordered(wrote)
    if ordered is None:
        return None
    left = Left(False, True) if fresh else Left(None, False)
    for one in ordered:
        left = _after(left, one.write)
    return left


def _ordered(wrote: Sequence[Wrote]) -> Sequence[Wrote] | None:
    ordered = sorted(filter(_does, wrote), key=lambda one: (one.at, one.number))
    first: list[Wrote] = []
    if not any(isinstance(one.write, Delete) for one in ordered):
        first = [one for one in ordered if isinstance(one.write, Put) and one.write.if_absent is not None]
        if len(first) > 1:
            return None  # which cannot be: their order is not what is wrong
        ordered = [one for one in ordered if one not in first]
    for one, other in pairwise(ordered):
        sums = isinstance(one.write, Add) and isinstance(other.write, Add)
        if not sums and other.at - one.at < ORDER_MS:
            return None
    return first + ordered


def _does(one: Wrote) -> bool:
    """Some only ask that their conditions hold."""
    match one.write:
        case Add(amounts=amounts, lowest=lowest, highest=highest):
            return bool(amounts or lowest or highest)
        case Update(set=new, remove=gone):
            return bool(new or gone)
    return True


def _after(left: Left, write: Write) -> Left:
    match write:
        case Put():
            return Left(True, True, dict(write.item))
        case Delete():
            return Left(False, True)
        case Update(set=new, remove=gone):
            known = {name: value for name, value in left.known.items() if name not in gone} | dict(new)
            without = (left.without | set(gone)) - set(new)
            return Left(bool(new) or left.there is not False, left.whole, known, without)
        case Add():
            return _added(left, write)


def _added(left: Left, write: Add) -> Left:
    """Of what is not known before, the sum is not known either."""
    named = (*write.amounts, *write.lowest, *write.highest)
    known = dict(left.known)
    for name in named:
        if left.whole or name in left.known or name in left.without:
            bare = Add(write.key, *({name: part[name]} if name in part else {} for part in _parts(write)))
            _, item = applied(bare, {name: left.known[name]} if name in left.known else {})
            known |= item or {}
        else:
            known.pop(name, None)
    return Left(True, left.whole, known, left.without - set(named))


def _parts(write: Add) -> tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]:
    return write.amounts, write.lowest, write.highest


def contradictions(left: Left, item: Item | None) -> Iterator[str]:
    """What of an item cannot be, after such writes."""
    if item is None:
        if left.there:
            yield "it is not there, and was written"
        return
    if left.there is False:
        yield "it is there, and was deleted, or never made"
        return
    for name, value in left.known.items():
        if name not in item:
            yield f"it has no {name}, which was {_short(value)}"
        elif not same(value, item[name]):
            yield f"{name} is {_short(item[name])}, and was left as {_short(value)}"
    for name in left.without & item.keys():
        yield f"it has {name}, which was removed"
    if left.whole:
        for name in item.keys() - left.known.keys() - left.without:
            yield f"it has {name}, which nobody wrote"


def _short(value: Any) -> str:
    text = str(value) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
