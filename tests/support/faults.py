"""What goes wrong in a simulated history: the process dies at a named step, a store fails before or after it took
effect, another processor gets the same message meanwhile. All of it drawn from one seeded generator."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from decoupled.core.outcomes import Commit, Delivery, Failure, NotSent, NotStored, Page, Record, Reject, Stored
from decoupled.core.workload import Message, Unavailable
from decoupled.engines.protocols import Table
from tests.support.engines import HandingOut

T = TypeVar("T")

# Where a processor can die between receive and delete. A test says that each of them was hit.
STEPS = frozenset(
    f"{when} {step}"
    for step in (
        "receive",
        "begin_attempt",
        "undo_attempt",
        "record_failure",
        "process",
        "commit",
        "send",
        "retry_later",
        "defer",
        "bury",
        "delete",
    )
    for when in ("before", "after")
) | {"halfway bury"}
_SORTED = sorted(STEPS)
_WEIGHTS = [5 if "bury" in step or "undo" in step else 1 for step in _SORTED]


class Crash(BaseException):
    """The process died here. Nothing may catch it but the simulation."""


class Faults:
    """Draws what happens at each step, and counts what did."""

    def __init__(self, rng: random.Random, counts: Counter[str]) -> None:
        self.rng = rng
        self.counts = counts
        self.on = True
        self.crash_rate = rng.choice((0.0, 0.02, 0.06))
        self.store_rate = rng.choice((0.0, 0.05, 0.2))
        self.rival_rate = rng.choice((0.0, 0.02, 0.1))
        self.bug_rate = rng.choice((0.0, 0.05, 0.4))
        self.not_yet_rate = rng.choice((0.0, 0.05, 0.3))
        self.fatal_step = rng.choices(_SORTED, _WEIGHTS)[0]  # so that rare steps see their share of deaths
        self.rival: Callable[[], None] = lambda: None

    def happens(self, rate: float) -> bool:
        return self.on and rate > 0 and self.rng.random() < rate

    def at(self, step: str) -> None:
        """A named step: the process may die here, or be so slow that another one takes the same message."""
        if self.happens(self.rival_rate):
            self.counts["rival"] += 1
            self.rival()
        if self.happens(0.6 if step == self.fatal_step and self.crash_rate else self.crash_rate):
            self.counts[f"crash {step}"] += 1
            raise Crash(step)

    def store_fails(self, what: str) -> bool:
        if not self.happens(self.store_rate):
            return False
        self.counts[what] += 1
        return True


class FaultyQueue:
    """A queue that sometimes fails, before it took effect or after. `sending` is told of what may get on it."""

    def __init__(self, queue: HandingOut, faults: Faults, sending: Callable[[Message], None]) -> None:
        self.queue, self.faults, self.sending = queue, faults, sending

    def send(self, messages: Sequence[Message]) -> list[NotSent | None]:
        for message in messages:
            self.sending(message)
        self.faults.at("before send")
        lost = {message.id for message in messages if self.faults.store_fails("not sent")}
        sent = iter(self.queue.send([message for message in messages if message.id not in lost]))
        self.faults.at("after send")
        outcomes = [NotSent("throttled") if message.id in lost else next(sent) for message in messages]
        return [
            NotSent("timed out", unknown=True)
            if outcome is None and self.faults.store_fails("sent, unknown")
            else outcome
            for outcome in outcomes
        ]

    def receive(self, maximum: int, visibility_timeout_s: float) -> list[Delivery]:
        self.faults.at("before receive")
        deliveries = self.queue.receive(maximum, visibility_timeout_s)
        self.faults.at("after receive")
        return deliveries

    def delete(self, deliveries: Sequence[Delivery]) -> None:
        self.faults.at("before delete")
        self.queue.delete(deliveries)
        self.faults.at("after delete")

    def defer(self, due: Sequence[tuple[Delivery, int]], now_ms: int) -> list[Delivery]:
        self.faults.at("before defer")
        if self.faults.store_fails("not deferred"):
            raise ConnectionError("the queue does not answer")
        given_back = self.queue.defer(due, now_ms)
        self.faults.at("after defer")
        return given_back

    def retry_later(self, delays: Sequence[tuple[Delivery, float]]) -> None:
        self.faults.at("before retry_later")
        if self.faults.store_fails("not released"):
            raise ConnectionError("the queue does not answer")
        self.queue.retry_later(delays)
        self.faults.at("after retry_later")


class FaultyTable:
    """A table that sometimes fails. `applied` is told of what the table really did."""

    def __init__(
        self, table: Table, faults: Faults, applied: Callable[[Message, Commit | Reject, Stored], None]
    ) -> None:
        self.table, self.faults, self.applied = table, faults, applied

    def commit(self, decided: Sequence[tuple[Message, Commit | Reject]], now_ms: int) -> list[Stored | NotStored]:
        self.faults.at("before commit")
        through = [not self.faults.store_fails("not stored") for _ in decided]
        stored = iter(
            self.table.commit([pair for pair, passes in zip(decided, through, strict=True) if passes], now_ms)
        )
        outcomes = [next(stored) if passes else NotStored("throttled") for passes in through]
        for (message, decision), outcome in zip(decided, outcomes, strict=True):
            if isinstance(outcome, Stored):
                self.applied(message, decision, outcome)
        self.faults.at("after commit")
        return [
            NotStored("timed out")
            if isinstance(outcome, Stored) and self.faults.store_fails("stored, unknown")
            else outcome
            for outcome in outcomes
        ]

    def stored(self, message_id: str) -> Stored | None:
        self._may_fail("not read")
        return self.table.stored(message_id)

    def begin_attempt(self, delivery: Delivery) -> Record:
        return self._attempt("begin_attempt", lambda: self.table.begin_attempt(delivery))

    def undo_attempt(self, delivery: Delivery) -> None:
        self._attempt("undo_attempt", lambda: self.table.undo_attempt(delivery))

    def record_failure(self, delivery: Delivery, failure: Failure, now_ms: int, begun: bool = False) -> Record:
        return self._attempt("record_failure", lambda: self.table.record_failure(delivery, failure, now_ms, begun))

    def bury(self, delivery: Delivery, dead: Record) -> bool:
        return self._attempt("bury", lambda: self.table.bury(delivery, dead))

    def _attempt(self, step: str, call: Callable[[], T]) -> T:
        self.faults.at(f"before {step}")
        self._may_fail(f"no {step}")
        result = call()
        self.faults.at(f"after {step}")
        self._may_fail(f"{step}, unknown")
        return result

    def get(self, message_id: str) -> Record | None:
        return self.table.get(message_id)

    def item(self, key: str, owner: str | None = None) -> Mapping[str, Any] | None:
        return self.table.item(key, owner)

    def page(self, prefix: str, after: str, limit: int) -> Page:
        return self.table.page(prefix, after, limit)

    def _may_fail(self, what: str) -> None:
        if self.faults.store_fails(what):
            raise Unavailable("throttled")
