"""The context of a trace stays with a message on every engine: through the queue, retries, its death and what a person
does about that, and on to what it emits and its callback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from decoupled.core import dead_letters as dead
from decoupled.core.dead_letters import Wanted
from decoupled.core.outcomes import Commit
from decoupled.core.workload import Message
from decoupled.pipeline.settlement import Policy, settle
from tests.support import engines
from tests.support.contract import NOW, message, receive_one
from tests.support.dead_letters import POISON, let_sqs_move, letters_of
from tests.support.engines import AwsEngine, Engine

PLAIN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CONTEXTS = [PLAIN, f"{PLAIN[:-2]}00", f"{PLAIN} shop=a1,t@other=b 2"]
BELOW = f"{PLAIN[:36]}b7ad6b7169203331-01 shop=a1"


@pytest.fixture(params=["embedded", "moto"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """Not MiniStack: of the messages of a batch, it drops system attributes, as moto does without our help."""
    if request.param == "embedded":
        return engines.embedded(tmp_path)
    new: Callable[[], Engine] = request.getfixturevalue("new_moto_engine")
    return new()


@pytest.mark.parametrize("trace", CONTEXTS)
def test_a_message_comes_out_with_the_context_it_went_in_with(engine: Engine, trace: str) -> None:
    sent, other = message(trace=trace), message()
    engine.queue.send([sent, other])
    received = {it.message.id: it.message for it in (receive_one(engine), receive_one(engine))}
    assert received == {sent.id: sent, other.id: other}


def test_a_redelivery_has_it_too(engine: Engine) -> None:
    sent = message(trace=CONTEXTS[2])
    engine.queue.send([sent])
    first = receive_one(engine)
    engine.queue.retry_later([(first, 0)])
    again = receive_one(engine)
    assert (again.receive_count, again.message) == (2, sent)


@pytest.mark.parametrize("trace", CONTEXTS[:2])
def test_a_dead_letter_keeps_it_through_export_import_and_redrive(engine: Engine, trace: str) -> None:
    letters = letters_of(engine)
    engine.queue.send([sent := message(trace=trace)])
    delivery = receive_one(engine)
    settle([(delivery, POISON)], engine.queue, engine.table, Policy(max_attempts=1))
    engine.queue.delete([delivery])
    (letter,) = letters.find(Wanted(), bodies=True)
    line = dead.encode(letter)
    letters.purge([letter])
    letters.restore([dead.decode(line.encode())])
    letters.redrive(list(letters.find(Wanted())))
    assert receive_one(engine).message.trace == sent.trace


def test_an_exported_context_that_is_none_is_left_out(engine: Engine) -> None:
    letters = letters_of(engine)
    engine.queue.send([message(trace=PLAIN)])
    settle([(receive_one(engine), POISON)], engine.queue, engine.table, Policy(max_attempts=1))
    (letter,) = letters.find(Wanted(), bodies=True)
    line = dead.encode(msgspec.structs.replace(letter, trace="00-nonsense\r\nx: y"))
    assert dead.decode(line.encode()).trace == ""


def test_what_follows_goes_on_below_the_span_that_decided(engine: Engine) -> None:
    sent = message(trace=PLAIN, callback="https://shop.example/hooks")
    emitted = Message(sent.emitted_id(0), "orders", "{}", sent.caller, sent.accepted_at, trace=BELOW)
    engine.queue.send([sent])
    delivery = receive_one(engine)
    decision = Commit("{}", emits=[emitted], trace=BELOW)
    assert settle([(delivery, decision)], engine.queue, engine.table, Policy(5, now_ms=lambda: NOW)) == []
    engine.queue.delete([delivery])
    following = {it.message.workload: it.message.trace for it in (receive_one(engine), receive_one(engine))}
    assert following == {"orders": BELOW, "notifications": BELOW}


def test_what_sqs_itself_moved_comes_back_with_it(new_moto_engine: Callable[[], AwsEngine]) -> None:
    engine = new_moto_engine()
    letters = letters_of(engine)
    sent = message(trace=PLAIN)
    let_sqs_move(engine, sent)
    letters.redrive(list(letters.find(Wanted())))
    assert receive_one(engine).message.trace == sent.trace
