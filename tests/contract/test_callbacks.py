"""A final record and the callback that tells of it are one step, on every engine: what enters the queue, when, once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from decoupled.core import callbacks, limits
from decoupled.core import dead_letters as dead
from decoupled.core.dead_letters import PURGED, Wanted
from decoupled.core.outcomes import Commit, Delivery, Reject, Stored
from decoupled.core.shown import view
from decoupled.core.workload import Message, Put, decoder
from decoupled.engines.protocols import DeadLetters
from decoupled.pipeline.settlement import Policy, settle
from decoupled.workloads.notifications import Notification, group
from tests.support import engines
from tests.support.contract import (
    FAILURE,
    NOW,
    commit_one,
    emitted,
    message,
    receive_one,
    received_ids,
    record_of,
)
from tests.support.dead_letters import POISON, let_sqs_move, letters_of
from tests.support.engines import Engine

URL = 'https://shop.example/hooks?of="a\\b"'


def asks(url: str = URL, body: str = '{"n": 1}', **changes: object) -> Message:
    """A message whose client wants to be told."""
    return message(body, callback=url, **changes)


def settle_one(engine: Engine, sent: Message, decision: Any) -> None:
    """As a processor does: commit, send what is to be sent, and let the queue forget the delivery."""
    engine.queue.send([sent])
    delivery = receive_one(engine)
    assert delivery.message == sent
    assert settle([(delivery, decision)], engine.queue, engine.table, Policy(5, now_ms=lambda: NOW)) == []
    engine.queue.delete([delivery])


def wait_for_all(engine: Engine, number: int) -> list[Delivery]:
    return [receive_one(engine) for _ in range(number)]


def told(engine: Engine) -> tuple[Message, Notification]:
    """The one callback that waits, and what it says."""
    waiting = receive_one(engine).message
    assert engine.queue.receive(10, 60) == []
    assert waiting.workload == callbacks.WORKLOAD
    return waiting, decoder(Notification).decode(waiting.body)


def data_of(notification: Notification) -> dict[str, Any]:
    return {name: msgspec.json.decode(raw) for name, raw in notification.data.items()}


def shown(engine: Engine, sent: Message) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(msgspec.json.encode(view(record_of(engine, sent))))
    return decoded


# --- what a client hears ----------------------------------------------------------


def test_what_is_processed_is_told_as_get_shows_it(engine: Engine) -> None:
    sent = asks()
    settle_one(engine, sent, Commit('{"total":"79.80","name":"Zoë \U0001f6d2 \\uffff"}'))
    waiting, notification = told(engine)
    assert notification.type == "orders.processed"
    assert data_of(notification) == shown(engine, sent)
    assert [msgspec.to_builtins(to) for to in notification.to] == [{"kind": "webhook", "url": URL}]
    assert notification.is_callback
    assert waiting.tells_of(sent.id)
    assert (waiting.caller, waiting.accepted_at, waiting.callback) == (sent.caller, NOW, "")


def test_what_a_rule_rejects_is_told_with_its_reason(engine: Engine) -> None:
    sent = asks()
    settle_one(engine, sent, Reject("no such product"))
    _, notification = told(engine)
    assert notification.type == "orders.rejected"
    assert data_of(notification) == shown(engine, sent)
    assert data_of(notification)["reason"] == "no such product"


def test_what_a_condition_rejects_is_told_so(engine: Engine) -> None:
    commit = Commit("{}", [Put("shop/things/1", {"a": 1}, if_absent="it is there")])
    settle_one(engine, message(), commit)
    sent = asks()
    settle_one(engine, sent, commit)
    _, notification = told(engine)
    assert notification.type == "orders.rejected"
    assert data_of(notification)["reason"] == "it is there"


def test_what_writes_items_and_emits_is_told_beside_that(engine: Engine) -> None:
    sent = asks()
    other = emitted(sent, 0)
    settle_one(engine, sent, Commit("{}", [Put("shop/things/1", {"a": 1})], [other]))
    waiting = {receive_one(engine).message.id for _ in range(2)}
    assert waiting == {other.id, sent.callback_id()}
    assert engine.table.item("shop/things/1") == {"a": 1}


def test_messages_of_one_batch_are_told_of_one_by_one(engine: Engine) -> None:
    sent = [asks(), message(), asks("https://other.example/")]
    engine.queue.send(sent)
    deliveries = wait_for_all(engine, len(sent))
    assert len(engine.table.commit([(one, Commit("{}")) for one in sent], NOW)) == 3
    engine.queue.delete(deliveries)
    for outcome in [engine.table.stored(one.id) for one in sent]:  # on AWS, whoever settles sends them
        engine.queue.send([] if outcome is None else outcome.emits)
    assert received_ids(engine) == sorted([sent[0].callback_id(), sent[2].callback_id()])


def test_a_message_without_a_callback_tells_nobody(engine: Engine) -> None:
    settle_one(engine, message(), Commit("{}"))
    settle_one(engine, message(), Reject("no"))
    assert engine.queue.receive(10, 60) == []


def test_a_message_that_is_tried_again_tells_nobody(engine: Engine) -> None:
    engine.queue.send([asks()])
    delivery = receive_one(engine)
    assert settle([(delivery, FAILURE)], engine.queue, engine.table, Policy(5, spread=lambda: 0.0)) == [delivery]
    assert engine.queue.receive(10, 60) == []


def test_a_dead_letter_tells_nobody(engine: Engine) -> None:
    buried(engine, asks())
    assert engine.queue.receive(10, 60) == []


def test_a_callback_shares_the_fate_of_what_is_for_the_same_host(engine: Engine) -> None:
    for url in ("https://Shop.Example:8443/a", f"https://{'a' * 300}.example/", "https://[2001:4860::1]/"):
        settle_one(engine, asks(url), Commit("{}"))
        waiting, notification = told(engine)
        expected = group(notification)
        assert waiting.group == (expected if len(expected) <= limits.MAX_GROUP_CHARS else waiting.group)
        assert 0 < len(waiting.group) <= limits.MAX_GROUP_CHARS


# --- once -----------------------------------------------------------------------


def test_a_second_delivery_tells_the_same_and_no_more(engine: Engine) -> None:
    sent = asks()
    first = commit_one(engine, sent, Commit('{"n":1}'))
    second = commit_one(engine, sent, Reject("too late"), NOW + 9)
    for outcome in (first, second):
        assert isinstance(outcome, Stored)
        engine.queue.send(outcome.emits)
    waiting = {delivery.message for delivery in engine.queue.receive(10, 60)}
    assert [one.id for one in waiting] == [sent.callback_id()]
    assert "processed" in waiting.pop().body


@pytest.mark.parametrize("decision", [Commit("{}"), Reject("no")], ids=["processed", "rejected"])
def test_a_processor_that_died_before_it_sent_the_callback_is_made_up_for(engine: Engine, decision: Any) -> None:
    sent = asks()
    engine.queue.send([sent])
    delivery = receive_one(engine)
    commit_one(engine, sent, decision)  # and dies here
    assert settle([(delivery, decision)], engine.queue, engine.table, Policy(5)) == []
    engine.queue.delete([delivery])
    waiting, _ = told(engine)
    assert waiting.tells_of(sent.id)


@pytest.fixture(params=["embedded", "moto"])
def buries(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """Both kinds, empty."""
    if request.param == "embedded":
        return engines.embedded(tmp_path)
    new: Callable[[], Engine] = request.getfixturevalue("new_moto_engine")
    return new()


@pytest.fixture
def letters(buries: Engine) -> DeadLetters:
    return letters_of(buries)


# --- large ----------------------------------------------------------------------


@pytest.mark.parametrize("small_numbers", [False, True])
@pytest.mark.parametrize("result_bytes", [100_000, 140_000, 200_000, 260_000])
def test_a_result_that_leaves_no_room_is_pointed_to(buries: Engine, result_bytes: int, small_numbers: bool) -> None:
    values = [1] * (result_bytes // 2) if small_numbers else "é" * (result_bytes // 2)
    sent = asks("https://shop.example/" + "h" * 1_900)
    settle_one(buries, sent, Commit(msgspec.json.encode({"values": values}).decode()))
    waiting, notification = told(buries)
    assert len(waiting.body.encode()) <= limits.MAX_ENTRY_BYTES
    if result_bytes == 100_000:
        assert data_of(notification) == shown(buries, sent)
    else:
        url = f"/orders/{sent.id}"
        expected = {"id": sent.id, "workload": "orders", "status": "processed", "status_url": url}
        assert data_of(notification) == expected
    assert notification.is_callback


# --- dead letters ---------------------------------------------------------------


def buried(engine: Engine, sent: Message) -> Message:
    engine.queue.send([sent])
    delivery = receive_one(engine)
    assert settle([(delivery, POISON)], engine.queue, engine.table, Policy(max_attempts=1)) == []
    engine.queue.delete([delivery])
    return sent


def test_a_redriven_message_is_told_of(buries: Engine, letters: DeadLetters) -> None:
    sent = buried(buries, asks(group="a"))
    letters.redrive(list(letters.find(Wanted())))
    delivery = receive_one(buries)
    assert delivery.message == sent
    settle([(delivery, Commit("{}"))], buries.queue, buries.table, Policy(5))
    buries.queue.delete([delivery])
    assert told(buries)[1].type == "orders.processed"


def test_a_callback_survives_an_export_and_an_import(buries: Engine, letters: DeadLetters) -> None:
    sent = buried(buries, message())
    (letter,) = letters.find(Wanted(), bodies=True)
    assert letter.callback == ""
    line = dead.encode(msgspec.structs.replace(letter, callback=URL))
    letters.purge([letter])
    letters.restore([dead.decode(line.encode())])
    (again,) = letters.find(Wanted(), bodies=True)
    assert again.callback == URL
    letters.redrive([again])
    assert receive_one(buries).message == msgspec.structs.replace(sent, callback=URL)


def test_a_file_of_an_earlier_version_has_no_callback() -> None:
    assert b"callback" in dead.encode(a_letter(callback=URL)).encode()
    old = json.loads(dead.encode(a_letter()))
    del old["callback"]
    assert dead.decode(json.dumps(old).encode()) == a_letter()


def a_letter(**changes: Any) -> dead.DeadLetter:
    letter = dead.DeadLetter(
        id="a",
        workload="orders",
        caller="anonymous",
        accepted_at=NOW,
        dead_at=NOW,
        attempts=1,
        buried_by="processor",
        error_type="KeyError",
        error="'sku'",
        body="{}",
    )
    return msgspec.structs.replace(letter, **changes)


def test_what_is_purged_is_told_so_and_told_again_what_follows(buries: Engine, letters: DeadLetters) -> None:
    sent = buried(buries, asks())
    (letter,) = letters.find(Wanted(), bodies=True)
    assert [outcome.done for outcome in letters.purge([letter])] == ["purged"]
    waiting, notification = told(buries)
    assert (notification.type, data_of(notification)["reason"]) == ("orders.rejected", PURGED)
    assert data_of(notification) | {"rejected_at": 0} == shown(buries, sent) | {"rejected_at": 0}
    assert list(letters.find(Wanted())) == []
    letters.restore([letter])
    letters.redrive([letter])
    delivery = receive_one(buries)
    settle([(delivery, Commit("{}"))], buries.queue, buries.table, Policy(5))
    buries.queue.delete([delivery])
    follows = receive_one(buries).message
    assert follows.tells_of(sent.id)
    assert follows.id != waiting.id


def test_a_purge_that_died_before_the_callback_was_sent_is_finished_by_the_next(
    moto_engine: engines.AwsEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Died

    sent = buried(moto_engine, asks())
    tool: Any = letters_of(moto_engine)
    with monkeypatch.context() as patch:
        patch.setattr(tool._queue, "send", die)
        with pytest.raises(Died):
            tool.purge(list(tool.find(Wanted())))
    tool._dead_letter_queue.release()
    assert record_of(moto_engine, sent).status == "rejected"
    again = letters_of(moto_engine)
    (left,) = again.find(Wanted())
    assert again.redrive([left])[0].done is None  # it is purged, and stays so
    assert [outcome.done for outcome in again.purge([left])] == ["purged"]
    assert told(moto_engine)[0].tells_of(sent.id)
    assert list(letters_of(moto_engine).find(Wanted())) == []


def test_what_sqs_moved_keeps_its_callback_and_is_told_of_when_it_is_purged(moto_engine: engines.AwsEngine) -> None:
    sent = asks()
    let_sqs_move(moto_engine, sent)
    letters = letters_of(moto_engine)
    (letter,) = letters.find(Wanted())
    assert letter.callback == URL
    assert [outcome.done for outcome in letters.purge([letter])] == ["purged"]
    assert told(moto_engine)[0].tells_of(sent.id)


def test_a_dead_letter_with_a_callback_fits_what_sqs_takes(moto_engine: engines.AwsEngine) -> None:
    sent = buried(moto_engine, asks())
    copies = moto_engine.dead_letters()
    assert copies is not None
    assert [copy.callback for copy in copies] == [URL]
    assert [copy.id for copy in copies] == [sent.id]


def test_what_is_due_much_later_keeps_its_callback(moto_engine: engines.AwsEngine) -> None:
    sent = asks(due_at=NOW + 10**12)
    assert moto_engine.queue.send([sent]) == [None]
    moto_engine.fire()
    assert receive_one(moto_engine).message.callback == URL
