"""The statuses of a message, and every change between them, as a table. Both engines build their conditions from it, so
that no statement of theirs can know other transitions. Pure.

     accept ──▶ queued ──┬─ process ──▶ processed
                 ▲  ▲    ├─ reject ───▶ rejected ◀──┐
                 │  │    └─ bury ─────▶ dead ─ purge┘
                 │  └──── redrive ───────┘
                 └─ a late delivery of a dead message may still process, reject or bury it
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

Status = Literal["queued", "processed", "rejected", "dead"]
STATUSES: tuple[Status, ...] = get_args(Status)

Change = Literal["accept", "process", "reject", "bury", "redrive", "purge", "restore"]


class Transition(NamedTuple):
    """From any of these statuses (None: there is no such message) to that one."""

    sources: tuple[Status | None, ...]
    target: Status


TRANSITIONS: dict[Change, Transition] = {
    "accept": Transition((None,), "queued"),
    "process": Transition(("queued", "dead"), "processed"),
    "reject": Transition(("queued", "dead"), "rejected"),
    "bury": Transition(("queued", "dead"), "dead"),
    "redrive": Transition(("dead",), "queued"),
    "purge": Transition(("dead",), "rejected"),
    "restore": Transition((None, "rejected"), "dead"),  # rejected: only what was purged
}


def sources(change: Change) -> tuple[Status, ...]:
    """The statuses that a change may start from."""
    return tuple(status for status in TRANSITIONS[change].sources if status is not None)


OPEN = sources("process")
"""What a delivery may still change: where `process`, `reject` and `bury` start, and attempts are counted."""

FINAL: tuple[Status, ...] = tuple(status for status in STATUSES if status not in OPEN)
"""What no delivery changes any more: applying the message again must do nothing."""

ENDED: tuple[Status, ...] = tuple(status for status in STATUSES if status != TRANSITIONS["accept"].target)
"""What a client need not ask for again: nothing changes any more without a person."""
