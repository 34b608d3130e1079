"""Drives the processor at a controlled rate, as Lambda's event source mapping does: claims messages, hands them to
workers, settles what they decided. Claims and settlements ride in the writer's group commits.

    claim ──▶ worker decides ──▶ settle: record and deletion, one transaction
                   │ dies
                   └──▶ its batch again, one message at a time; alone, it is the message's fault
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence

from decoupled.core import limits
from decoupled.core.outcomes import Decision, Delivery, Failure
from decoupled.core.workload import Unavailable
from decoupled.engines.protocols import Feed, Table
from decoupled.pipeline import blame
from decoupled.pipeline.settlement import Policy, settle
from decoupled.server.group_commit import Writer
from decoupled.server.options import Options
from decoupled.server.scheduling.breaker import Answer, Breakers
from decoupled.server.scheduling.rate import Rate
from decoupled.server.workers.pool import MAX_WINDOW, Batch, Worker

log = logging.getLogger("decoupled.poller")

TICK_S = 0.25  # how often to look for messages whose time has come
AHEAD_S = 0.05  # of work that a worker may have ahead of it: little enough to take back when the worker dies
FIRST_GUESS_S = 0.005  # a message takes, until its workload has shown how long it really takes
RESTART_S = 1.0  # before starting a worker again that died without having decided anything
STORE_RETRY_S = 1.0


class Poller:
    """Owns the workers and every message in flight."""

    def __init__(
        self, writer: Writer, queue: Feed, table: Table, policy: Policy, options: Options, workloads: Iterable[str]
    ) -> None:
        self.writer = writer
        self.queue = queue
        self.table = table
        self.policy = policy
        self.options = options
        self.loop = writer.loop
        self.visibility_timeout_s = options.visibility_timeout_s
        self.breakers = Breakers(workloads, self.loop.time)
        self.counts: Counter[str] = Counter()
        self.workers: list[Worker] = []
        self.stopping = False
        self._waiting: deque[Batch] = deque()  # claimed, and not yet with a worker
        self._message_s: dict[str, float] = {}  # how long a message of each workload takes, a running mean
        self._claiming = False
        self._caught_up = False  # nothing visible was left behind at the last claim
        self._settling = 0
        self._rate = Rate(options.rate, self.loop.time)

    async def start(self) -> None:
        """Start the workers and the clock."""
        for _ in range(self.options.concurrency):
            await self._start_worker()
        self._tick()

    async def _start_worker(self) -> None:
        options = self.options
        worker = Worker(
            options.workloads, options.function_timeout_s, self._decided, self._lost, options.root, options.log_level
        )
        await worker.start()
        self.workers.append(worker)

    def _tick(self) -> None:
        if not self.stopping:
            self.loop.call_later(TICK_S, self._tick)
        self._caught_up = False  # the time of a message that waited may have come
        self.wake()

    def wake(self) -> None:
        """Something changed: hand out what waits, and claim more if workers have room."""
        while self._waiting and (worker := self._roomy_worker()) is not None:
            worker.give(self._waiting.popleft())
        for worker in self.workers:
            worker.flush()
        if self._caught_up or self._claiming or self.stopping or self._waiting or self.breakers.all_shut():
            return
        if self._room_s() > 0 and not self.writer.gives_way():
            self._claiming = True
            self.writer.run(self._claim).add_done_callback(self._claimed)

    def _roomy_worker(self) -> Worker | None:
        """The first worker that has nothing to do, or little: work is packed, so that idle workers stay idle."""
        for worker in self.workers:
            if not worker.batches or (worker.expected_s < AHEAD_S and len(worker.batches) < MAX_WINDOW):
                return worker
        return None

    def _room_s(self) -> float:
        return sum(
            AHEAD_S - worker.expected_s
            for worker in self.workers
            if worker.expected_s < AHEAD_S and len(worker.batches) < MAX_WINDOW
        )

    # --- fresh messages ---------------------------------------------------------------

    def take(self, fresh: int) -> int:
        """How many of the fresh messages go to the workers in the transaction that accepts them. The others are left to
        a claim, which may be in the same transaction."""
        taken = min(fresh, self._room(), MAX_WINDOW * limits.RECEIVE_MAX)
        if taken < fresh:
            self._caught_up = False
        return taken

    def _room(self) -> int:
        if self._waiting or self.stopping or self.options.rate or self.breakers.open():
            return 0  # the others are claimed, where rate and breakers are looked at message by message
        room = int(self._room_s() / max(self._message_s.values(), default=FIRST_GUESS_S))
        if self._caught_up:
            return room
        # Past older ones only into room to spare, and not on a guess: then it is not the fresh ones that keep the older
        # ones waiting, but the writer, which gives way to the front.
        return room // 2 if self._message_s else 0

    def sent(self, claimed: list[Delivery]) -> None:
        """Fresh messages are on the disk, and these of them in flight."""
        by_workload: dict[str, list[Delivery]] = {}
        for delivery in claimed:
            by_workload.setdefault(delivery.message.workload, []).append(delivery)
        for name, deliveries in by_workload.items():
            self._waiting.extend(self._batches(name, deliveries))
        self.wake()

    def _batches(self, workload: str, deliveries: Sequence[Delivery]) -> list[Batch]:
        """Up to ten messages each, fewer where a message takes long."""
        message_s = self._message_s.get(workload, FIRST_GUESS_S)
        size = max(1, min(limits.RECEIVE_MAX, int(AHEAD_S / message_s)))
        parts = [deliveries[start : start + size] for start in range(0, len(deliveries), size)]
        return [Batch(workload, part, message_s * len(part)) for part in parts]

    # --- claim ----------------------------------------------------------------

    def _claim(self) -> list[Batch]:
        """Inside a transaction: batches for the room there is, shared between the workloads that have messages."""
        batches: list[Batch] = []
        self._caught_up = True
        ready = [name for name in self.queue.ready() if self.breakers.allowance(name) != 0]
        for name in ready:
            wanted = self._rate.take(self._wanted(name) // len(ready) + 1)
            if not wanted:
                self._caught_up = False
                continue
            deliveries = self.queue.claim(name, wanted, self.visibility_timeout_s)
            self._rate.give_back(wanted - len(deliveries))
            self._caught_up = self._caught_up and len(deliveries) < wanted
            fit = [delivery for delivery in deliveries if not self._received_too_often(delivery)]
            batches += self._batches(name, fit)
        return batches

    def _wanted(self, workload: str) -> int:
        """How many messages to claim beside the first one."""
        if (allowance := self.breakers.allowance(workload)) is not None:
            return allowance - 1
        room = int(self._room_s() / self._message_s.get(workload, FIRST_GUESS_S))
        return self.writer.take_spare(min(room, MAX_WINDOW * limits.RECEIVE_MAX * len(self.workers)))

    def _claimed(self, future: asyncio.Future[list[Batch]]) -> None:
        self._claiming = False
        if future.exception() is not None:
            log.error("claim failed; it is tried again", extra={"error": str(future.exception())})
            self._caught_up = True  # until the next tick
            return
        batches = future.result()
        for batch in batches:
            if (allowance := self.breakers.allowance(batch.workload)) is not None and allowance:
                self.breakers.probing(batch.workload)
        self._waiting.extend(batches)
        if batches:
            self.wake()

    def _received_too_often(self, delivery: Delivery) -> bool:
        """The queue's own safety net: what was handed out this often and never settled kills whatever touches it."""
        if delivery.receive_count <= self.options.max_receive_count:
            return False
        self.table.bury(delivery, blame.received_too_often(delivery, self.policy.now_ms()))
        message = delivery.message
        extra = {"message_id": message.id, "workload": message.workload, "receive_count": delivery.receive_count}
        log.error("dead: received too often and never settled", extra=extra)
        return True

    # --- decided --------------------------------------------------------------

    def _decided(self, _worker: Worker, batch: Batch, decisions: list[Decision], took_s: float) -> None:
        mean = self._message_s.get(batch.workload, FIRST_GUESS_S)
        self._message_s[batch.workload] = max(1e-6, mean + 0.2 * (took_s / len(batch.deliveries) - mean))
        self._settle(list(zip(batch.deliveries, decisions, strict=True)))
        self.wake()

    def _settle(self, decided: Sequence[tuple[Delivery, Decision]]) -> None:
        self._settling += 1

        def store() -> list[Delivery]:
            # What is not given back has a final or dead record now, and with that has left the queue.
            return settle(decided, self.queue, self.table, self.policy)

        def stored(future: asyncio.Future[list[Delivery]]) -> None:
            self._settling -= 1
            if (error := future.exception()) is not None:
                self._not_settled(decided, error)
                return
            self._learn(decided, {delivery.receipt for delivery in future.result()})
            self.wake()

        self.writer.run(store).add_done_callback(stored)

    def _not_settled(self, decided: Sequence[tuple[Delivery, Decision]], error: BaseException) -> None:
        """A sick store is asked again. Effects that the table chokes on are found by settling one message at a time,
        and are that message's fault."""
        log.error("settlement failed; it is tried again", extra={"error": str(error), "messages": len(decided)})
        if isinstance(error, Unavailable):
            self._settling += 1  # a drain waits for it
            self.loop.call_later(STORE_RETRY_S, self._settle_again, decided)
        elif len(decided) > 1:
            for one in decided:
                self._settle([one])
        elif not isinstance(decided[0][1], Failure):
            self._settle([(decided[0][0], Failure("failed", type(error).__name__, str(error)))])
        # What not even its failure can be stored of comes back when its visibility timeout ends.

    def _settle_again(self, decided: Sequence[tuple[Delivery, Decision]]) -> None:
        self._settling -= 1
        self._settle(decided)

    def _learn(self, decided: Sequence[tuple[Delivery, Decision]], given_back: set[str]) -> None:
        """Count, and tell the breakers who is sick. What was decided and still came back, the table refused."""
        if not given_back and not any(isinstance(decision, Failure) for _, decision in decided):
            self.counts["settled"] += len(decided)
            self.breakers.observe(decided[0][0].message.workload, "well")
            return
        for delivery, decision in decided:
            name = delivery.message.workload
            if isinstance(decision, Failure):
                self.counts[decision.kind] += 1
                answer: Answer = "sick" if decision.kind == "unavailable" else "no evidence"
                self.breakers.observe(name, answer, decision.error, decision.retry_after_s)
            elif delivery.receipt in given_back:
                self.counts["unavailable"] += 1
                self.breakers.observe(name, "sick", "the table does not answer")
            else:
                self.counts["settled"] += 1
                self.breakers.observe(name, "well")

    # --- lost -----------------------------------------------------------------

    def _lost(self, worker: Worker, left: list[Batch], cause: str) -> None:
        """A worker died. The batch it worked on goes again one message at a time, so that one poison message does not
        take nine others with it; the batches behind it were not touched."""
        self.workers.remove(worker)
        if self.stopping and not left:
            return
        log.error("worker lost", extra={"cause": cause, "batches": len(left)})
        if left:
            head, *untouched = left
            self._waiting.extendleft(reversed(untouched))
            if (culprit := blame.after_crash(head.deliveries, cause)) is not None:
                self._settle([(head.deliveries[0], culprit)])
            else:
                alone = [Batch(head.workload, [delivery], AHEAD_S) for delivery in head.deliveries]
                self._waiting.extendleft(reversed(alone))
        if not self.stopping:
            delay_s = 0 if worker.useful or left else RESTART_S
            self.loop.call_later(delay_s, lambda: asyncio.ensure_future(self._replace_worker()))

    async def _replace_worker(self) -> None:
        if not self.stopping:
            await self._start_worker()
            self.wake()

    # --- stop -----------------------------------------------------------------

    async def drain(self, deadline_s: float) -> bool:
        """Claim nothing more, and settle what is in flight; False if that was not done by the deadline. What is left
        is still on the queue."""
        self.stopping = True
        until = time.monotonic() + deadline_s
        while self._in_flight() and time.monotonic() < until:
            self.wake()
            await asyncio.sleep(0.01)
        drained = not self._in_flight()
        for worker in list(self.workers):
            worker.kill("the server stops")
        return drained

    def _in_flight(self) -> bool:
        return bool(self._waiting or self._settling or self._claiming or any(worker.batches for worker in self.workers))
