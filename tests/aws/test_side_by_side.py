"""Two releases side by side, as while a stack changes from one to the other: their fronts and backs share one queue and
one table. What either front accepts is processed once, and nothing is dead, whichever back meets it first."""

from __future__ import annotations

import heapq
import logging
import random
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import moto.sqs.models
import msgspec
import pytest

from decoupled import Add, Effects, Message, Workload
from decoupled.core.outcomes import Delivery, NotSent
from decoupled.core.workload import Workloads
from decoupled.engines.protocols import Table
from decoupled.pipeline.processor import process
from decoupled.pipeline.runs import Runs
from decoupled.pipeline.settlement import Policy
from tests.support.engines import HandingOut, in_process
from tests.support.events import post, receive_event
from tests.support.model_engine import ModelQueue, ModelTable

LOST_ANSWERS = 0.05  # of batches whose processor ends before they are deleted: SQS hands them out again
MET_AT_ONCE = 0.3  # of requests after which a batch is processed: the rest waits in the queue
STEP_MS = 5_000  # that time goes on when nothing is visible
DAY_MS = 86_400_000
SEED = 2026
CHANGE_MS = 120_000  # that a change of the stack takes, some two minutes; limits.VERSION_SKEW_S is 15


class Older(msgspec.Struct, forbid_unknown_fields=True):
    number: int


class Newer(msgspec.Struct, forbid_unknown_fields=True):
    """Takes all that the older takes."""

    number: int
    note: str | None = None


def count(step: Any, message: Message) -> Effects:
    return Effects({"number": step.number}, writes=[Add(f"counts/{step.number}", {"times": 1})])


OLD: Workloads = {"steps": Workload("steps", Older, count, readable=("counts",))}
NEW: Workloads = {"steps": Workload("steps", Newer, count, readable=("counts",))}


@dataclass
class Stack:
    """Fronts and backs of both releases."""

    queue: HandingOut
    table: Table
    dead: Callable[[], Sized | None]
    random: random.Random
    at_ms: int = 1_800_000_000_000
    ids: list[str] = field(default_factory=list)
    runs: dict[int, Runs] = field(default_factory=dict)  # each back's own: an environment of Lambda has a memory
    on_queue: int = 0

    def accept(self, front: Workloads) -> None:
        """Ten entries in one request, of the front's own schema."""
        first = len(self.ids)
        more = {"note": "new"} if front is NEW else {}
        entries = [{"number": number, **more} for number in range(first, first + 10)]
        answer = receive_event(post(entries, workload="steps"), self.queue, front)
        accepted = msgspec.json.decode(answer["body"])["accepted"]
        assert (answer["statusCode"], len(accepted)) == (202, 10)
        self.ids += [each["id"] for each in accepted]
        self.on_queue += 10

    def process(self, back: Workloads) -> None:
        """A batch, as the mapping hands it over; if none is visible, time goes on."""
        batch = self.queue.receive(10, 180)
        if not batch:
            self.at_ms += STEP_MS
            return
        runs = self.runs.setdefault(id(back), Runs())
        policy = Policy(5, lambda: self.at_ms, span_s=3_600.0, runs=runs)
        failed = process(batch, self.queue, self.table, back, policy, lambda: 30.0)
        if self.random.random() >= LOST_ANSWERS:
            done = [delivery for delivery in batch if delivery not in failed]
            self.queue.delete(done)
            self.on_queue -= len(done)


@pytest.fixture
def on_moto() -> Iterator[Stack]:
    for engines in in_process():
        engine = engines()
        made = Stack(engine.queue, engine.table, engine.dead_letters, random.Random(SEED))

        def at_ms() -> float:
            return float(made.at_ms)  # noqa: B023  there is one engine

        with mock.patch.object(moto.sqs.models, "unix_time_millis", at_ms):
            yield made


class ShortQueue(ModelQueue):
    """The model's, told apart by a number: it looks at those that are visible, and not at all of ten thousand."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        super().__init__(clock_ms)
        self.waiting: list[tuple[int, int]] = []  # when, and which

    def send(self, messages: Sequence[Message]) -> list[NotSent | None]:
        before = len(self.rows)
        sent = super().send(messages)
        for place in range(before, len(self.rows)):
            heapq.heappush(self.waiting, (self.rows[place].visible_at, place))
        return sent

    def receive(self, maximum: int, visibility_timeout_s: float) -> list[Delivery]:
        taken: list[Delivery] = []
        while self.waiting and self.waiting[0][0] <= self.clock_ms() and len(taken) < maximum:
            visible_at, place = heapq.heappop(self.waiting)
            row = self.rows[place]
            if row.visible_at == visible_at:  # it was neither deleted nor put off since
                row.receive_count += 1
                self._hide(place, visibility_timeout_s)
                taken.append(Delivery(row.message, f"{place}.{row.receive_count}", row.receive_count))
        return taken

    def delete(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self.rows[int(delivery.receipt.partition(".")[0])].visible_at = -1

    def retry_later(self, delays: Sequence[tuple[Delivery, float]]) -> None:
        for delivery, delay_s in delays:
            self._hide(int(delivery.receipt.partition(".")[0]), delay_s)

    def _hide(self, place: int, seconds: float) -> None:
        self.rows[place].visible_at = self.clock_ms() + int(seconds * 1000)
        heapq.heappush(self.waiting, (self.rows[place].visible_at, place))


def on_model() -> Stack:
    """Ten thousand take seconds there; what SQS and DynamoDB do with one is the other's affair."""
    table = ModelTable()
    made = Stack(ShortQueue(lambda: made.at_ms), table, lambda: table.dead_letters, random.Random(SEED))
    return made


CHANGES = pytest.mark.parametrize(
    ("fronts", "backs"),
    [([OLD], [NEW]), ([NEW], [OLD]), ([OLD, NEW], [OLD, NEW])],
    ids=["old front, new back", "new front, old back", "both of both"],
)


def change(stack: Stack, messages: int, fronts: list[Workloads], backs: list[Workloads]) -> None:
    """All is accepted by these fronts; some of it meets these backs, for as long as a change of the stack may take, and
    the rest the new one."""
    while len(stack.ids) < messages:
        stack.accept(stack.random.choice(fronts))
        if stack.random.random() < MET_AT_ONCE:
            stack.process(stack.random.choice(backs))
    until = stack.at_ms + CHANGE_MS
    while stack.at_ms < until and stack.on_queue:
        stack.process(stack.random.choice(backs))
        stack.at_ms += 1_000
    stack.runs.clear()
    until = stack.at_ms + DAY_MS
    while stack.on_queue:
        stack.process(NEW)
        assert stack.at_ms < until, f"{stack.on_queue} are left"
    assert not stack.dead()
    for number, message_id in enumerate(stack.ids):
        record = stack.table.get(message_id)
        assert record is not None
        assert record.status == "processed"
        assert stack.table.item(f"counts/{number}") == {"times": 1}


@CHANGES
def test_what_is_in_flight_while_releases_change_is_processed_once(
    on_moto: Stack, fronts: list[Workloads], backs: list[Workloads]
) -> None:
    change(on_moto, 20, fronts, backs)


@pytest.fixture
def quiet() -> Iterator[None]:
    """What is told of each message that waits is not read here, and takes longer than the message."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("quiet")
@CHANGES
def test_of_ten_thousand_none_is_dead_and_none_lost(fronts: list[Workloads], backs: list[Workloads]) -> None:
    change(on_model(), 10_000, fronts, backs)


def test_a_message_that_no_release_understands_is_dead_all_the_same() -> None:
    """So that the others could have been."""
    stack = on_model()
    stack.accept(NEW)
    until = stack.at_ms + DAY_MS
    while stack.on_queue and stack.at_ms < until:
        stack.process(OLD)
    assert len(stack.dead() or ()) == 10
