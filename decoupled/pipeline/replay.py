"""What a message would come to if it were processed now, as the workloads are and the items: a decision, held against
what is stored. Nothing is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, assert_never

import msgspec

from decoupled.core import limits
from decoupled.core.applying import applied
from decoupled.core.comparing import Read, is_fatal
from decoupled.core.dead_letters import DeadLetter
from decoupled.core.outcomes import Commit, Decision, Failure, Reject
from decoupled.core.workload import Message


class Written(msgspec.Struct, frozen=True):
    """An item that would be written: as it is now, and then; None where there is none."""

    key: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


class Emitted(msgspec.Struct, frozen=True):
    """A message for another workload that would follow; `body` is its entry."""

    workload: str
    body: Any


class Replayed(msgspec.Struct, frozen=True):
    """Of one message. `was`: the error that it died of. `now`: what it would be; `later`: it would be tried again, as
    its backend is taken for sick; `unknown`: its body is not kept. `why`: the reason or error; else it has a result."""

    id: str
    workload: str
    was: str
    now: Literal["processed", "rejected", "dead", "later", "unknown"]
    why: str = ""
    result: Any = None
    writes: Sequence[Written] = ()
    emits: Sequence[Emitted] = ()
    traceback: str | None = None


def message_of(letter: DeadLetter) -> Message | None:
    """The message again that is dead; None where its body is not known."""
    if letter.body is None:
        return None
    return Message(letter.id, letter.workload, letter.body, letter.caller, letter.accepted_at, letter.group)


def replayed(letter: DeadLetter, decision: Decision | None, read: Read) -> Replayed:
    """What this decision, or none, means for a dead letter."""
    was = f"{letter.error_type}: {letter.error}" if letter.error else letter.error_type
    match decision:
        case None:
            return Replayed(letter.id, letter.workload, was, "unknown", "its body is not kept")
        case Commit():
            return _committed(letter, was, decision, read)
        case Reject():
            return Replayed(letter.id, letter.workload, was, "rejected", decision.reason)
        case Failure():
            now: Literal["dead", "later"] = "dead" if is_fatal(decision) else "later"
            why = f"{decision.error_type}: {decision.error}"
            return Replayed(letter.id, letter.workload, was, now, why, traceback=decision.traceback)
        case never:
            assert_never(never)


def _committed(letter: DeadLetter, was: str, commit: Commit, read: Read) -> Replayed:
    written = []
    for write in commit.writes:
        before = read(write.key)
        reason, after = applied(write, before)
        if reason is not None:
            return Replayed(letter.id, letter.workload, was, "rejected", reason)
        if after is not None and _is_too_large(after):
            why = f"the item {write.key!r} would be over {limits.MAX_ITEM_BYTES} bytes"
            return Replayed(letter.id, letter.workload, was, "dead", why)
        written.append(Written(write.key, before, after))
    emitted = [Emitted(message.workload, msgspec.json.decode(message.body)) for message in commit.emits]
    result = msgspec.json.decode(commit.result)
    return Replayed(letter.id, letter.workload, was, "processed", "", result, written, emitted)


def _is_too_large(item: Mapping[str, Any]) -> bool:
    return len(msgspec.json.encode(item)) > limits.MAX_ITEM_BYTES
