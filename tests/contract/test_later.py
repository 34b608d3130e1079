"""What every engine promises of messages that are due later: not before their time, whether a client asks for that, a
message that emits them, or a workload that says "not yet"; and never lost meanwhile. On each engine."""

from __future__ import annotations

from decoupled.core import limits
from decoupled.core.outcomes import Commit, Stored
from decoupled.core.times import now_ms
from tests.support.contract import NOW, commit_one, emitted, message, receive_one, received_ids
from tests.support.engines import AwsEngine, Engine

SOON_MS = 1_500
HOURS_MS = 20 * 3_600_000  # longer than SQS can delay or hide a message


def due(engine: Engine) -> None:
    """The time of what is due later than SQS can delay comes."""
    if isinstance(engine, AwsEngine):
        engine.fire()
    else:
        engine.queue.database.execute("UPDATE messages SET visible_at = 0 WHERE due_at > 0")  # type: ignore[attr-defined]


def test_a_message_is_not_handed_out_before_its_time(engine: Engine) -> None:
    due_at = now_ms() + SOON_MS
    later, now = message(due_at=due_at), message()
    assert engine.queue.send([later, now]) == [None, None]
    assert received_ids(engine) == [now.id]
    delivery = receive_one(engine)
    assert delivery.message == message(id=later.id)
    assert delivery.receive_count == 1
    assert now_ms() >= due_at - 500  # SQS counts in whole seconds of its own


def test_a_message_that_was_due_before_it_is_sent_is_handed_out_at_once(engine: Engine) -> None:
    late = message(due_at=now_ms() - HOURS_MS)
    assert engine.queue.send([late]) == [None]
    assert receive_one(engine).message.id == late.id


def test_a_message_that_is_due_in_hours_is_on_no_queue_until_then_and_arrives_whole(engine: Engine) -> None:
    body = '{"text": "Zo\u00eb <aws.scheduler.scheduled-time> \\"quoted\\" \\\\ <b>"}'
    later = message(body, due_at=now_ms() + HOURS_MS)
    for sent in (later, message(id=later.id, due_at=now_ms() + HOURS_MS)):  # under one key, say: the first one counts
        assert engine.queue.send([sent]) == [None]
    assert engine.queue.receive(10, 60) == []
    due(engine)
    (delivery,) = [receive_one(engine)]
    assert delivery.message.id == later.id
    assert delivery.message.body.replace(r"\u003c", "<") == body
    assert (delivery.message.caller, delivery.message.accepted_at) == (later.caller, later.accepted_at)
    assert engine.queue.receive(10, 60) == []


def test_the_largest_message_may_be_due_in_hours(engine: Engine) -> None:
    body = '"' * limits.MAX_LATER_ENTRY_BYTES  # each is two bytes in a schedule
    later = message(body, due_at=now_ms() + HOURS_MS, caller="c" * 1_000)
    assert engine.queue.send([later]) == [None]
    due(engine)
    assert receive_one(engine).message.body == body


def test_messages_of_one_send_may_be_due_at_any_time(engine: Engine) -> None:
    sent = [message(due_at=now_ms() + HOURS_MS if place % 3 else None) for place in range(25)]
    assert engine.queue.send(sent) == [None] * 25
    now = sorted(one.id for one in sent if one.due_at is None)
    assert received_ids(engine) == now
    due(engine)
    assert set(received_ids(engine)) >= {one.id for one in sent} - set(now)


def test_what_is_put_off_comes_back_at_its_time_and_is_counted(engine: Engine) -> None:
    engine.queue.send([message(), message()])
    waits, other = engine.queue.receive(2, 60)
    now = now_ms()
    given_back = engine.queue.defer([(waits, now + SOON_MS)], now)
    assert given_back == [waits]
    assert engine.queue.receive(2, 60) == []
    again = receive_one(engine)
    assert (again.message, again.receive_count) == (waits.message, 2)
    assert other.message != again.message


def test_what_is_put_off_for_hours_comes_back_then(engine: Engine) -> None:
    engine.queue.send([message()])
    delivery, now = receive_one(engine, 1), now_ms()
    given_back = engine.queue.defer([(delivery, now + HOURS_MS)], now)
    engine.queue.delete([] if given_back else [delivery])
    assert engine.queue.receive(2, 60) == []
    due(engine)
    assert receive_one(engine).message == delivery.message


def test_a_lapsed_receipt_puts_nothing_off(engine: Engine) -> None:
    engine.queue.send([message()])
    lapsed, now = receive_one(engine), now_ms()
    engine.queue.retry_later([(lapsed, 0)])
    current = receive_one(engine)
    engine.queue.delete([current])
    engine.queue.defer([(lapsed, now)], now)
    assert engine.queue.receive(1, 60) == []


def test_what_is_emitted_later_keeps_its_time_at_every_redelivery(engine: Engine) -> None:
    sent, at = message(), NOW + HOURS_MS
    later = message(id=emitted(sent, 0).id, due_at=at)
    decision = Commit("{}", emits=[later, emitted(sent, 1)])
    commit_one(engine, sent, decision)
    again = commit_one(engine, sent, decision)
    assert isinstance(again, Stored)
    assert again.duplicate
    if engine.name == "embedded":  # sent in the transaction of the record
        assert received_ids(engine) == [emitted(sent, 1).id]
        due(engine)
        assert received_ids(engine) == [later.id]
    else:
        assert [emit.due_at for emit in again.emits] == [at, None]
