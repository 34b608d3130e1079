"""Ordered workloads on SQLite against a plain model, with a manual clock: whatever is sent, claimed, settled late or
twice, buried, redriven, or cut off by a crash, a claim hands out the first message of a group that has not ended, and
that alone, or nothing of the group. An unordered workload beside it knows no groups."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from decoupled.core.dead_letters import Wanted
from decoupled.core.outcomes import Commit, Delivery, Reject, Stored
from decoupled.core.status import Status
from decoupled.core.workload import Effects, Message, Workload
from decoupled.engines.sqlite import ordered
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.dead_letters import SqliteDeadLetters
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.table import SqliteTable
from tests.support.contract import dead_record

START = 1_795_430_130_123
NAMES = ("transfers", "readings")
GROUPS = ("", "a", "a\0")
TIMEOUT_S = 30.0

names, groups = st.sampled_from(NAMES), st.sampled_from(GROUPS)
several = st.lists(st.tuples(names, groups), min_size=1, max_size=6)


def workloads(*in_order: str) -> dict[str, Workload]:
    return {name: Workload(name, dict, lambda _, __: Effects({}), ordered=name in in_order) for name in NAMES}  # type: ignore[arg-type]


@dataclass
class Known:
    """What the model knows of a message."""

    message: Message
    visible_at: int
    status: Status = "queued"
    receive_count: int = 0
    in_flight: bool = False


@dataclass
class Model:
    """A queue and a clock in plain Python: messages in the order of their acceptance."""

    now: int = START
    messages: list[Known] = field(default_factory=list)
    ordered: set[str] = field(default_factory=lambda: set(NAMES))

    def of(self, delivery: Delivery) -> Known:
        return next(known for known in self.messages if known.message.id == delivery.message.id)

    def queued(self, workload: str, group: str) -> list[Known]:
        return [
            known
            for known in self.messages
            if (known.message.workload, known.message.group, known.status) == (workload, group, "queued")
        ]

    def claimable(self, workload: str, group: str) -> list[Known]:
        """Any of which a claim may hand out next."""
        line = self.queued(workload, group)
        if workload in self.ordered:
            line = [] if any(known.in_flight and known.visible_at > self.now for known in line) else line[:1]
        return [known for known in line if known.visible_at <= self.now]


class Order(RuleBasedStateMachine):
    """Every rule does one thing to the queue and to the model, and compares what both say."""

    deliveries = Bundle("deliveries")

    @initialize()
    def open(self) -> None:
        self.database = Database(":memory:")
        self.model = Model()
        self.numbers = itertools.count()
        self.begin()

    def begin(self) -> None:
        """As a server does."""
        self.queue = SqliteQueue(self.database, lambda: self.model.now)
        self.table = SqliteTable(self.database, clock_ms=lambda: self.model.now)
        self.letters = SqliteDeadLetters(self.database, lambda: self.model.now, lambda: self.model.now)
        self.queue.release_in_flight()
        ordered.adopt(self.database, workloads(*self.model.ordered))

    def teardown(self) -> None:
        self.database.close()

    def new(self, workload: str, group: str) -> Message:
        return Message(f"id-{next(self.numbers)}", workload, "{}", "anonymous", self.model.now, group)

    # --- what gets in line ------------------------------------------------------

    @rule(whose=several)
    def send(self, whose: list[tuple[str, str]]) -> None:
        messages = [self.new(*one) for one in whose]
        assert self.queue.send(messages) == [None] * len(messages)
        self.model.messages += [Known(message, self.model.now) for message in messages]

    @rule(target=deliveries, whose=several, again=st.booleans())
    def send_claimed(self, whose: list[tuple[str, str]], again: bool) -> Any:
        """At once into the hands of who sends, but for what follows another one."""
        before = [known.message for known in self.model.messages[-1:] if again]
        messages = [self.new(*one) for one in whose]
        expected = []
        for message in messages:
            first = message.workload not in self.model.ordered or not self.model.queued(message.workload, message.group)
            self.model.messages.append(Known(message, self.model.now))
            if first:
                expected.append(message)
                self.hand_out(self.model.messages[-1])
        deliveries = self.queue.send_claimed([*before, *messages], TIMEOUT_S)
        assert [(delivery.message, delivery.receive_count) for delivery in deliveries] == [(m, 1) for m in expected]
        return multiple(*deliveries)

    @rule(delivery=deliveries, whose=several)
    def emit(self, delivery: Delivery, whose: list[tuple[str, str]]) -> None:
        messages = [self.new(*one) for one in whose]
        stored = self.settle(delivery, Commit("{}", [], messages))
        if stored.status == "processed" and not stored.duplicate:
            self.model.messages += [Known(message, self.model.now) for message in messages]

    # --- claims -----------------------------------------------------------------

    @rule(
        target=deliveries,
        workload=names,
        maximum=st.integers(1, 6),
        shut=st.sets(groups, max_size=2),
    )
    def claim(self, workload: str, maximum: int, shut: set[str]) -> Any:
        can = {group: self.model.claimable(workload, group) for group in GROUPS if group not in shut}
        deliveries = self.queue.claim(workload, maximum, TIMEOUT_S, lambda group: 0 if group in shut else maximum)
        assert len(deliveries) == min(maximum, sum(map(len, can.values())))
        for delivery in deliveries:
            known = self.model.of(delivery)
            assert known in can[delivery.message.group]
            self.hand_out(known)
            assert (delivery.message, delivery.receive_count) == (known.message, known.receive_count)
        return multiple(*deliveries)

    def hand_out(self, known: Known) -> None:
        known.receive_count += 1
        known.visible_at = self.model.now + int(TIMEOUT_S * 1000)
        known.in_flight = True

    # --- what becomes of deliveries, be they lapsed -----------------------------------

    @rule(delivery=deliveries, delay_s=st.sampled_from([0, 1, 60]))
    def retry_later(self, delivery: Delivery, delay_s: float) -> None:
        self.queue.retry_later([(delivery, delay_s)])
        known = self.model.of(delivery)
        if known.status == "queued" and known.receive_count == delivery.receive_count:
            known.visible_at, known.in_flight = self.model.now + int(delay_s * 1000), False

    @rule(delivery=deliveries, reject=st.booleans())
    def commit(self, delivery: Delivery, reject: bool) -> None:
        self.settle(delivery, Reject("no") if reject else Commit("{}"))

    def settle(self, delivery: Delivery, decision: Commit | Reject) -> Stored:
        """A dead letter of an ordered workload stays one."""
        known = self.model.of(delivery)
        is_final = known.status in ("processed", "rejected")
        too_late = known.status == "dead" and known.message.workload in self.model.ordered
        (outcome,) = self.table.commit([(delivery.message, decision)], self.model.now)
        assert isinstance(outcome, Stored)
        assert outcome.duplicate is (is_final or too_late)
        if not outcome.duplicate:
            known.status, known.in_flight = "rejected" if isinstance(decision, Reject) else "processed", False
        assert outcome.status == known.status
        return outcome

    @rule(delivery=deliveries)
    def bury(self, delivery: Delivery) -> None:
        known = self.model.of(delivery)
        is_open = known.status in ("queued", "dead")
        assert self.table.bury(delivery, dead_record(delivery.message)) is is_open
        if is_open:
            known.status, known.in_flight = "dead", False

    def dead(self) -> list[Known]:
        return [known for known in self.model.messages if known.status == "dead"]

    @precondition(lambda self: self.dead())
    @rule(data=st.data(), change=st.sampled_from(["redrive", "redrive", "purge", "purge and restore"]))
    def change_a_dead_letter(self, data: st.DataObject, change: str) -> None:
        """Redriven, it is in its old place."""
        known = data.draw(st.sampled_from(self.dead()))
        letters = [letter for letter in self.letters.find(Wanted(), bodies=True) if letter.id == known.message.id]
        if change == "redrive":
            self.letters.redrive(letters)
            known.status, known.visible_at, known.receive_count = "queued", self.model.now, 0
            return
        self.letters.purge(letters)
        known.status = "rejected"
        if change == "purge and restore":
            self.letters.restore(letters)
            known.status, known.receive_count = "dead", 0

    # --- time and the process ---------------------------------------------------------

    @rule(seconds=st.sampled_from([0.001, 1, 29, 31]))
    def time_passes(self, seconds: float) -> None:
        self.model.now += int(seconds * 1000)

    @rule(in_order=st.sets(names))
    def restart(self, in_order: set[str]) -> None:
        """The server died; the next one may have other workloads in order."""
        self.model.ordered = in_order
        for known in self.model.messages:
            if known.in_flight or known.receive_count == 0:
                known.visible_at, known.in_flight = min(known.visible_at, self.model.now), False
        self.begin()

    @rule(name=names)
    def crash_before_the_commit(self, name: str) -> None:
        """What a claim handed out in a transaction that came to nothing, the next one hands out."""
        self.database.begin()
        self.queue.claim(name, 3, TIMEOUT_S)
        self.database.roll_back()

    # --- always -------------------------------------------------------------------

    @invariant()
    def all_that_is_to_be_in_line_is(self) -> None:
        rows = self.database.execute("SELECT workload FROM messages WHERE status = 'queued' AND ordered = 0")
        assert not {workload for (workload,) in rows} & self.model.ordered

    @invariant()
    def every_id_is_in_one_status(self) -> None:
        rows = self.database.execute("SELECT id, status FROM messages ORDER BY seq").fetchall()
        assert rows == [(known.message.id, known.status) for known in self.model.messages]


TestOrder = Order.TestCase
TestOrder.settings = settings(
    max_examples=120,
    stateful_step_count=40,
    deadline=None,
    print_blob=True,  # replays a failure
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
