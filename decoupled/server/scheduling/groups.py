"""Who may have how much: of each workload and each group, how many messages may be claimed now. That is what the
breakers allow, what the rates leave, and a group's share of what is in flight, so that no group has all of the workers,
or keeps others waiting, whatever becomes of its own messages."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import assert_never

from decoupled.core import limits
from decoupled.core.outcomes import Decision, Delivery, Failure
from decoupled.core.workload import Message, Workloads
from decoupled.engines.protocols import Share, StoreUnavailable
from decoupled.pipeline import blame
from decoupled.server.health import Trouble
from decoupled.server.scheduling.breaker import Answer, State
from decoupled.server.scheduling.breakers import Breakers
from decoupled.server.scheduling.rate import Rate

log = logging.getLogger("decoupled.poller")

ALONE = 0.75  # of what may be in flight, for a group without others: there is room for the next one that comes


class Groups:
    """What is in flight of each group, and what more may be."""

    def __init__(
        self,
        workloads: Workloads,
        rate: float | None,
        clock: Callable[[], float],
        suspects_at_once: Mapping[str, int],
    ) -> None:
        """`rate`: messages a second of all workloads together, or None. `suspects_at_once`: of groups whose last answer
        was that they are sick, so many messages may be with the workers, where they may hang; of each concurrent
        workload, and under "" of all others together."""
        self.breakers = Breakers({name: it.group is not None for name, it in workloads.items()}, clock, _tell)
        self.limited = False  # something was left waiting that a message in flight makes way for
        self._workloads = workloads
        self._clock = clock
        self._rate = Rate(None, clock)
        self._rates = {name: Rate(workload.rate, clock) for name, workload in workloads.items()}
        self._group_rates: dict[str, dict[str, Rate]] = {name: {} for name in workloads}
        self._in_flight: dict[str, dict[str, int]] = {name: {} for name in workloads}
        self._suspects: dict[str, set[str]] = {name: set() for name in suspects_at_once}  # ids, in flight
        self.pace(rate, suspects_at_once)
        self._chosen = 0
        self._unclaimable: dict[str, str] = {}  # workloads whose last claim failed, and why

    def pace(self, rate: float | None, suspects_at_once: Mapping[str, int]) -> None:
        """As it is said above, from now on."""
        self._rate.rate = rate
        self._suspects_at_once = suspects_at_once
        self._plain = [
            name
            for name, it in self._workloads.items()
            if it.group is None and it.rate is None and it.group_rate is None and rate is None
        ]

    # --- what may be claimed

    def direct(self, fresh: Sequence[Message], capacity: Callable[[str], int]) -> list[Message]:
        """Those of the fresh messages that may go to a worker past the claims: nothing that they look at concerns
        them, but for a group's share of the `capacity` of its workload, which is seen to here. Of a workload that is
        held, one now and then."""
        free = {name for name in self._plain if self.breakers.free(name)}
        direct = [message for message in fresh if message.workload in free]
        if any(message.group for message in direct):
            direct = self._within_shares(direct, capacity)
        if len(free) < len(self._plain):
            first = {message.workload: message for message in reversed(fresh) if not message.group}
            tried = [name for name in self._plain if name in first and self.breakers.try_fresh(name)]
            direct += [first[name] for name in tried]
        return direct

    def _within_shares(self, fresh: Sequence[Message], capacity: Callable[[str], int]) -> list[Message]:
        left = Counter((message.workload, message.group) for message in fresh if message.group)
        for (workload, group), count in left.items():
            in_flight = self._in_flight[workload]
            left[workload, group] = self._within_share(in_flight, group, capacity(workload), count)
        within = []
        for message in fresh:
            if message.group:
                of = message.workload, message.group
                if not left[of]:
                    continue
                left[of] -= 1
            within.append(message)
        return within

    def wanted(self, workload: str, room: int) -> int:
        """How many messages of a workload may be claimed, of the room that there is."""
        allowance = self.breakers.allowance(workload)
        return self._rate.may(self._rates[workload].may(room if allowance is None else min(room, allowance)))

    def share(self, workload: str, room: int, capacity: int) -> Share:
        """How many messages of each of its groups may be claimed, where there is room for so many in all, and
        `capacity` for as many in flight."""
        self._chosen = 0  # of suspects, by the claim that is being made
        in_flight = self._in_flight[workload]
        group_rate = self._workloads[workload].group_rate

        def share(group: str) -> int:
            allowance = self.breakers.share(workload, group)
            may = room if allowance is None else min(room, allowance)
            if group_rate is not None and may:
                may = self._group_rate(workload, group, group_rate).may(may)
            if may and self.breakers.in_group(workload, group):
                may = self._within_share(in_flight, group, capacity, may)
            if may and self.breakers.suspect(workload, group):
                may = self._of_suspects(workload, may)
            return may

        return share

    def _within_share(self, in_flight: Mapping[str, int], group: str, capacity: int, may: int) -> int:
        has = in_flight.get(group, 0)
        others = len(in_flight) - (has > 0)
        most = max(1, capacity // (others + 1) if others else int(capacity * ALONE))
        self.limited = self.limited or may > most - has
        return max(0, min(may, most - has))

    def _of_suspects(self, workload: str, may: int) -> int:
        those = self._with(workload)
        left = max(0, self._suspects_at_once[those] - len(self._suspects[those]) - self._chosen)
        self.limited = self.limited or left < may
        self._chosen += min(left, may)
        return min(left, may)

    def _with(self, workload: str) -> str:
        """Whose workers it shares."""
        return workload if workload in self._suspects_at_once else ""

    def _group_rate(self, workload: str, group: str, rate: float) -> Rate:
        rates = self._group_rates[workload]
        if group not in rates:
            if len(rates) >= limits.MAX_GROUP_RATES:
                del rates[next(iter(rates))]  # it may have one message too many
            rates[group] = Rate(rate, self._clock, tokens=1.0)
        return rates[group]

    # --- what is in flight

    def went(self, workload: str, deliveries: Sequence[Delivery]) -> None:
        """They are claimed by the transaction now being made: others get what is left of the rates."""
        self._unclaimable.pop(workload, None)
        self._rate.went(len(deliveries))
        self._rates[workload].went(len(deliveries))
        if rates := self._group_rates[workload]:
            for delivery in deliveries:
                if (group_rate := rates.get(delivery.message.group)) is not None:
                    group_rate.went(1)

    def cannot_claim(self, workload: str | None, error: BaseException) -> None:
        """A claim of it failed. If that is not the store's doing it is a bug, which may last: then nothing of the
        workload is claimed for a while, so that the others go on."""
        if workload is not None and not isinstance(error, StoreUnavailable):
            self._unclaimable[workload] = f"{type(error).__name__}: {error}"
            self.breakers.open_at_once(workload, f"its messages cannot be claimed: {self._unclaimable[workload]}")

    def took(self, workload: str, deliveries: Sequence[Delivery]) -> None:
        """They were claimed."""
        in_flight = self._in_flight[workload]
        for group in self._groups(workload, deliveries):
            in_flight[group] = in_flight.get(group, 0) + 1
        if not self.breakers.free(workload):
            for delivery in deliveries:
                group = delivery.message.group
                self.breakers.probing(workload, group)
                if self.breakers.suspect(workload, group):
                    self._suspects[self._with(workload)].add(delivery.message.id)

    def took_fresh(self, deliveries: Sequence[Delivery]) -> None:
        """They went past the claims."""
        for delivery in deliveries:
            if group := delivery.message.group:
                in_flight = self._in_flight[delivery.message.workload]
                in_flight[group] = in_flight.get(group, 0) + 1

    def decided(self, workload: str, deliveries: Sequence[Delivery]) -> bool:
        """They are not in flight any more, as far as workers are concerned. Returns whether that makes way for others,
        which were left waiting."""
        in_flight = self._in_flight[workload]
        for group in self._groups(workload, deliveries):
            if in_flight.get(group, 0) > 1:
                in_flight[group] -= 1
            else:
                in_flight.pop(group, None)
        if suspects := self._suspects[self._with(workload)]:
            suspects.difference_update(delivery.message.id for delivery in deliveries)
        made_way, self.limited = self.limited, False
        return made_way

    def telling(self, workload: str, decisions: Sequence[Decision]) -> bool:
        """Whether these tell how long a message of the workload takes: one that hangs says nothing of the others."""
        if not self.breakers.in_group(workload, ""):
            return True
        return not any(isinstance(decision, Failure) and decision.kind == "unavailable" for decision in decisions)

    def _groups(self, workload: str, deliveries: Sequence[Delivery]) -> Iterator[str]:
        """The groups of these messages, each as often as it has one."""
        named = self.breakers.in_group(workload, "")
        for delivery in deliveries:
            if named or delivery.message.group:
                yield delivery.message.group

    # --- what came of it

    def observe(self, message: Message, answer: Answer) -> None:
        """An answer came."""
        self.breakers.observe(message.workload, answer, message.group)

    def judge(self, delivery: Delivery, decision: Decision) -> Decision:
        """A message that fails as all others do is not to blame."""
        if isinstance(decision, Failure) and decision.kind == "failed":
            message = delivery.message
            if self.breakers.blameless(message.workload, message.group, blame.alike(decision)):
                return blame.held(decision)
        return decision

    def trouble(self) -> Trouble | None:
        """What is held, or cannot be claimed: for whoever is on call."""
        told = [*self.breakers.held()]
        told += [f"messages of {name} cannot be claimed: {why}" for name, why in self._unclaimable.items()]
        return Trouble("; ".join(told)) if told else None


def _tell(workload: str, group: str, state: State, why: str) -> None:
    extra = {"workload": workload, "error": why} | ({"group": group} if group else {})
    match state:
        case "held":
            log.error("held: its messages fail all alike, and none does not; single ones probe", extra=extra)
        case "open":
            log.warning("unavailable: nothing is claimed but single messages that probe", extra=extra)
        case "closed":
            log.info("well again", extra=extra)
        case never:
            assert_never(never)
