"""Several queues of a stack: which one a message is sent to, and which one it came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import Struct

from decoupled.core.dead_letters import Wanted
from decoupled.core.outcomes import Delivery, NotSent
from decoupled.core.times import now_ms
from decoupled.core.workload import Effects, Message, Workload
from decoupled.engines.aws.dead_letters import AwsDeadLetters
from decoupled.engines.aws.queues import SqsQueues, queues, queues_of
from decoupled.engines.aws.schedules import Schedules
from decoupled.engines.aws.sqs_format import SqsDelivery
from decoupled.engines.aws.stack import dead_letter_urls, own_queue_urls, queue_urls
from decoupled.engines.aws.stats import AwsStats
from tests.support import engines
from tests.support.contract import bury, dead_record, message
from tests.support.engines import AwsEngine, ReceivingSqsQueue


@pytest.fixture
def own(moto_engine: AwsEngine) -> ReceivingSqsQueue:
    """The queue of the workload `large_pallets`."""
    return queue_beside(moto_engine, "own")


def queue_beside(engine: AwsEngine, name: str) -> ReceivingSqsQueue:
    url = engine.sqs.create_queue(QueueName=f"{name}-{engine.queue.name}")["QueueUrl"]
    schedules = Schedules(lambda: engine.scheduler, engine.schedule_group, url, engines.ROLE_ARN, engines.QUEUE_ARN)
    return ReceivingSqsQueue(engine.sqs, url, engine.dead_letter_queue_url, schedules)


def received(queue: ReceivingSqsQueue) -> list[SqsDelivery]:
    """As the event source mapping hands them over, with the queue that they came from."""
    return [SqsDelivery(it.message, it.receipt, it.receive_count, queue=queue.name) for it in queue.receive(10, 60)]


def pallet(**others: Any) -> Message:
    return message(workload="large_pallets", **others)


def test_each_message_goes_to_its_workloads_queue_and_what_has_none_to_the_shared_one(
    moto_engine: AwsEngine, own: ReceivingSqsQueue
) -> None:
    both = SqsQueues(moto_engine.queue, {"largepallets": own})
    sent = [pallet(), message(), pallet()]
    assert both.send(sent) == [None] * 3
    assert [it.message for it in received(own)] == [sent[0], sent[2]]
    assert [it.message for it in received(moto_engine.queue)] == [sent[1]]


def test_what_is_due_later_is_scheduled_for_that_queue(moto_engine: AwsEngine, own: ReceivingSqsQueue) -> None:
    both = SqsQueues(moto_engine.queue, {"largepallets": own})
    sent = pallet(due_at=now_ms() + 86_400_000)
    assert both.send([sent]) == [None]
    moto_engine.fire()
    assert [it.message.id for it in received(own)] == [sent.id]


def test_what_an_older_version_sent_to_the_shared_queue_goes_back_to_that(
    moto_engine: AwsEngine, own: ReceivingSqsQueue
) -> None:
    both = SqsQueues(moto_engine.queue, {"largepallets": own})
    moto_engine.queue.send([pallet(), pallet()])
    first, second = received(moto_engine.queue)
    both.retry_later([(first, 0.0)])
    assert received(moto_engine.queue)[0].message == first.message  # its backoff was set
    now = now_ms()
    assert both.defer([(second, now)], now) == [second]
    assert received(moto_engine.queue)[0].message == second.message


def test_a_delivery_that_does_not_tell_is_of_its_workloads_queue() -> None:
    class Noting:
        def __init__(self, name: str) -> None:
            self.name = name
            self.told: list[Delivery] = []

        def retry_later(self, delays: Sequence[tuple[Delivery, float]]) -> None:
            self.told += [delivery for delivery, _ in delays]

        def send(self, messages: Sequence[Message]) -> list[NotSent | None]:
            return [None for _ in messages]

    shared: Any = Noting("shared")
    own: Any = Noting("own")
    delivery = Delivery(pallet(), "a receipt", 1)
    SqsQueues(shared, {"largepallets": own}).retry_later([(delivery, 1.0)])
    assert (shared.told, own.told) == ([], [delivery])


def test_what_comes_from_a_queue_that_a_later_release_made_goes_back_to_that(
    moto_engine: AwsEngine, own: ReceivingSqsQueue
) -> None:
    later = queues(moto_engine.sqs, moto_engine.queue_url, moto_engine.dead_letter_queue_url, {}, "", ())
    own.send([pallet()])
    (delivery,) = received(own)
    later.retry_later([(delivery, 0.0)])
    assert [it.message for it in received(own)] == [delivery.message]


def test_a_function_finds_them_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    environ = {"QUEUE_URL": "https://sqs.test/1/shop-Queue-1", "QUEUEorders": "shop-OwnQueueorders-1", "QUEUE0": ""}
    found = queues_of(environ, {"orders": Workload("orders", Struct, lambda order, message: Effects({}))})
    assert isinstance(found, SqsQueues)
    assert found._queue(message(workload="orders"))._url == "https://sqs.test/1/shop-OwnQueueorders-1"
    assert found._queue(message(workload="else"))._url == environ["QUEUE_URL"]


def test_a_dead_letter_is_redriven_onto_its_workloads_queue_and_all_queues_are_counted(
    moto_engine: AwsEngine, own: ReceivingSqsQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = {"sqs": moto_engine.sqs, "dynamodb": moto_engine.dynamodb}
    monkeypatch.setattr("decoupled.engines.aws.dead_letters.tool_client", clients.__getitem__)
    found = {
        "QueueUrl": moto_engine.queue_url,
        "OwnQueueUrllargepallets": own._url,
        "DeadLetterQueueUrl": moto_engine.dead_letter_queue_url,
        "TableName": moto_engine.table_name,
    }
    dead = pallet()
    bury(moto_engine, dead_record(dead))
    letters = AwsDeadLetters.of_outputs(found)
    (outcome,) = letters.redrive(list(letters.find(Wanted())))
    letters.close()
    assert outcome.done == "redriven"
    moto_engine.queue.send([message(), message()])
    assert AwsStats("shop", found, lambda name: clients.get(name, _Deaf()))._depth(queue_urls(found))[0] == 3
    assert [it.message.id for it in received(own)] == [dead.id]


class _Deaf:
    """CloudWatch, which is not asked."""


def test_the_queues_of_a_stack_are_those_of_its_outputs() -> None:
    found = {"QueueUrl": "q", "OwnQueueUrlorders": "o", "DeadLetterQueueUrl": "d", "OrderedQueueUrl": "f"}
    assert queue_urls(found) == ["q", "o", "f"]
    assert own_queue_urls(found) == {"orders": "o"}
    assert dead_letter_urls({**found, "OrderedDeadLetterQueueUrl": "df"}) == ["d", "df"]
