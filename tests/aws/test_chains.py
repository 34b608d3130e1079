"""Messages that emit messages that emit messages: on AWS a chain that does not end costs money, and ends as a dead
letter that says why."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from decoupled.core import stack_limits
from decoupled.core.effects import encode
from decoupled.core.workload import Effects, EffectsError, Emit, Message, Workload
from tests.support import events, template
from tests.support.contract import message
from tests.support.engines import AwsEngine


class Page(msgspec.Struct):
    number: int


def process(page: Page, _message: Message) -> Effects:
    return Effects({"page": page.number}, emits=[Emit("pages", Page(page.number + 1))])


PAGES = {"pages": Workload("pages", Page, process)}


def run(engine: AwsEngine, batches: int) -> list[int]:
    """Processes one message after the other; how many hops each had behind it."""
    hops = []
    for _ in range(batches):
        for delivery in engine.queue.receive(10, 60):
            hops.append(delivery.message.hops)
            record = events.sqs_record(delivery.message, delivery.receive_count, delivery.receipt)
            events.process_event(events.sqs_event([record]), engine.queue, engine.table, PAGES, 1, lambda: 30.0)
            engine.queue.delete([delivery])
    return hops


def test_a_chain_that_does_not_end_ends_as_a_dead_letter_that_says_why(
    moto_engine: AwsEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack_limits, "MAX_HOPS", 20)  # more than the 16 after which Lambda itself would stop it
    moto_engine.queue.send([message(workload="pages", body='{"number":1}')])
    assert run(moto_engine, 30) == list(range(21))
    (letter,) = moto_engine.sqs.receive_message(
        QueueUrl=moto_engine.dead_letter_queue_url, MessageAttributeNames=["All"]
    )["Messages"]
    assert letter["Body"] == '{"number":21}'
    assert "emits on and on: 20 messages" in letter["MessageAttributes"]["error"]["StringValue"]
    assert "hops" not in letter["MessageAttributes"]  # a person who redrives it lets it go on


def emitted(hops: int, delay_s: float | None) -> Any:
    (sent,) = encode(Effects({}, emits=[Emit("pages", Page(1), delay_s=delay_s or 0)]), message(hops=hops), PAGES).emits
    return sent.hops


def test_what_waits_for_an_hour_begins_anew_and_may_come_for_ever() -> None:
    most = stack_limits.MAX_HOPS
    assert emitted(most, stack_limits.HOPS_FORGOTTEN_S) == 0
    assert [emitted(0, None), emitted(most - 1, None), emitted(7, 60)] == [1, most, 8]
    for delay_s in (None, stack_limits.HOPS_FORGOTTEN_S - 1):
        with pytest.raises(EffectsError, match="on and on"):
            emitted(most, delay_s)


def test_a_message_of_before_or_of_a_stranger_has_no_hops_behind_it(moto_engine: AwsEngine) -> None:
    moto_engine.queue.send([message(), message(hops=3)])
    moto_engine.sqs.send_message(
        QueueUrl=moto_engine.queue_url,
        MessageBody="{}",
        MessageAttributes={"hops": {"DataType": "String", "StringValue": "many"}},
    )
    assert sorted(it.message.hops for it in moto_engine.queue.receive(10, 60)) == [0, 0, 3]


def test_lambda_itself_does_not_stop_chains_of_sixteen() -> None:
    assert template.properties("Processor")["RecursiveLoop"] == "Allow"
    assert not [name for name in ("Receiver", "Status") if "RecursiveLoop" in template.properties(name)]
