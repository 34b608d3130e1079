"""How fast the back goes at a moment, on one machine and on AWS: what its processors, its scaling, its table and its
ceilings allow. The simulation asks piece of time by piece of time."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Literal, Protocol

from decoupled.plan.scenario import POLLER_CONCURRENCY, Outage, Scenario
from decoupled.server.scheduling.breaker import SICK_AFTER, Answer, Breaker, take

Trouble = tuple[float, float, Literal["sick", "shut"]]  # from, to; tries fail, or there are none

# --- one machine
FRONT_FIRST = 25  # accepted, for one that is processed, while requests come as fast as they are answered
PROBE_LATE_S = 0.125  # on average: a server looks four times a second whether it is time to probe
AHEAD_S = 0.05  # of work that a worker has ahead of it
HAND_OUT_S = 0.006  # from the commit to a worker, and from its decision to the next commit

# --- AWS: what `make bench-lambda` measures and assumes, and what AWS's documents say
# Of an order, with a whole vCPU to itself: the run that LAMBDA.md keeps had other programs beside it, and more.
RECEIVER_CPU_MS, PROCESSOR_CPU_MS, STATUS_CPU_MS = 1.16, 1.08, 0.90
SQS_MS, DYNAMODB_MS = 10.0, 5.0  # that a call waits
VCPU_MB = 1_769
POLL_S = 0.02  # from a message's arrival to its invocation
MAPPING_FIRST, MAPPING_PER_S, MAPPING_MOST = 5, 300 / 60, 1_250  # processors that a mapping begins with, adds, has
POLLERS_PER_S = 1_000 / 60  # concurrency that provisioned pollers add a second
IN_FLIGHT_MOST = 120_000  # messages of a queue
NEW_TABLE_WRITES, TABLE_PEAK_AFTER_S = 4_000.0, 1_800.0  # a peak counts double half an hour later


@dataclass(frozen=True, slots=True)
class Pace:
    """At a moment: tries a second while the backend is well, and while it is away; a batch, and how long it takes."""

    well: float
    away: float
    batch: float = 1.0
    batch_s: float = 0.0
    away_batch_s: float = 0.0
    processors: float = 0.0
    gather_s: float = 0.0  # that the first one of a batch waits for others


@dataclass(frozen=True, slots=True)
class Moment:
    """A piece of time: when it begins, how long it is, orders that come a second, and those that wait."""

    t: float
    dt: float
    coming: float
    waiting: float


class Back(Protocol):
    """A system behind the queue. Asked once for each piece of time, in order."""

    troubles: list[Trouble]
    in_flight_most: float

    def pace(self, at: Moment) -> Pace:
        """How fast it goes then."""
        ...

    def wrote(self, t: float, orders: float) -> None:
        """So many a second were stored."""
        ...


def cpu_s(cpu_ms: float, memory_mb: int) -> float:
    """Of so much CPU, at a function's share of one."""
    return cpu_ms * max(VCPU_MB / memory_mb, 1.0) / 1_000


class Machine:
    """`decoupled serve`: workers that take messages as they are free, behind a breaker, and a writer with a ceiling for
    what is accepted and what is processed together."""

    in_flight_most = math.inf

    def __init__(self, scenario: Scenario) -> None:
        self._of = scenario
        slots = scenario.processors * scenario.workload.at_once
        self._well = slots / self._each(scenario.workload.service.mean_s)
        self._away = slots / self._each(scenario.workload.tried_s)
        self.troubles = [it for outage in scenario.outages for it in self._in(outage)]

    def _each(self, message_s: float) -> float:
        """Of a worker's time: it has no more than 50 ms of work ahead of it, and waits after each that takes longer."""
        idle_s = HAND_OUT_S if message_s > AHEAD_S and self._of.workload.at_once == 1 else 0.0
        return max(message_s + idle_s, 1e-6)

    def _in(self, outage: Outage) -> list[Trouble]:
        """Tries fail until the breaker opens; then there are none but probes, of which one after the outage is well."""
        breaker = Breaker()
        slots = self._of.processors / self._of.machines * self._of.workload.at_once
        tried_s = self._of.workload.tried_s
        opened = outage.begins_s + tried_s * math.ceil(SICK_AFTER / slots)
        now = opened
        for _ in range(SICK_AFTER):
            take(breaker, Answer("sick"), "", now, new=True)
        while breaker.state != "closed" and breaker.probe_at + PROBE_LATE_S + tried_s < outage.ends_s:
            now = breaker.probe_at + PROBE_LATE_S + tried_s
            take(breaker, Answer("sick"), "", now, new=True)
        closed = breaker.probe_at + PROBE_LATE_S + self._of.workload.service.mean_s
        if opened >= outage.ends_s:
            return [(outage.begins_s, outage.ends_s, "sick")]
        return [(outage.begins_s, opened, "sick"), (opened, max(closed, outage.ends_s), "shut")]

    def pace(self, at: Moment) -> Pace:
        """As in Back."""
        of = self._of
        rate = math.inf if of.rate is None else of.rate * of.machines
        ceiling = of.machine.ceiling * of.machines
        bound = min(rate, max(2 * ceiling - at.coming, ceiling / FRONT_FIRST))
        service = of.workload.service.mean_s + HAND_OUT_S
        tried = of.workload.tried_s + HAND_OUT_S
        return Pace(min(self._well, bound), min(self._away, bound), 1.0, service, tried, of.processors)

    def wrote(self, t: float, orders: float) -> None:
        """As in Back: it minds none."""


@dataclass
class Stack:
    """An event source mapping that scales, a processor, a table. One of a scenario's cells."""

    of: Scenario
    in_flight_most: float = IN_FLIGHT_MOST
    troubles: list[Trouble] = field(default_factory=list)
    _processors: float = 0.0
    _peaks: deque[tuple[float, float]] = field(default_factory=deque)
    _peak: float = 0.0

    def __post_init__(self) -> None:
        self.troubles = [(outage.begins_s, outage.ends_s, "sick") for outage in self.of.outages]
        self._processors = self._first

    @property
    def _first(self) -> float:
        pollers = self.of.aws.pollers
        return min(pollers * POLLER_CONCURRENCY if pollers else MAPPING_FIRST, self._most)

    @property
    def _most(self) -> float:
        return min(self.of.stack_concurrency, math.inf if self.of.aws.pollers else MAPPING_MOST)

    def batch_s(self, batch: float, away: bool = False) -> float:
        """How long the processor takes for so many orders: one after another, or all at once."""
        of, aws = self.of.workload, self.of.aws
        each = of.tried_s if away else of.service.mean_s
        together = math.ceil(batch / of.at_once) if of.at_once > 1 else batch
        longest = each if away or of.at_once == 1 else of.service.longest_of(min(batch, of.at_once))
        return together * longest + batch * cpu_s(PROCESSOR_CPU_MS, aws.memory_mb) + DYNAMODB_MS / 1_000

    def pace(self, at: Moment) -> Pace:
        """As in Back."""
        front = at.coming * (cpu_s(RECEIVER_CPU_MS, self.of.aws.memory_mb) + SQS_MS / 1_000)
        room = max(self.of.aws.lambda_concurrency - front, 1.0)
        processors = min(self._processors, room)
        batch = self._batch(at.coming, at.waiting, processors)
        batch_s, away_s = self.batch_s(batch), self.batch_s(batch, away=True)
        well, away = processors * batch / batch_s, processors * batch / away_s
        bound = min(self.of.rate or math.inf, self._writes(at.t) / writes(self.of))
        self._scale(at.dt, busy=at.waiting > 0 or at.coming > well)
        return Pace(min(well, bound), away, batch, batch_s, away_s, processors, self._gather_s(at, processors))

    def _batch(self, coming: float, waiting: float, processors: float) -> float:
        """Full ones where messages wait. Else what comes while a poller gathers; more, if processors are few for it."""
        most = float(self.of.aws.batch)
        if waiting > processors * most:
            return most
        gathered = 1 + coming * (self.of.aws.window_s + POLL_S) / max(processors, 1.0)
        alone, ten = self.batch_s(1), self.batch_s(10)
        each = (ten - alone) / 9
        spare = processors - coming * each
        needed = coming * max(alone - each, 0.0) / spare if spare > 0 else most
        return min(most, max(gathered, needed, 1.0))

    def _gather_s(self, at: Moment, processors: float) -> float:
        """The batching window, or as long as it takes until a batch is full; not at all where messages wait."""
        if at.waiting > processors * self.of.aws.batch:
            return 0.0
        full_s = (self.of.aws.batch - 1) * processors / at.coming if at.coming else math.inf
        return min(self.of.aws.window_s, full_s)

    def _scale(self, dt: float, busy: bool) -> None:
        added = (POLLERS_PER_S if self.of.aws.pollers else MAPPING_PER_S) * dt
        self._processors = min(self._most, self._processors + added) if busy else self._processors

    def _writes(self, t: float) -> float:
        """Write units a second that the table bears: twice the peak of before, and what the stack allows."""
        while self._peaks and self._peaks[0][0] <= t - TABLE_PEAK_AFTER_S:
            self._peak = max(self._peak, self._peaks.popleft()[1])
        return min(self.of.aws.table_writes, max(NEW_TABLE_WRITES, self.of.aws.warm_writes, 2 * self._peak))

    def wrote(self, t: float, orders: float) -> None:
        """As in Back."""
        units = orders * writes(self.of)
        if units > self._peak and (not self._peaks or units > self._peaks[-1][1]):
            self._peaks.append((t, units))


def writes(of: Scenario) -> float:
    """Write units of an order: one for each KB of its record; in a transaction with items, two each."""
    record = math.ceil(of.workload.record_bytes / 1_024)
    indexed = of.workload.items if of.workload.listed else 0
    return record if of.workload.items == 0 else 2.0 * (record + of.workload.items) + indexed
