"""Messages that wait for about as long as SQS can hide one: its twelve hours count from the receipt, and it refuses to
exceed them. moto's count from the sending, which is the same for what is received at once."""

from __future__ import annotations

from typing import Any

import pytest
from moto.core.utils import unix_time_millis
from moto.sqs.models import sqs_backends

from decoupled.core import stack_limits
from decoupled.core.outcomes import Delivery
from tests.support.contract import message
from tests.support.engines import AwsEngine

HOUR = 3_600.0


def kept(engine: AwsEngine) -> list[Any]:
    """What moto has on the queue."""
    queues = sqs_backends["123456789012"]["us-east-1"].queues
    found: list[Any] = queues[engine.queue_url.rpartition("/")[2]]._messages
    return found


def received(engine: AwsEngine, count: int, ago_s: float = 0) -> list[Delivery]:
    """Messages that were received so long ago."""
    engine.queue.send([message() for _ in range(count)])
    deliveries = engine.queue.receive(count, 180)
    for one in kept(engine):
        one.sent_timestamp -= ago_s * 1000
    return deliveries


def hidden_s(engine: AwsEngine) -> list[int]:
    """For how long from now on each is hidden, to the next ten seconds."""
    return [round((one.visible_at - unix_time_millis()) / 10_000) * 10 for one in kept(engine)]


@pytest.mark.parametrize(
    ("delay_s", "waits_s"),
    [(11.9 * HOUR, 42_840), (12 * HOUR - 60, 43_140), (12 * HOUR, 43_140), (72 * HOUR, 43_140)],
)
def test_a_message_that_is_to_wait_for_half_a_day_does(moto_engine: AwsEngine, delay_s: float, waits_s: int) -> None:
    moto_engine.queue.retry_later([(delivery, delay_s) for delivery in received(moto_engine, 1)])
    assert hidden_s(moto_engine) == [waits_s]


@pytest.mark.parametrize("ago_s", [90, 900, 5_600])
def test_one_that_was_received_a_while_ago_waits_as_long_as_sqs_surely_takes(
    moto_engine: AwsEngine, ago_s: float
) -> None:
    one, other = received(moto_engine, 2, ago_s)
    moto_engine.queue.retry_later([(one, 12 * HOUR), (other, 30)])
    assert sorted(hidden_s(moto_engine)) == [30, stack_limits.SURELY_HIDDEN_S]
