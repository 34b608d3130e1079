"""That the messages of a data directory go to another system, or have gone there: what is kept of that, which states
follow which, and what it says to clients and to people. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from decoupled.core.outcomes import NotSent
from decoupled.core.times import rfc3339
from decoupled.core.upkeep_limits import MOVING_RETRY_S

State = Literal["draining", "stopped", "moved"]


class Departure(msgspec.Struct, frozen=True):
    """Nothing is accepted. `draining`: what is queued is still processed; `stopped`: what is in flight is finished, and
    nothing more is taken; `moved`: likewise, for good. `to`: the other system, as people call it; `url`: where clients
    may send instead, if that is known. `since`: milliseconds since the epoch."""

    state: State
    to: str
    since: int
    url: str = ""

    @property
    def takes(self) -> bool:
        """Whether what is queued is still processed here."""
        return self.state == "draining"

    def refusal(self) -> NotSent:
        """What a client hears. There, the same under the same key is safe once all has moved. Before that, what was
        accepted here is not known there: it would be accepted a second time, or come before what it needs."""
        what_next = "send it there" if self.state == "moved" else "send it here again, which says when they have moved"
        return NotSent(f"{self.elsewhere()}: {what_next}", retry_after_s=MOVING_RETRY_S)

    def elsewhere(self) -> str:
        """Where the messages are to be looked for, or will be."""
        where = f"{self.to}, at {self.url}" if self.url else self.to
        return f"the messages that were sent here {'have moved' if self.state == 'moved' else 'move'} to {where}"

    def says(self) -> str:
        """What a person on call should know."""
        at = f", at {self.url}" if self.url else ""
        if self.state == "moved":
            return (
                f"all messages have moved to {self.to}{at}, at {rfc3339(self.since)}: nothing is accepted or processed"
                " here any more. Have clients send there, and stop this server when nobody asks it any more"
            )
        queued = "what is queued is still processed" if self.takes else "nothing that is queued is processed"
        return (
            f"the messages move to {self.to}{at}, since {rfc3339(self.since)}: nothing is accepted, and {queued}."
            " `decoupled move` goes on with it, and with --back-out ends it"
        )


class Wanted(msgspec.Struct, frozen=True):
    """What is to be."""

    state: State | Literal["accepting"]
    to: str
    url: str = ""


class Told(msgspec.Struct, frozen=True):
    """How it is. `in_flight`: whether something is with a worker, or about to be stored. `why_not`: why it was not
    changed. `served`: a server runs."""

    departure: Departure | None
    in_flight: bool = False
    why_not: str = ""
    served: bool = False


class NotPossible(ValueError):  # noqa: N818  an answer
    """A state that does not follow the one that there is, and why."""


def following(now: Departure | None, wanted: Wanted, now_ms: int) -> Departure | None:
    """What follows a state; None: requests are accepted. What is wanted again changes nothing. Raises NotPossible."""
    if now is not None and now.to != wanted.to:
        raise NotPossible(f"its messages {'have moved' if now.state == 'moved' else 'move'} to {now.to}")
    if now is not None and now.state == "moved" and wanted.state != "moved":
        raise NotPossible(f"its messages have moved to {now.to}, which may have accepted others since: move them back")
    if wanted.state == "accepting":
        return None
    if wanted.state == "moved" and (now is None or now.state == "draining"):
        raise NotPossible("it is not stopped")
    if now is not None and (now.state, now.url) == (wanted.state, wanted.url or now.url):
        return now
    return Departure(wanted.state, wanted.to, now_ms, wanted.url or (now.url if now is not None else ""))
