"""Ordered workloads on SQS: what the FIFO queue keeps in order, and what is sent to it again on purpose. On both
emulators, which lock a group while one of its messages is in flight, and drop what they had within five minutes, as SQS
does."""

from __future__ import annotations

import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from decoupled.core.dead_letters import Wanted
from decoupled.core.outcomes import Commit, Delivery, Failure, NotSent, Reject, Stored
from decoupled.core.workload import Effects, Message, Put, Rejected, Unavailable, Workload, Write
from decoupled.engines.aws.dead_letter_queue import DeadLetterQueue
from decoupled.engines.aws.dead_letters import AwsDeadLetters
from decoupled.engines.aws.messages import SqsQueue
from decoupled.engines.aws.queues import SqsQueues, queues_of
from decoupled.engines.aws.table import DynamoTable
from decoupled.pipeline.processor import process
from decoupled.pipeline.settlement import Policy, settle
from tests.support import engines
from tests.support.contract import message, receive_one, wait_for
from tests.support.model_engine import ModelTable

GROUPS, EACH = 8, 12


@pytest.fixture(params=["moto", "ministack"])
def engine(request: pytest.FixtureRequest) -> Iterator[engines.AwsEngine]:
    """A standard queue and a table, on either emulator. Once a message is deleted, moto takes its duplicate; MiniStack,
    like SQS, does not."""
    moto = request.param == "moto"
    made = engines.in_process() if moto else engines.over_http(request.getfixturevalue("ministack_url"))
    for make in made:
        yield make()


@pytest.fixture
def fifo(engine: engines.AwsEngine) -> engines.OrderedQueues:
    """The FIFO queues beside it."""
    return engines.fifo_beside(engine)


def pair_of(engine: engines.AwsEngine, fifo: engines.OrderedQueues) -> SqsQueues:
    return SqsQueues(engine.queue, fifo=fifo.queue, ordered={"steps"})


def letters_of(engine: engines.AwsEngine, fifo: engines.OrderedQueues) -> AwsDeadLetters:
    look = DeadLetterQueue(engine.sqs, [engine.dead_letter_queue_url, fifo.dead_letter_queue_url], receive_wait_s=0)
    return AwsDeadLetters(engine.dynamodb, engine.table_name, pair_of(engine, fifo), look)


def step(group: str, number: int = 0) -> Message:
    return message(json.dumps({"group": group, "number": number}), workload="steps", group=group)


# --- order --------------------------------------------------------------------------


class Step(msgspec.Struct):
    group: str
    number: int


class Died(BaseException):
    """The function's process died here."""


class InOrder(ModelTable):
    """Notes which steps were applied, in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.applied: dict[str, list[int]] = defaultdict(list)

    def _commit_one(self, message: Message, decision: Commit | Reject, now_ms: int) -> Stored:
        outcome = super()._commit_one(message, decision, now_ms)
        if not outcome.duplicate:
            done = json.loads(message.body)
            self.applied[done["group"]].append(done["number"])
        return outcome


class NoWaiting(SqsQueue):
    """Time passes at once: whatever is put off may come again."""

    def retry_later(self, delays: Sequence[tuple[Delivery, float]]) -> None:
        super().retry_later([(delivery, 0) for delivery, _ in delays])


@pytest.mark.parametrize("seed", range(3))
def test_whatever_fails_the_messages_of_a_group_are_applied_in_their_order(
    engine: engines.AwsEngine, fifo: engines.OrderedQueues, seed: int
) -> None:
    rng, table = random.Random(seed), InOrder()
    waiting = NoWaiting(engine.sqs, fifo.queue_url, "")

    def shaky(entry: Step, _message: Message) -> Effects:
        match rng.random():
            case chance if chance < 0.04:
                raise Died
            case chance if chance < 0.1:
                raise Unavailable("the backend is down")
            case chance if chance < 0.3:
                raise KeyError("a bug that comes and goes")
            case chance if chance < 0.35:
                raise Rejected("no")
        return Effects({"number": entry.number})

    workloads = {"steps": Workload("steps", Step, shaky, ordered=True)}
    sent = [step(f"group-{group}", number) for number in range(EACH) for group in range(GROUPS)]
    assert fifo.queue.send(sent) == [None] * len(sent)
    for _ in range(2_000):
        if not (batch := fifo.queue.receive(10, 60)):
            break
        try:
            back = process(batch, waiting, table, workloads, Policy(2, spread=lambda: 0.0), lambda: 30.0)
        except Died:
            waiting.retry_later([(delivery, 0) for delivery in batch])  # as when the visibility timeout has ended
            continue
        receipts = {delivery.receipt for delivery in back}
        fifo.queue.delete([delivery for delivery in batch if delivery.receipt not in receipts])
    dead = {json.loads(record.body or "")["group"] for record in table.dead_letters.values()}
    assert dead, "a seed in which nothing is dead tells less"
    for group in {f"group-{number}" for number in range(GROUPS)}:
        assert table.applied[group] == sorted(table.applied[group])
    assert sum(map(len, table.applied.values())) + len(table.dead_letters) == len(sent)


def test_a_message_that_waits_keeps_its_group_waiting_and_comes_first(
    engine: engines.AwsEngine, fifo: engines.OrderedQueues
) -> None:
    first, behind, other = step("a", 1), step("a", 2), step("b")
    fifo.queue.send([first, behind])
    held = fifo.queue.receive(10, 60)
    assert [delivery.message for delivery in held] == [first, behind]
    fifo.queue.send([other])
    began = time.monotonic()
    fifo.queue.retry_later([(held[0], 2), (held[1], 0)])  # what is behind may come sooner, and does not
    assert [delivery.message for delivery in fifo.queue.receive(10, 60)] == [other]
    again = wait_for(lambda: fifo.queue.receive(10, 60), until=bool)
    assert [delivery.message for delivery in again] == [first, behind]
    assert time.monotonic() - began >= 1


# --- which queue -----------------------------------------------------------------------


def test_each_message_goes_to_the_queue_of_its_workload_and_is_answered_at_its_place(
    engine: engines.AwsEngine, fifo: engines.OrderedQueues
) -> None:
    sent = [step("a"), message(), step("b")]
    assert pair_of(engine, fifo).send(sent) == [None] * 3
    assert receive_one(engine).message == sent[1]
    assert [delivery.message for delivery in fifo.queue.receive(10, 60)] == [sent[0], sent[2]]
    refusing = SqsQueues(Refusing(None, "q", ""), fifo=Refusing(None, "q.fifo", ""), ordered={"steps"})
    assert refusing.send(sent) == [NotSent(one.id) for one in sent]


class Refusing(SqsQueue):
    """Takes nothing, and says what."""

    def send(self, messages: Sequence[Message]) -> list[NotSent | None]:
        return [NotSent(message.id) for message in messages]


def test_a_large_send_keeps_its_order(engine: engines.AwsEngine, fifo: engines.OrderedQueues) -> None:
    sent = [step("a", number) for number in range(35)]
    assert pair_of(engine, fifo).send(sent) == [None] * 35
    received: list[Message] = []
    while batch := fifo.queue.receive(10, 60):
        received += [delivery.message for delivery in batch]
        fifo.queue.delete(batch)
    assert received == sent


def test_a_function_uses_the_fifo_queue_for_what_is_ordered_and_refuses_a_stack_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    plain = Workload("orders", Step, lambda step, message: Effects({}))
    steps = replace(plain, name="steps", ordered=True)
    environ = {"QUEUE_URL": "http://q", "ORDERED_QUEUE_URL": "", "ORDERED_WORKLOADS": ""}
    with_fifo = {**environ, "ORDERED_QUEUE_URL": "http://q.fifo", "ORDERED_WORKLOADS": "steps"}
    assert isinstance(queues_of(environ, {"orders": plain}), SqsQueue)
    assert isinstance(queues_of(with_fifo, {"orders": plain, "steps": steps}), SqsQueues)
    with pytest.raises(ValueError, match="deploy with OrderedWorkloads=steps"):
        queues_of(environ, {"orders": plain, "steps": steps})


# --- sent again ----------------------------------------------------------------------


def test_a_message_that_is_sent_twice_within_five_minutes_is_delivered_once(
    engine: engines.AwsEngine, fifo: engines.OrderedQueues
) -> None:
    """A resend under the same key has the same id; so has what a record emits, after a crash."""
    sent = step("a")
    assert [fifo.queue.send([sent]) for _ in range(2)] == [[None]] * 2
    assert [delivery.message for delivery in fifo.queue.receive(10, 60)] == [sent]


def bury(engine: engines.AwsEngine, fifo: engines.OrderedQueues, sent: Message) -> None:
    """It is received, fails, and is given up at once."""
    delivery = wait_for(lambda: fifo.queue.receive(1, 60), until=bool)[0]
    assert delivery.message == sent
    poison = Failure("failed", "KeyError", "no such product")
    assert settle([(delivery, poison)], pair_of(engine, fifo), engine.table, Policy(max_attempts=1)) == []
    fifo.queue.delete([delivery])


def test_a_redrive_is_not_taken_for_a_duplicate_however_soon_it_comes(
    engine: engines.AwsEngine, fifo: engines.OrderedQueues
) -> None:
    sent = step("a")
    fifo.queue.send([sent])
    for _ in range(3):  # dies, is redriven, and dies again
        bury(engine, fifo, sent)
        time.sleep(0.002)  # a second death has another time, to the millisecond
        letters = letters_of(engine, fifo)
        assert [outcome.done for outcome in letters.redrive(list(letters.find(Wanted())))] == ["redriven"]
        letters.close()
    assert [delivery.message for delivery in fifo.queue.receive(10, 60)] == [sent]


@pytest.mark.parametrize("writes", [[], [Put("steps/last/a", {})]])
def test_a_dead_message_has_no_effect_until_it_is_redriven(
    engine: engines.AwsEngine, fifo: engines.OrderedQueues, writes: list[Write]
) -> None:
    """From a late processor, or a client that sends again after five minutes: those behind it have gone on."""
    table = DynamoTable(engine.dynamodb, engine.table_name, ordered={"steps"})
    sent, commit = step("a"), Commit("{}", writes)
    fifo.queue.send([sent])
    bury(engine, fifo, sent)
    (outcome,) = table.commit([(sent, commit)], 0)
    assert isinstance(outcome, Stored)
    assert (outcome.status, outcome.duplicate) == ("dead", True)
    letters = letters_of(engine, fifo)
    letters.redrive(list(letters.find(Wanted())))
    letters.close()
    assert table.commit([(sent, commit)], 0) == [Stored("processed", emits=[])]


def test_a_redrive_that_died_halfway_and_is_repeated_sends_once(
    engine: engines.AwsEngine, fifo: engines.OrderedQueues, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = step("a")
    fifo.queue.send([sent])
    bury(engine, fifo, sent)

    def forget(letters: Any) -> Callable[..., bool]:
        change: Callable[..., bool] = letters._records.change

        def dies(*arguments: Any) -> bool:
            if arguments[1].startswith("REMOVE"):
                raise Died
            return change(*arguments)

        return dies

    letters = letters_of(engine, fifo)
    chosen = list(letters.find(Wanted()))
    with monkeypatch.context() as patch:
        patch.setattr(letters._records, "change", forget(letters))
        with pytest.raises(Died):
            letters.redrive(chosen)
    assert [outcome.done for outcome in letters.redrive(chosen)] == ["redriven"]
    letters.close()
    assert [delivery.message for delivery in fifo.queue.receive(10, 60)] == [sent]


def test_what_sqs_gave_up_on_the_fifo_queue_is_found_and_redriven(
    engine: engines.AwsEngine, fifo: engines.OrderedQueues
) -> None:
    moved = [step("a", number) for number in range(3)]
    SqsQueue(engine.sqs, fifo.dead_letter_queue_url, "").send(moved)  # as the redrive policy does
    letters = letters_of(engine, fifo)
    found = list(letters.find(Wanted()))
    assert [(letter.id, letter.group, letter.recorded) for letter in found] == [(one.id, "a", False) for one in moved]
    assert [outcome.done for outcome in letters.redrive(found)] == ["redriven"] * 3
    letters.close()
    again = letters_of(engine, fifo)
    assert list(again.find(Wanted())) == []
    again.close()
    received = {delivery.message.id for delivery in fifo.queue.receive(10, 60)}
    assert received == {one.id for one in moved}


def test_a_look_says_that_a_group_has_more_dead_letters_than_it_can_see(
    engine: engines.AwsEngine, fifo: engines.OrderedQueues
) -> None:
    SqsQueue(engine.sqs, fifo.dead_letter_queue_url, "").send([step("a", number) for number in range(12)])
    letters = letters_of(engine, fifo)
    assert len(list(letters.find(Wanted()))) == 10
    assert any("more than one look can take" in note for note in letters.notes())
    letters.close()
