"""Workloads that call others and wait for them are decided many at once, by worker processes of their own. When such a
process dies, all that it had begun are suspects, and nobody knows who it was. They go again in halves, each alone in a
process, while the others go on elsewhere:

    a process dies with 256 ──▶ 128, 128 ──▶ … ──▶ 1 that kills its process alone: it failed, and is alone from now on
                                 └ what returns is innocent, and decided
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from decoupled.core import limits
from decoupled.core.outcomes import Decision, Delivery
from decoupled.core.workload import Workloads
from decoupled.pipeline import blame
from decoupled.server.options import Options
from decoupled.server.workers.child import GRACE_S, Batch, Owner, WorkerProcess
from decoupled.server.workers.crew import WorkerCrew
from decoupled.server.workers.protocol import pack_messages, unpack_reply

Decided = Callable[[Batch, list[Decision]], None]  # which leads to another deal


class ConcurrentWorker(WorkerProcess):
    """Begins what it is given as soon as it reads it."""

    concurrent = True

    def __init__(self, options: Options, owner: Owner) -> None:
        super().__init__(options, owner)
        self.in_flight: dict[int, Delivery] = {}  # by the number that it has there
        self._given_at: dict[int, float] = {}  # of each, likewise
        self.count: Counter[str] = Counter()  # of them, by workload
        self.reserved = False  # for suspects: gets nothing else until they are decided
        self._given = 0
        self._heard_at = time.monotonic()

    @property
    def busy(self) -> bool:
        return bool(self.in_flight)

    def give(self, deliveries: Sequence[Delivery]) -> None:
        """Hand over messages."""
        self.send(pack_messages([delivery.message for delivery in deliveries]))
        now = time.monotonic()
        for delivery in deliveries:
            self.in_flight[self._given] = delivery
            self._given_at[self._given] = now
            self._given += 1
            self.count[delivery.message.workload] += 1

    def _time_left_s(self) -> float | None:
        """It says something all the time, unless its event loop is blocked."""
        return self._heard_at + self.options.function_timeout_s + GRACE_S - time.monotonic()

    def _begun(self, frame: memoryview) -> None:
        self._heard_at = time.monotonic()
        super()._begun(frame)

    def _said(self, frame: memoryview) -> None:
        self._heard_at = time.monotonic()
        decisions, leaving, numbers = unpack_reply(frame)
        if not len(set(numbers)) == len(numbers) == len(decisions) or not self.in_flight.keys() >= set(numbers):
            self.kill("what it says cannot be read: it answers what it was not asked")
            return
        leaves = leaving is not None and self.leaving is None
        self.leaving = leaving
        by_workload: dict[str, tuple[list[Delivery], list[Decision], list[float]]] = {}
        for number, decision in zip(numbers, decisions, strict=True):
            delivery = self.in_flight.pop(number)
            name = delivery.message.workload
            self.count[name] -= 1
            deliveries, decided, took_s = by_workload.setdefault(name, ([], [], []))
            deliveries.append(delivery)
            decided.append(decision)
            took_s.append(self._heard_at - self._given_at.pop(number))
        if leaves:
            self.owner.leaves(self)
        for name, (deliveries, decided, took_s) in by_workload.items():
            self.useful = True
            self.owner.decided(self, Batch(name, deliveries, took_s=took_s), decided, 0.0)
        if self.leaving is not None and not self.in_flight:
            self.kill(self.leaving.detail)

    def _left(self) -> tuple[Batch | None, list[Batch]]:
        left, self.in_flight = list(self.in_flight.values()), {}
        if not left:
            return None, []
        return (Batch("", left), []) if self.ready else (None, [Batch("", left)])


class Concurrent:
    """Hands messages of concurrent workloads to their workers, as many of each as it has slots, and finds out who kills
    them."""

    def __init__(
        self,
        workloads: Workloads,
        options: Options,
        loop: asyncio.AbstractEventLoop,
        on_decided: Decided,
        on_room: Callable[[], None],
    ) -> None:
        self.slots = {name: each.at_once for name, each in workloads.items() if each.concurrent}
        size = options.concurrency if self.slots else 0
        self.crew = WorkerCrew(ConcurrentWorker, size, options, loop, self._decided, self._lost, self._more_room)
        self._visibility_timeout_s = options.visibility_timeout_s
        self._loop = loop
        self._on_decided = on_decided
        self._on_room = on_room
        self._waiting: deque[Delivery] = deque()
        self._suspects: deque[Sequence[Delivery]] = deque()  # each to be alone in a process
        self._visible_at: dict[str, float] = {}  # by receipt: when what is to be decided is on the queue again
        self._marked: dict[str, None] = {}  # ids of what killed a process by itself, the eldest first

    # --- work -----------------------------------------------------------------

    def free(self, workload: str) -> int:
        """How many more messages of a workload may be in flight."""
        slots = self.slots[workload]
        waiting = sum(delivery.message.workload == workload for delivery in self._waiting)
        return max(0, sum(slots - worker.count[workload] for worker in self._open()) - waiting)

    def half(self, workers: int) -> dict[str, int]:
        """Of what may be in flight of each workload; and under "" of so many workers that the others share."""
        slots = {name: each * self.crew.size for name, each in self.slots.items()}
        return {name: max(1, most // 2) for name, most in ({"": workers} | slots).items()}

    def least_free(self) -> int:
        """Of any workload."""
        return min(map(self.free, self.slots), default=0)

    def give(self, deliveries: Sequence[Delivery]) -> None:
        """Have them decided: now, or as soon as there is a slot."""
        visible_at = self._loop.time() + self._visibility_timeout_s
        for delivery in deliveries:
            self._visible_at[delivery.receipt] = visible_at
            if delivery.message.id in self._marked:
                self._suspects.append([delivery])
            else:
                self._waiting.append(delivery)
        self.deal()

    def busy(self) -> bool:
        """Whether anything is to be decided."""
        return bool(self._visible_at)

    def deal(self) -> None:
        """Hand out what waits."""
        if not self.slots:
            return
        self._reserve()
        lapsed = self._deal_suspects()
        left: deque[Delivery] = deque()
        for delivery in self._waiting:
            if self._is_lapsed(delivery):
                lapsed.append(delivery)
            elif (worker := self._most_free(delivery.message.workload)) is None:
                left.append(delivery)
            else:
                worker.give([delivery])
        self._waiting = left
        for worker in self.crew.workers:
            worker.flush()
        for delivery in lapsed:  # it waited for so long that it is on the queue again
            self._decided(Batch(delivery.message.workload, [delivery]), [blame.KEPT_WAITING], 0.0)

    def _open(self) -> list[ConcurrentWorker]:
        return [worker for worker in self.crew.workers if not (worker.gone or worker.reserved)]

    def _most_free(self, workload: str) -> ConcurrentWorker | None:
        worker = min(self._open(), key=lambda it: it.count[workload], default=None)
        return worker if worker is not None and worker.count[workload] < self.slots[workload] else None

    def _is_lapsed(self, delivery: Delivery) -> bool:
        return self._visible_at[delivery.receipt] <= self._loop.time()

    def _decided(self, batch: Batch, decisions: list[Decision], _took_s: float) -> None:
        for delivery in batch.deliveries:
            self._visible_at.pop(delivery.receipt, None)
        self._on_decided(batch, decisions)

    def _more_room(self) -> None:
        self.deal()
        self._on_room()

    # --- who was it? ----------------------------------------------------------

    def _lost(self, begun: Batch | None, untouched: list[Batch], cause: str) -> None:
        for batch in untouched:
            self._waiting.extendleft(reversed(batch.deliveries))
        if begun is not None:
            deliveries = begun.deliveries
            if (culprit := blame.after_crash(deliveries, cause)) is not None:
                self._mark(deliveries[0].message.id)
                self._decided(Batch(deliveries[0].message.workload, deliveries), [culprit], 0.0)
            else:
                middle = len(deliveries) // 2
                self._suspects += [deliveries[:middle], deliveries[middle:]]
        self.deal()

    def _mark(self, message_id: str) -> None:
        self._marked[message_id] = None
        if len(self._marked) > limits.MAX_MARKED:
            del self._marked[next(iter(self._marked))]

    def _reserve(self) -> None:
        """Half of the workers, and one at least, may be kept for suspects; as many as there is use for."""
        for worker in self.crew.workers:
            worker.reserved = worker.reserved and bool(worker.in_flight or self._suspects)
        most = min(len(self._suspects), max(1, self.crew.size // 2))
        most -= sum(worker.reserved for worker in self.crew.workers)
        most -= self.crew.size - len(self.crew.workers)  # a new one has nothing else to finish first
        for worker in sorted(self._open(), key=lambda it: len(it.in_flight))[: max(0, most)]:
            worker.reserved = True

    def _deal_suspects(self) -> list[Delivery]:
        """Returns those that have waited for too long. When they come back, they had better be alone."""
        lapsed: list[Delivery] = []
        idle = [it for it in self.crew.workers if it.reserved and it.ready and not (it.gone or it.in_flight)]
        while self._suspects and idle:
            suspects: list[Delivery] = []
            for delivery in self._suspects.popleft():
                (lapsed if self._is_lapsed(delivery) else suspects).append(delivery)
            if suspects:
                idle.pop().give(suspects)
        for delivery in lapsed:
            self._mark(delivery.message.id)
        return lapsed
