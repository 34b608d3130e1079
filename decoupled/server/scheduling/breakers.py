"""The breakers of all workloads, and of their groups that are not known to be well: what may be claimed for all that
they know, and what an answer tells them. Pure but for the clock, which is passed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from decoupled.core import limits
from decoupled.server.scheduling.breaker import (
    LONGEST_WAIT_S,
    TRICKLE,
    TRICKLE_S,
    Answer,
    Breaker,
    State,
    take,
    take_of_groups,
)

SHOWN = 10  # groups of a workload, the worst first


class Breakers:
    """The state of every workload, and of its groups that are not known to be well."""

    def __init__(
        self,
        workloads: Mapping[str, bool],
        clock: Callable[[], float],
        tell: Callable[[str, str, State, str], None] = lambda *_: None,
    ) -> None:
        """By name, whether a workload names its groups: then a message of the group "" is of one group among others.
        `tell` is called with workload, group ("": the workload as a whole), state and reason whenever a state changes.
        """
        self.clock = clock
        self._tell = tell
        self._grouped = dict(workloads)
        self._whole = {name: Breaker() for name in workloads}
        self._groups: dict[str, dict[str, Breaker]] = {name: {} for name in workloads}
        self._failed: dict[str, dict[str, None]] = {name: {} for name in workloads}  # message ids, the oldest first

    def in_group(self, workload: str, group: str) -> bool:
        """Whether such a message is of a group, and not simply of its workload."""
        return bool(group) or self._grouped.get(workload, False)

    # --- what may be claimed

    def allowance(self, workload: str) -> int | None:
        """How many messages may be claimed in all: None for no limit, 0 while open, 1 when it is time to probe, and
        TRICKLE each second where it is open for the sake of its groups. A workload that is not served here gets 0: its
        messages wait for a server that does."""
        whole = self._whole.get(workload)
        if whole is None:
            return 0
        if whole.state == "closed":
            return None
        if whole.of_groups:
            return TRICKLE if self.clock() >= whole.probing_until else 0
        return int(whole.due(self.clock()))

    def share(self, workload: str, group: str) -> int | None:
        """How many messages of a group may be claimed, within the allowance: None for no limit."""
        breaker = self._groups[workload].get(group)
        if breaker is not None and breaker.state != "closed":
            return int(breaker.due(self.clock()))
        return None if self._whole[workload].state == "closed" else 1

    def all_shut(self) -> bool:
        """Nothing may be claimed of any workload: there is no point in asking the queue."""
        return all(self.allowance(name) == 0 for name in self._whole)

    def free(self, workload: str) -> bool:
        """Whether nothing is known against any message of it."""
        whole = self._whole.get(workload)
        return whole is not None and whole.state == "closed" and not self._groups[workload]

    def try_fresh(self, workload: str) -> bool:
        """Whether one of the messages that come just now may be a probe: what is held for a run of bad messages may
        have a good one at its end. Once a second."""
        whole, now = self._whole[workload], self.clock()
        if whole.state != "held" or whole.of_groups or now < whole.fresh_at:
            return False
        whole.fresh_at = now + TRICKLE_S
        return True

    def suspect(self, workload: str, group: str) -> bool:
        """Whether a group's last answer was that it is sick."""
        breaker = self._groups[workload].get(group)
        return breaker is not None and breaker.sick_in_a_row > 0

    def probing(self, workload: str, group: str = "") -> None:
        """A message was claimed. If it is a probe: no second one before its answer, or before it is surely lost. It is
        none if its claim was on the way while the breaker opened: its answer comes before the first probe's time, when
        answers count for nothing, and so nothing would be asked for as long as it takes to be sure that it is lost."""
        now = self.clock()
        for breaker in (self._whole[workload], self._groups[workload].get(group)):
            if breaker is not None and breaker.state != "closed" and (breaker.of_groups or now >= breaker.probe_at):
                breaker.probing_until = now + (TRICKLE_S if breaker.of_groups else LONGEST_WAIT_S)

    # --- what came of it

    def observe(self, workload: str, answer: Answer, group: str = "") -> None:
        """An answer came."""
        whole = self._whole.get(workload)
        if whole is None:
            return
        if answer.kind == "well":
            self._well(workload, whole, group)
            return
        now, was = self.clock(), whole.state
        new = answer.kind != "failing" or self._fails_first(workload, answer.message_id)
        if self.in_group(workload, group):
            self._take_of_group(workload, whole, answer, group, now, new)
            take_of_groups(whole, answer, group, now, new)
        else:
            take(whole, answer, group, now, new)
        if was == "closed" != whole.state:
            self._tell(workload, "", whole.state, whole.why)

    def _well(self, workload: str, whole: Breaker, group: str) -> None:
        groups = self._groups[workload]
        if groups and (before := groups.pop(group, None)) is not None and before.state != "closed":
            self._tell(workload, group, "closed", "")
        if whole.state != "closed" or whole.sick_in_a_row or whole.failed or whole.sick_groups:
            self._whole[workload] = Breaker()
            if whole.state != "closed":
                self._tell(workload, "", "closed", "")

    def _fails_first(self, workload: str, message_id: str) -> bool:
        """Whether a message is not known to have failed before. One that is tells nothing new: when the good ones are
        done, only the bad ones come again, and these are to blame."""
        before = self._failed[workload]
        if message_id in before:
            return False
        before[message_id] = None
        if len(before) > limits.MAX_FAILED_KNOWN:
            del before[next(iter(before))]
        return True

    def _take_of_group(self, workload: str, whole: Breaker, answer: Answer, group: str, now: float, new: bool) -> None:
        groups = self._groups[workload]
        if answer.kind == "no evidence" and group not in groups:
            return
        breaker = self._group(groups, group)
        was = breaker.state
        # Where all groups are in trouble, one answer is enough to know that this one is, too.
        alike = answer.kind == "sick" if whole.state == "open" else answer.alike == whole.alike
        take(breaker, answer, group, now, new, at_once=whole.of_groups and alike)
        if was == "closed" != breaker.state and not whole.of_groups:
            self._tell(workload, group, breaker.state, breaker.why)

    def _group(self, groups: dict[str, Breaker], group: str) -> Breaker:
        breaker = groups.get(group)
        if breaker is None:
            if len(groups) >= limits.MAX_SICK_GROUPS:
                del groups[next(iter(groups))]  # it is asked again, and then known again
            breaker = groups[group] = Breaker()
        return breaker

    def open_at_once(self, workload: str, why: str) -> None:
        """One answer that leaves no doubt is enough, and it is about all groups."""
        whole = self._whole[workload]
        whole.of_groups = False
        if whole.state == "closed":
            whole.stop("open", self.clock(), Answer("sick", why))
        else:
            whole.probed(self.clock(), Answer("sick", why))

    def blameless(self, workload: str, group: str, alike: str) -> bool:
        """Whether a message that fails like this fails as those do for which its group or its workload is held."""
        breakers = (self._whole.get(workload), self._groups.get(workload, {}).get(group))
        return any(breaker is not None and breaker.state == "held" and breaker.alike == alike for breaker in breakers)

    # --- for people

    def states(self) -> dict[str, dict[str, Any]]:
        """For each workload: `closed`, `open` or `held`, and then why, for how long, and the time until it probes; with
        its groups that are not closed, those first that have been so for longest."""
        now = self.clock()
        return {name: self._told(name, whole, now) for name, whole in self._whole.items()}

    def _told(self, workload: str, whole: Breaker, now: float) -> dict[str, Any]:
        told = {"state": "closed"} if whole.state == "closed" else whole.told(now)
        groups = [(breaker.opened_at, group) for group, breaker in self._groups[workload].items() if breaker.wait_s]
        if not groups:
            return told
        worst = sorted(groups)[:SHOWN]
        shown = [{"group": group, **self._groups[workload][group].told(now)} for _, group in worst]
        return {**told, "sick_groups": len(groups), "groups": shown}

    def held(self) -> Iterator[str]:
        """What is held, and why, for who is on call."""
        for name, whole in self._whole.items():
            if whole.state == "held":
                yield f"{name} is held, since its messages fail all alike: {whole.why}"
                continue
            groups = [(group, it) for group, it in self._groups[name].items() if it.state == "held"]
            if groups:
                group, breaker = min(groups, key=lambda pair: pair[1].opened_at)
                several = f" and {len(groups) - 1} more" * (len(groups) > 1)
                yield f"{name}: group {group[:80]!r}{several} held, since its messages fail all alike: {breaker.why}"
