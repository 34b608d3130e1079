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
from typing import assert_never

from decoupled.core import tracing
from decoupled.core.backoff import backoff_s, doubled_s
from decoupled.core.metrics import Numbers
from decoupled.core.outcomes import Commit, Decision, Delivery, Failure
from decoupled.core.overview import TABLE_REFUSES
from decoupled.core.workload import Message, Unavailable
from decoupled.engines.protocols import Feed, StoreDamaged, Table
from decoupled.pipeline import blame
from decoupled.pipeline.settlement import Policy, settle
from decoupled.server.group_commit import Writer
from decoupled.server.scheduling.breaker import NO_EVIDENCE, WELL, Answer
from decoupled.server.scheduling.groups import Groups
from decoupled.server.watches import Watches

log = logging.getLogger("decoupled.poller")

STORE_RETRY_S = 1.0  # before a sick store is asked again, doubled each time,
STORE_RETRY_MOST_S = 5.0  # up to this: what was decided is in memory alone

Decided = Sequence[tuple[Delivery, Decision]]


class Settler:
    """`on_settled` hears of each settlement, by its workload; `pending` says how many there are to wait for."""

    def __init__(
        self,
        writer: Writer,
        queue: Feed,
        table: Table,
        policy: Policy,
        groups: Groups,
        watches: Watches,
        on_settled: Callable[[str], None],
    ) -> None:
        self.writer = writer
        self.queue = queue
        self.table = table
        self.policy = policy
        self.groups = groups
        self.watches = watches
        self.on_settled = on_settled
        self.emitting: Callable[[Sequence[Message]], None] | None = None  # hears of messages that are about to be sent
        self.pending = 0
        self._buried: list[Message] = []  # by claims, and not told of yet
        self._gathering: dict[str, list[tuple[Delivery, Decision]]] = {}  # for the next transaction, by workload

    def settle(self, decided: Decided) -> None:
        """Store what was decided of messages of one workload, in one step with all else of it that waits for the same
        transaction: on a busy server that is what several batches came to."""
        workload = decided[0][0].message.workload
        if (gathering := self._gathering.get(workload)) is not None:
            gathering += self._judged(decided)
        else:
            self._gathering[workload] = judged = self._judged(decided)
            self._store(judged)

    def received_too_often(self, delivery: Delivery, most: int) -> bool:
        """The queue's own safety net, in a claim: what was handed out this often and never settled kills whatever
        touches it, and is buried."""
        if delivery.receive_count <= most:
            return False
        message = delivery.message
        if self.table.bury(delivery, blame.received_too_often(delivery, self.policy.time_of([delivery]))):
            self._buried.append(message)
        self.watches.mark([message])
        extra = {"message_id": message.id, "workload": message.workload, "receive_count": delivery.receive_count}
        log.error("dead: received too often and never settled", extra=extra)
        return True

    def forget_buried(self) -> None:
        """A claim begins: what another one has buried and nobody was told of, was undone."""
        self._buried.clear()

    def tell_buried(self) -> None:
        """What that has buried is on the disk."""
        buried, self._buried = self._buried, []
        for message in buried:
            self.writer.counting.count("dead", message.workload)
        self.watches.tell(buried)

    def _judged(self, decided: Decided) -> list[tuple[Delivery, Decision]]:
        judge = self.groups.judge
        return [(it, judge(it, decision) if type(decision) is Failure else decision) for it, decision in decided]

    def _store(self, decided: Decided, tries: int = 1) -> None:
        self.pending += 1
        workload = decided[0][0].message.workload
        tally = Numbers()

        def is_whole() -> None:
            if self._gathering.get(workload) is decided:
                del self._gathering[workload]  # what comes from now on is of the next transaction

        def store() -> list[Delivery]:
            is_whole()
            if self.emitting is not None:
                for _, decision in decided:
                    if type(decision) is Commit and decision.emits:
                        self.emitting(decision.emits)
            tally.counters.clear()  # a transaction that met damage goes again
            # What is not given back has a final or dead record now, and with that has left the queue.
            given_back = settle(decided, self.queue, self.table, self.policy, tally=tally)
            if self.watches.ends.followed:
                self.watches.mark(_ended(decided, given_back))
            return given_back

        def stored(future: asyncio.Future[list[Delivery]]) -> None:
            is_whole()
            self.pending -= 1
            if (error := future.exception()) is not None:
                self._not_settled(decided, error, tries)
                return
            self.writer.counting.settled(tally)
            given_back = future.result()
            if tracing.active is not None:
                tracing.committed(tracing.of_decided(decided), "records", self.writer.began_ns)
            if self.watches:
                self.watches.tell(_ended(decided, given_back))
            self._learn(decided, {delivery.receipt for delivery in given_back})
            self.on_settled(workload)

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
                self._store(self._judged([one]))
        elif isinstance(error, StoreDamaged):
            self._put_off(delivery)
        elif not isinstance(decision, Failure):
            self._store([(delivery, Failure("failed", type(error).__name__, str(error)))])
        # What not even its failure can be stored of comes back when its visibility timeout ends.

    def _settle_again(self, decided: Decided, tries: int) -> None:
        self.pending -= 1
        self._store(self._judged(decided), tries)

    def _put_off(self, delivery: Delivery) -> None:
        """The message is not to blame, nor is its backend: it waits, ever longer, for a person to mend the store."""
        message = delivery.message
        delay_s = backoff_s(delivery.receive_count, self.policy.spread())
        extra = {"message_id": message.id, "workload": message.workload, "retry_in_s": round(delay_s, 1)}
        self.pending += 1

        def stored(future: asyncio.Future[None]) -> None:
            self.pending -= 1
            if (error := future.exception()) is None:
                self.writer.counting.count("retried", message.workload)
                log.error("not stored, since the database is damaged; it is put off", extra=extra)
            else:
                log.error("it comes back when its visibility timeout ends", extra=extra | {"error": str(error)})
            self.groups.observe(message, NO_EVIDENCE)
            self.on_settled(message.workload)

        self.writer.run(lambda: self.queue.retry_later([(delivery, delay_s)])).add_done_callback(stored)

    def _learn(self, decided: Decided, given_back: set[str]) -> None:
        """Tell the breakers who is sick. What was decided and still came back, the table refused."""
        if not given_back and not any(type(decision) is Failure for _, decision in decided):
            for message in {delivery.message.group: delivery.message for delivery, _ in decided}.values():
                self.groups.observe(message, WELL)
            return
        for delivery, decision in decided:
            refused = delivery.receipt in given_back and not isinstance(decision, Failure)
            self.groups.observe(delivery.message, REFUSED if refused else _answer(delivery, decision))


def _ended(decided: Decided, given_back: Sequence[Delivery]) -> list[Message]:
    receipts = {delivery.receipt for delivery in given_back}
    return [delivery.message for delivery, _ in decided if delivery.receipt not in receipts]


REFUSED = Answer("sick", TABLE_REFUSES)


def _answer(delivery: Delivery, decision: Decision) -> Answer:
    """What a decision says of the backend and of the workload's code."""
    if not isinstance(decision, Failure):
        return WELL
    match decision.kind:
        case "unavailable":
            return Answer("sick", decision.error, decision.retry_after_s)
        case "failed" | "held":
            why = f"{decision.error_type}: {decision.error}"
            return Answer("failing", why, message_id=delivery.message.id, alike=blame.alike(decision))
        case "undecodable" | "not_ours" | "not_started" | "not_yet":
            return NO_EVIDENCE
        case never:
            assert_never(never)
