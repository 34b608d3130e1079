"""What a message that has ended would come to now, beside what its record says that it came to. Pure. What can be
compared, and what cannot:

    status      processed or rejected, as the decision says
    result      of what was processed, by value: 1.50 is 1.5, and the order of fields says nothing
    reason      of what was rejected
    conditions  are not judged: the items are those of today, with this message's own effects and all later ones. So a
                commit leaves a message processed that was; and one that was rejected stays so, if its reason is that
                of any condition of the commit
    items       are only seen: one that is not as a write leaves it may have been written again since
    emits       are not compared: nothing keeps what was emitted
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, assert_never

import msgspec

from decoupled.core.outcomes import Commit, Decision, Failure, Record, Reject
from decoupled.core.workload import Add, Delete, Put, Update, Write

Item = Mapping[str, Any]

Read = Callable[[str], Item | None]
"""An item as it is now, by its key. Raises Unavailable."""

Verdict = Literal["unchanged", "differs", "fails", "later"]
"""`later`: its backend is taken for sick, or it is not its time: nothing was found out."""


class Seen(msgspec.Struct, frozen=True):
    """An item that is not as this message would leave it. `wrote`: what the write says of it, by attribute, and None
    where there would be no item; `now`: all of it, and None where there is none."""

    key: str
    wrote: Item | None
    now: Item | None


class Compared(msgspec.Struct, frozen=True):
    """Of one message. `before` and `after`: its result if processed, its reason if rejected; `after` is the error where
    it fails. `items`: those that are not as it would leave them, which is no difference by itself."""

    id: str
    workload: str
    verdict: Verdict
    was: Literal["processed", "rejected"]
    now: Literal["processed", "rejected", "dead", "later"]
    before: Any
    after: Any
    items: Sequence[Seen] = ()
    traceback: str | None = None


def compared(record: Record, decision: Decision, read: Read) -> Compared:
    """A decision beside the record of the same message, which is processed or rejected. Raises ValueError for a record
    that is neither, and what `read` raises."""
    if record.status not in ("processed", "rejected"):
        raise ValueError(f"a message that is {record.status} has come to nothing yet")
    was: Literal["processed", "rejected"] = record.status
    before = record.reason if was == "rejected" else _decoded(record.result or "null")

    def came_to(verdict: Verdict, now: Literal["processed", "rejected", "dead", "later"], after: Any) -> Compared:
        items = tuple(_seen(decision, read)) if was == now == "processed" else ()
        traceback = decision.traceback if isinstance(decision, Failure) else None
        return Compared(record.id, record.workload, verdict, was, now, before, after, items, traceback)

    match decision:
        case Commit() if was == "rejected" and before in _reasons(decision):
            return came_to("unchanged", "rejected", before)
        case Commit():
            result = _decoded(decision.result)
            return came_to(
                "unchanged" if was == "processed" and same(before, result) else "differs", "processed", result
            )
        case Reject():
            verdict: Verdict = "unchanged" if was == "rejected" and before == decision.reason else "differs"
            return came_to(verdict, "rejected", decision.reason)
        case Failure():
            why = f"{decision.error_type}: {decision.error}"
            return came_to("fails", "dead", why) if is_fatal(decision) else came_to("later", "later", why)
        case never:
            assert_never(never)


def is_fatal(failure: Failure) -> bool:
    """Whether it is the message's own, so that it would die of it in the end."""
    return failure.kind in ("failed", "undecodable", "not_ours")


def _reasons(commit: Commit) -> set[str]:
    """Why its conditions might have said no."""
    reasons = set[str]()
    for write in commit.writes:
        reasons.update(reason for reason in (write.if_present, write.if_absent) if reason is not None)
        bounded = isinstance(write, Add) and bool(write.floor or write.ceiling)
        if write.equal or write.absent or bounded:
            reasons.add(write.otherwise)
    return reasons


def _seen(decision: Decision, read: Read) -> Iterator[Seen]:
    for write in decision.writes if isinstance(decision, Commit) else ():
        now = read(write.key)
        if left(write, now) is False:
            yield Seen(write.key, _wrote(write), now)


def left(write: Write, now: Item | None) -> bool | None:
    """Whether an item is as this write leaves it; None where that cannot be told: of a sum, say, any number may be what
    this message and others have made of it."""
    match write:
        case Put():
            return now is not None and same(now, write.item)
        case Update():
            if not write.set and not write.remove:
                return None  # it only asks
            there = now or {}
            return (
                (now is not None or not write.set)
                and all(name in there and same(there[name], value) for name, value in write.set.items())
                and not any(name in there for name in write.remove)
            )
        case Add():
            named = (*write.amounts, *write.lowest, *write.highest)
            return None if not named or (now is not None and all(name in now for name in named)) else False
        case Delete():
            return now is None
        case never:
            assert_never(never)


def _wrote(write: Write) -> Item | None:
    match write:
        case Put():
            return write.item
        case Update():
            return {**dict.fromkeys(write.remove), **write.set}
        case Add():
            return {**write.amounts, **write.lowest, **write.highest}
        case Delete():
            return None
        case never:
            assert_never(never)


def same(one: Any, other: Any) -> bool:
    """Whether two pieces of plain data say the same: numbers by value, and True is no 1."""
    if isinstance(one, Mapping):
        return (
            isinstance(other, Mapping)
            and one.keys() == other.keys()
            and all(same(value, other[name]) for name, value in one.items())
        )
    if isinstance(one, (list, tuple)):
        return (
            isinstance(other, (list, tuple))
            and len(one) == len(other)
            and all(same(*pair) for pair in zip(one, other, strict=True))
        )
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


_json = msgspec.json.Decoder(Any, float_hook=Decimal)


def _decoded(text: str) -> Any:
    return _json.decode(text)
