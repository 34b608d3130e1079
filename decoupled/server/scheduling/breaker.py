"""Stops asking what is sick, and holds what fails all alike. One breaker a group, and one for the workload as a whole:
while one is not closed nothing of its messages is claimed, so that waiting spends no receive counts and a bug no
attempts; then single messages probe whether all is well again. Pure but for the clock, which is passed in.

    closed ── SICK_AFTER unavailable in a row ──────▶ open ─┬─ wait over ──▶ one probe ── well ──▶ closed
       └───── HOLD_AFTER messages that fail alike ──▶ held ─┘ ▲                 │  │ again: wait twice as long
                                                            └─┼─────────────────┼──┘
                                                              └── no evidence: probe again at once

What a message fails of by itself is no evidence of sickness or of health: it may never have come as far as asking. Of a
run of messages that fail alike, with none among them that does not, the messages are not to blame: it is a bug, or an
outage that nobody recognises. Who is to blame when many groups are sick, or fail alike, and none is well, is what they
share: then the whole workload is open, but for a trickle of groups that nothing is known of.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from decoupled.core import limits

SICK_AFTER = 10  # unavailable answers in a row: one message's trouble among others does not stop a group
SICK_GROUPS = 10  # groups with such an answer, and none that is well
HOLD_AFTER = limits.HOLD_AFTER  # messages that fail alike in a row: a group's,
HOLD_GROUPS = 3  # or the workload's, if they are of so many groups
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 30.0
TRICKLE = 10  # messages that may be claimed of a workload whose groups are all in trouble, of others than these,
TRICKLE_S = 1.0  # in so many seconds

State = Literal["closed", "open", "held"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a message came to, as evidence. `why` and `retry_after_s` are what a sick backend said; `alike` is how a
    message fails of its own fault: two that fail alike have the same."""

    kind: Literal["well", "sick", "failing", "no evidence"]
    why: str = ""
    retry_after_s: float | None = None
    message_id: str = ""
    alike: str = ""


WELL = Answer("well")
NO_EVIDENCE = Answer("no evidence")


@dataclass(slots=True)
class Breaker:
    state: State = "closed"
    why: str = ""
    wait_s: float = 0.0
    opened_at: float = 0.0
    probe_at: float = 0.0
    probing_until: float = 0.0
    fresh_at: float = 0.0  # when the next message that comes may be a probe
    of_groups: bool = False  # a workload's: it is not closed for the sake of its groups
    sick_in_a_row: int = 0
    sick_groups: set[str] = field(default_factory=set)  # of a workload's
    alike: str = ""
    failed: dict[str, str] = field(default_factory=dict)  # of those that fail alike: message ids with their groups

    def due(self, now: float) -> bool:
        """Is it time to probe?"""
        return now >= self.probe_at and now >= self.probing_until

    def probed(self, now: float, answer: Answer) -> None:
        """An answer came while it was not closed."""
        as_before = self.state == "held" and answer.kind == "failing" and answer.alike == self.alike
        if not (as_before or answer.kind == "sick"):
            self.probing_until = 0.0
        elif now >= self.probe_at:  # else it is one of those that were in flight when it opened
            self.wait(now, answer, min(self.wait_s * 2, LONGEST_WAIT_S))

    def stop(self, state: State, now: float, answer: Answer) -> None:
        """No longer closed."""
        self.state = state
        self.alike = answer.alike
        self.opened_at = now
        self.wait(now, answer, FIRST_WAIT_S)

    def wait(self, now: float, answer: Answer, wait_s: float) -> None:
        """Until the next probe."""
        self.why = answer.why
        self.wait_s = wait_s
        self.probe_at = now + min(max(wait_s, answer.retry_after_s or 0), LONGEST_WAIT_S)
        self.probing_until = 0.0

    def failing(self, answer: Answer, group: str) -> None:
        """One more, alike or not. Of a long run the last ones tell."""
        if answer.alike != self.alike:
            self.alike = answer.alike
            self.failed.clear()
        self.failed[answer.message_id] = group
        if len(self.failed) > HOLD_AFTER:
            del self.failed[next(iter(self.failed))]

    def told(self, now: float) -> dict[str, Any]:
        """For people."""
        return {
            "state": self.state,
            "why": self.why,
            "open_for_s": round(now - self.opened_at, 1),
            "probe_in_s": round(max(0.0, self.probe_at - now, self.probing_until - now), 1),
        }


def take(breaker: Breaker, answer: Answer, group: str, now: float, new: bool, at_once: bool = False) -> None:
    """What an answer says of the group that it came from, or of the workload if that has none."""
    match answer.kind:
        case "sick":
            breaker.sick_in_a_row += 1
        case "failing" if breaker.state == "closed" and new:
            breaker.failing(answer, group)
    if breaker.state != "closed":
        breaker.probed(now, answer)
    elif answer.kind == "sick" and (at_once or breaker.sick_in_a_row >= SICK_AFTER):
        breaker.stop("open", now, answer)
    elif answer.kind == "failing" and (at_once or len(breaker.failed) >= HOLD_AFTER):
        breaker.stop("held", now, answer)


def take_of_groups(whole: Breaker, answer: Answer, group: str, now: float, new: bool) -> None:
    """What an answer of one of its groups says of a workload."""
    if whole.state != "closed":
        whole.probed(now, answer)
        return
    match answer.kind:
        case "sick":
            whole.sick_groups.add(group)
            stop: State = "open" if len(whole.sick_groups) >= SICK_GROUPS else "closed"
        case "failing" if new:
            whole.failing(answer, group)
            alike = len(whole.failed) >= HOLD_AFTER and len(set(whole.failed.values())) >= HOLD_GROUPS
            stop = "held" if alike else "closed"
        case _:
            return
    if stop != "closed":
        whole.of_groups = True
        whole.stop(stop, now, answer)
