"""Drives the processor at a controlled rate, as Lambda's event source mapping does: claims messages, hands them to
workers, settles what they decided. Claims and settlements ride in the writer's group commits; the workers are the
crew's (`workers/crew.py`).

    claim ──▶ worker decides ──▶ settle: record and deletion, one transaction
                   │ dies
                   └──▶ its batch again, one message at a time; alone, it is the message's fault
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence

from decoupled.core import limits
from decoupled.core.outcomes import Decision, Delivery
from decoupled.core.workload import Message, Workloads
from decoupled.engines.protocols import Feed, StoreDamaged, StoreUnavailable, Table
from decoupled.pipeline import blame
from decoupled.pipeline.settlement import Policy
from decoupled.server.group_commit import Writer
from decoupled.server.options import Options
from decoupled.server.scheduling.batches import batches
from decoupled.server.scheduling.groups import Groups
from decoupled.server.scheduling.settling import Settler
from decoupled.server.watches import Watches
from decoupled.server.workers.child import Batch
from decoupled.server.workers.concurrent import Concurrent, ConcurrentWorker
from decoupled.server.workers.crew import WorkerCrew
from decoupled.server.workers.pool import AHEAD_S, MAX_WINDOW, Worker, room_s, roomy

log = logging.getLogger("decoupled.poller")

TICK_S = 0.25  # how often to look for messages whose time has come
FIRST_GUESS_S = 0.005  # a message takes, until its workload has shown how long it really takes


class Poller:
    """Owns every message in flight."""

    def __init__(
        self,
        writer: Writer,
        queue: Feed,
        table: Table,
        watches: Watches,
        policy: Policy,
        options: Options,
        workloads: Workloads,
    ) -> None:
        self.writer = writer
        self.queue = queue
        self.table = table
        self.policy = policy
        self.options = options
        self.loop = writer.loop
        self.visibility_timeout_s = options.visibility_timeout_s
        self.concurrent = Concurrent(workloads, options, self.loop, self._decided_at_once, self.wake)
        self.groups = Groups(workloads, options.rate, self.loop.time, self.concurrent.half(options.concurrency))
        self.breakers = self.groups.breakers
        self.settler = Settler(writer, queue, table, policy, self.groups, watches, self._settled)
        size = options.concurrency if workloads.keys() - self.concurrent.slots.keys() else 0
        self.crew = WorkerCrew(Worker, size, options, self.loop, self._decided, self._lost, self.wake)
        self.stopping = False
        self.held = False  # nothing is claimed until it is not: the messages move elsewhere
        self._waiting: deque[Batch] = deque()  # claimed, and not yet with a worker
        self._message_s: dict[str, float] = {}  # how long a message of each workload takes, a running mean
        self._claiming = False
        self._caught_up = False  # nothing visible was left behind at the last claim
        self._names = tuple(workloads)
        self._ordered = frozenset(name for name, workload in workloads.items() if workload.ordered)
        self._blind = False  # damage keeps us from seeing which workloads have messages: each is asked for some
        self._claiming_of: str | None = None

    @property
    def crews(self) -> tuple[WorkerCrew[Worker], WorkerCrew[ConcurrentWorker]]:
        """All workers that there are."""
        return self.crew, self.concurrent.crew

    def start(self) -> None:
        """Start the workers and the clock."""
        for crew in self.crews:
            crew.fill()
        self._tick()

    def _tick(self) -> None:
        if not self.stopping:
            self.loop.call_later(TICK_S, self._tick)
        for crew in self.crews:
            crew.look()
        self._caught_up = False  # the time of a message that waited may have come
        self.wake()

    def wake(self) -> None:
        """Something changed: hand out what waits, and claim more if workers have room."""
        while self._waiting and (worker := roomy(self.crew.workers)) is not None:
            worker.give(self._waiting.popleft())
        for worker in self.crew.workers:
            worker.flush()
        self.concurrent.deal()
        if self.held or self._caught_up or self._claiming or self.stopping or self._waiting or self.breakers.all_shut():
            return
        if any(map(self._has_room, self._names)) and not self.writer.gives_way():
            self._claiming = True
            self.writer.run(self._claim).add_done_callback(self._claimed)

    # --- fresh messages ---------------------------------------------------------------

    def take(self, fresh: Sequence[Message]) -> tuple[Sequence[Message], Sequence[Message]]:
        """Which of the fresh messages go to the workers in the transaction that accepts them, and which do not. These
        are left to a claim, which may be in the same transaction."""
        room = min(self._room(), MAX_WINDOW * limits.RECEIVE_MAX)
        taken = self.groups.direct(fresh, self._capacity) if room else []
        if len(taken) == len(fresh) <= room:
            return fresh, ()
        self._caught_up = False
        del taken[room:]
        which = set(map(id, taken))  # and not their own ids: of two with the same one, the other is heard, too
        return taken, [message for message in fresh if id(message) not in which]

    def _room(self) -> int:
        if self._waiting or self.stopping:
            return 0
        rooms = [self.concurrent.least_free()] if self.concurrent.slots else []
        if self.crew.size:
            rooms.append(int(room_s(self.crew.workers) / max(self._message_s.values(), default=FIRST_GUESS_S)))
        if self._caught_up:
            return min(rooms)
        # Past older ones only into room to spare, and not on a guess: then it is not the fresh ones that keep the older
        # ones waiting, but the writer, which gives way to the front.
        return min(rooms) // 2 if self._message_s else 0

    def _has_room(self, workload: str) -> bool:
        concurrent = workload in self.concurrent.slots
        return (self.concurrent.free(workload) if concurrent else room_s(self.crew.workers)) > 0

    def sent(self, claimed: list[Delivery]) -> None:
        """Fresh messages are on the disk, and these of them in flight."""
        self.groups.took_fresh(claimed)
        by_workload: dict[str, list[Delivery]] = {}
        for delivery in claimed:
            by_workload.setdefault(delivery.message.workload, []).append(delivery)
        for name, some in by_workload.items():
            self.writer.counting.taken_at_once(name, len(some))
            self._hand_out(self._batches(name, some))
        self.wake()

    def _hand_out(self, claimed: Sequence[Batch]) -> None:
        for batch in claimed:
            if batch.workload in self.concurrent.slots:
                self.concurrent.give(batch.deliveries)
            else:
                self._waiting.append(batch)

    def _batches(self, workload: str, deliveries: Sequence[Delivery]) -> list[Batch]:
        """What is decided at once is one batch."""
        if workload in self.concurrent.slots:
            return [Batch(workload, deliveries)] if deliveries else []
        message_s = self._message_s.get(workload, FIRST_GUESS_S)
        some = () if self.breakers.free(workload) else deliveries
        suspects = [it for it in some if self.breakers.suspect(workload, it.message.group)]
        return batches(workload, deliveries, message_s, suspects)

    # --- claim ----------------------------------------------------------------

    def _claim(self) -> list[Batch]:
        """Inside a transaction: batches for the room there is, shared between the workloads that have messages."""
        claimed: list[Batch] = []
        self.settler.forget_buried()
        self._caught_up = True
        self._claiming_of = None
        names = self._names if self._blind else self.queue.ready()
        open_ = [name for name in names if self.breakers.allowance(name) != 0]
        ready = [name for name in open_ if self._has_room(name)]
        self._caught_up = len(ready) == len(open_)
        for name in ready:
            self._claiming_of = name
            room = self._room_for(name, len(ready)) + 1
            if not (wanted := self.groups.wanted(name, room)):
                self._caught_up = False
                continue
            share = self.groups.share(name, room, self._capacity(name))
            deliveries = self.queue.claim(name, wanted, self.visibility_timeout_s, share)
            self.groups.went(name, deliveries)
            self._caught_up = self._caught_up and len(deliveries) < wanted
            most = self.options.max_receive_count
            fit = [delivery for delivery in deliveries if not self.settler.received_too_often(delivery, most)]
            claimed += self._batches(name, fit)
        return claimed

    def _room_for(self, workload: str, sharers: int) -> int:
        """How many messages to claim beside the first one, of a workload that shares its workers with so many."""
        if workload in self.concurrent.slots:
            return self.writer.take_spare(min(self.concurrent.free(workload) - 1, limits.MAX_CLAIMED))
        room = int(room_s(self.crew.workers) / self._message_s.get(workload, FIRST_GUESS_S))
        return self.writer.take_spare(min(room, self._window())) // sharers

    def _window(self) -> int:
        return min(MAX_WINDOW * limits.RECEIVE_MAX * len(self.crew.workers), limits.MAX_CLAIMED)

    def _capacity(self, workload: str) -> int:
        """How many messages of a workload may be in flight."""
        if workload in self.concurrent.slots:
            return self.concurrent.slots[workload] * self.concurrent.crew.size
        ahead = int(AHEAD_S * len(self.crew.workers) / self._message_s.get(workload, FIRST_GUESS_S))
        return max(len(self.crew.workers), min(ahead, self._window()))

    def _claimed(self, future: asyncio.Future[list[Batch]]) -> None:
        self._claiming = False
        if (error := future.exception()) is not None:
            log.error("claim failed; it is tried again", extra={"error": str(error), "workload": self._claiming_of})
            self._caught_up = True  # until the next tick
            self.groups.cannot_claim(self._claiming_of, error)
            if isinstance(error, StoreDamaged):
                self._get_past(error)
            return
        self.settler.tell_buried()
        for batch in (claimed := future.result()):
            self.groups.took(batch.workload, batch.deliveries)
            self.writer.counting.taken(batch.workload, batch.deliveries)
        self._hand_out(claimed)
        if claimed:
            self.wake()

    def _get_past(self, error: StoreDamaged) -> None:
        """A claim met damage, which must not keep the messages behind it waiting. What cannot be handed out is set
        aside; where that does not help, nothing of the workload is claimed for a while, so that the others go on."""
        name = self._claiming_of
        if name is None:
            self._blind = True
        elif not self._some_set_aside():
            self.breakers.open_at_once(name, str(error))
        self._caught_up = False
        self.wake()

    def _some_set_aside(self) -> bool:
        try:
            return self.queue.set_aside_damaged() > 0
        except StoreUnavailable:  # the damage is in the index of all of them, say
            return False

    # --- decided --------------------------------------------------------------

    def _decided(self, batch: Batch, decisions: list[Decision], took_s: float) -> None:
        self._caught_up &= not self.groups.decided(batch.workload, batch.deliveries)
        self.writer.counting.decided(batch.workload, [took_s / len(batch.deliveries)], len(batch.deliveries))
        if self.groups.telling(batch.workload, decisions):
            mean = self._message_s.get(batch.workload, FIRST_GUESS_S)
            self._message_s[batch.workload] = max(1e-6, mean + 0.2 * (took_s / len(batch.deliveries) - mean))
        self.settler.settle(list(zip(batch.deliveries, decisions, strict=True)))
        self.wake()

    def _settled(self, workload: str) -> None:
        if workload in self._ordered:
            self._caught_up = False  # whoever was next in the group may go now
        self.wake()

    def _decided_at_once(self, batch: Batch, decisions: list[Decision]) -> None:
        self._caught_up &= not self.groups.decided(batch.workload, batch.deliveries)
        self.writer.counting.decided(batch.workload, batch.took_s)
        self.settler.settle(list(zip(batch.deliveries, decisions, strict=True)))
        self.wake()

    # --- lost -----------------------------------------------------------------

    def _lost(self, head: Batch | None, untouched: list[Batch], cause: str) -> None:
        """A worker has ended. The batch that it was at work on goes again one message at a time, so that one poison
        message does not take nine others with it; the batches behind it were not touched."""
        self._waiting.extendleft(reversed(untouched))
        if head is not None:
            if (culprit := blame.after_crash(head.deliveries, cause)) is not None:
                self.groups.decided(head.workload, head.deliveries)
                self.settler.settle([(head.deliveries[0], culprit)])
            else:
                alone = [Batch(head.workload, [delivery], AHEAD_S) for delivery in head.deliveries]
                self._waiting.extendleft(reversed(alone))
        self.wake()

    # --- stop -----------------------------------------------------------------

    async def drain(self, deadline_s: float) -> bool:
        """Claim nothing more, and settle what is in flight; False if that was not done by the deadline. What is left
        is still on the queue."""
        self.stopping = True
        until = time.monotonic() + deadline_s
        while self.in_flight() and time.monotonic() < until:
            self.wake()
            await asyncio.sleep(0.01)
        drained = not self.in_flight()
        for crew in self.crews:
            await crew.end()
        return drained

    def in_flight(self) -> bool:
        """Whether a message is with a worker, or about to be stored."""
        deciding = self.concurrent.busy() or any(worker.batches for worker in self.crew.workers)
        return bool(self._waiting or self.settler.pending or self._claiming or deciding)
