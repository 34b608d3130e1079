"""Stores what workers decided, in the writer's group commits, and sees to what could not be stored: the store's trouble
is not the messages' fault, and one message's trouble not its neighbours'.

    settle ─▶ stored ─▶ the breakers learn
                 │ the store is sick: again, after a pause that grows
                 │ it is damaged, or chokes: one message at a time, so that it costs only those that lead there
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from decoupled.core.backoff import backoff_s, doubled_s
from decoupled.core.outcomes import Decision, Delivery, Failure
from decoupled.core.workload import Unavailable
from decoupled.engines.protocols import Feed, StoreDamaged, Table
from decoupled.pipeline.settlement import Policy, settle
from decoupled.server.group_commit import Writer
from decoupled.server.scheduling.breaker import Answer, Breakers

log = logging.getLogger("decoupled.poller")

STORE_RETRY_S = 1.0  # before a sick store is asked again, doubled each time,
STORE_RETRY_MOST_S = 5.0  # up to this: what was decided is in memory alone

Decided = Sequence[tuple[Delivery, Decision]]


class Settler:
    """`on_settled` is called after each settlement; `pending` says how many there are to wait for."""

    def __init__(
        self,
        writer: Writer,
        queue: Feed,
        table: Table,
        policy: Policy,
        breakers: Breakers,
        on_settled: Callable[[], None],
    ) -> None:
        self.writer = writer
        self.queue = queue
        self.table = table
        self.policy = policy
        self.breakers = breakers
        self.on_settled = on_settled
        self.pending = 0

    def settle(self, decided: Decided, tries: int = 1) -> None:
        """Store what was decided of messages of one workload."""
        self.pending += 1

        def store() -> list[Delivery]:
            # What is not given back has a final or dead record now, and with that has left the queue.
            return settle(decided, self.queue, self.table, self.policy)

        def stored(future: asyncio.Future[list[Delivery]]) -> None:
            self.pending -= 1
            if (error := future.exception()) is not None:
                self._not_settled(decided, error, tries)
                return
            self._learn(decided, {delivery.receipt for delivery in future.result()})
            self.on_settled()

        self.writer.run(store).add_done_callback(stored)

    def _not_settled(self, decided: Decided, error: BaseException, tries: int) -> None:
        """A sick store is asked again, and so is a sick machine. What leads to damage, and effects that the table
        chokes on, show when each message is settled by itself."""
        (delivery, decision), *others = decided
        extra = {"error": str(error), "messages": len(decided), "first": delivery.message.id}
        log.error("settlement failed; it is tried again", extra=extra)
        if isinstance(error, (Unavailable, OSError, MemoryError)) and not isinstance(error, StoreDamaged):
            pause_s = doubled_s(tries, self.policy.spread(), STORE_RETRY_S, STORE_RETRY_MOST_S)
            self.pending += 1  # a drain waits for it
            self.writer.loop.call_later(pause_s, self._settle_again, decided, tries + 1)
        elif others:
            for one in decided:
                self.settle([one])
        elif isinstance(error, StoreDamaged):
            self._put_off(delivery)
        elif not isinstance(decision, Failure):
            self.settle([(delivery, Failure("failed", type(error).__name__, str(error)))])
        # What not even its failure can be stored of comes back when its visibility timeout ends.

    def _settle_again(self, decided: Decided, tries: int) -> None:
        self.pending -= 1
        self.settle(decided, tries)

    def _put_off(self, delivery: Delivery) -> None:
        """The message is not to blame, nor is its backend: it waits, ever longer, for a person to mend the store."""
        message = delivery.message
        delay_s = backoff_s(delivery.receive_count, self.policy.spread())
        extra = {"message_id": message.id, "workload": message.workload, "retry_in_s": round(delay_s, 1)}
        self.pending += 1

        def stored(future: asyncio.Future[None]) -> None:
            self.pending -= 1
            if (error := future.exception()) is None:
                log.error("not stored, since the database is damaged; it is put off", extra=extra)
            else:
                log.error("it comes back when its visibility timeout ends", extra=extra | {"error": str(error)})
            self.breakers.observe(message.workload, "no evidence")
            self.on_settled()

        self.writer.run(lambda: self.queue.retry_later([(delivery, delay_s)])).add_done_callback(stored)

    def _learn(self, decided: Decided, given_back: set[str]) -> None:
        """Tell the breakers who is sick. What was decided and still came back, the table refused."""
        if not given_back and not any(isinstance(decision, Failure) for _, decision in decided):
            self.breakers.observe(decided[0][0].message.workload, "well")
            return
        for delivery, decision in decided:
            name = delivery.message.workload
            if isinstance(decision, Failure):
                answer: Answer = "sick" if decision.kind == "unavailable" else "no evidence"
                self.breakers.observe(name, answer, decision.error, decision.retry_after_s)
            elif delivery.receipt in given_back:
                self.breakers.observe(name, "sick", "the table does not answer")
            else:
                self.breakers.observe(name, "well")
