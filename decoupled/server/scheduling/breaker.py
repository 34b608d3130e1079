"""Stops asking a sick backend, one breaker a workload: after a run of `unavailable` answers nothing of that workload is
claimed, so that waiting spends no receive counts; then single messages probe whether it is well again. Pure but for the
clock, which is passed in.

    closed ── SICK_AFTER in a row ──▶ open ── wait over ──▶ one probe ── well ──▶ closed
                                      ▲  ▲                   │    │ sick: wait twice as long
                                      │  └───────────────────┼────┘
                                      └── no evidence: probe again at once

What a message fails of by itself is no evidence, of sickness or of health: it may never have come as far as asking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

SICK_AFTER = 10  # unavailable answers in a row: one recipient's trouble among others does not stop a workload
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 30.0

Answer = Literal["well", "sick", "no evidence"]


@dataclass(slots=True)
class _Breaker:
    sick_in_a_row: int = 0
    wait_s: float = 0.0  # 0: closed
    opened_at: float = 0.0
    probe_at: float = 0.0
    probing_until: float = 0.0
    why: str = ""


class Breakers:
    """The state of every workload's backend."""

    def __init__(self, workloads: Iterable[str], clock: Callable[[], float]) -> None:
        self.clock = clock
        self._breakers = {name: _Breaker() for name in workloads}

    def allowance(self, workload: str) -> int | None:
        """How many messages may be claimed: None for no limit, 0 while open, 1 when it is time to probe. A workload
        that is not served here gets 0: its messages wait for a server that does."""
        breaker = self._breakers.get(workload)
        if breaker is None:
            return 0
        if not breaker.wait_s:
            return None
        now = self.clock()
        return 1 if now >= breaker.probe_at and now >= breaker.probing_until else 0

    def all_shut(self) -> bool:
        """Nothing may be claimed of any workload: there is no point in asking the queue."""
        return all(self.allowance(name) == 0 for name in self._breakers)

    def probing(self, workload: str) -> None:
        """The probe is out: no second one before its answer, or before it is surely lost."""
        self._breakers[workload].probing_until = self.clock() + LONGEST_WAIT_S

    def observe(self, workload: str, answer: Answer, why: str = "", retry_after_s: float | None = None) -> None:
        """An answer came. `why` and `retry_after_s` are what a sick backend said."""
        breaker = self._breakers.get(workload)
        if breaker is None:
            return
        if answer == "well":
            if breaker.sick_in_a_row:
                self._breakers[workload] = _Breaker()
            return
        if answer == "no evidence":
            breaker.probing_until = 0.0
            return
        breaker.sick_in_a_row += 1
        breaker.why = why
        now = self.clock()
        if breaker.wait_s and now >= breaker.probe_at:  # the probe's answer
            breaker.wait_s = min(breaker.wait_s * 2, LONGEST_WAIT_S)
        elif not breaker.wait_s and breaker.sick_in_a_row >= SICK_AFTER:
            breaker.wait_s = FIRST_WAIT_S
            breaker.opened_at = now
        else:
            return  # one of those that were in flight when it opened
        breaker.probe_at = now + min(max(breaker.wait_s, retry_after_s or 0), LONGEST_WAIT_S)
        breaker.probing_until = 0.0

    def open_at_once(self, workload: str, why: str) -> None:
        """One answer that leaves no doubt is enough."""
        breaker = self._breakers[workload]
        breaker.sick_in_a_row = max(breaker.sick_in_a_row, SICK_AFTER)
        self.observe(workload, "sick", why)

    def open(self) -> bool:
        """Is any workload's backend taken for sick?"""
        return any(breaker.wait_s for breaker in self._breakers.values())

    def states(self) -> dict[str, dict[str, Any]]:
        """For each workload: `closed`, or `open` with why, for how long, and the time until it probes."""
        now = self.clock()
        return {
            name: {
                "state": "open",
                "why": breaker.why,
                "open_for_s": round(now - breaker.opened_at, 1),
                "probe_in_s": round(max(0.0, breaker.probe_at - now, breaker.probing_until - now), 1),
            }
            if breaker.wait_s
            else {"state": "closed"}
            for name, breaker in self._breakers.items()
        }
