"""What can be found of a stack, and what is refused, with why; and the story that a record tells."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from decoupled.core import limits
from decoupled.core.identifiers import keyed_id
from decoupled.core.outcomes import Commit, Delivery, Failure, Record, Reject
from decoupled.core.search import Sought
from decoupled.core.workload import Message
from decoupled.engines.aws.search import AwsSearch
from decoupled.engines.protocols import Table
from decoupled.pipeline.settlement import Policy, settle
from tests.support.engines import AwsEngine

NOW = 1_780_000_000_000
WORKLOADS = ("orders", "notifications")
_numbers = itertools.count()


@pytest.fixture
def search(moto_engine: AwsEngine) -> AwsSearch:
    return AwsSearch(moto_engine.dynamodb, moto_engine.table_name, WORKLOADS)


def message(workload: str = "orders", caller: str = "ana", group: str = "", message_id: str = "") -> Message:
    number = next(_numbers)
    return Message(message_id or f"m-{number}", workload, '{"n":1}', caller, NOW + number * 1000, group)


def process(table: Table, sent: Message, decision: Commit | Reject | None = None) -> Message:
    table.commit([(sent, decision or Commit('{"total":"79.80"}'))], sent.accepted_at + 500)
    return sent


def kill(table: Table, sent: Message, error: str = "no such product", error_type: str = "KeyError") -> Message:
    """Make a dead letter of it."""
    died_at = sent.accepted_at + 60_000
    dead = Record(
        sent.id,
        sent.workload,
        "dead",
        sent.accepted_at,
        sent.caller,
        finished_at=died_at,
        attempts=5,
        error_type=error_type,
        error=error,
        first_failed_at=sent.accepted_at + 1_000,
        last_failed_at=died_at,
        traceback="Traceback: line 7",
        body=sent.body,
    )
    assert table.bury(Delivery(sent, "a receipt", 5), dead)
    return sent


def ids(search: AwsSearch, **sought: object) -> list[str]:
    return [row.id for row in search.find(Sought(**sought)).rows]  # type: ignore[arg-type]


# --- by id and by key ---------------------------------------------------------------


def test_a_message_is_found_by_its_id_with_or_without_its_tail(moto_engine: AwsEngine, search: AwsSearch) -> None:
    sent = process(moto_engine.table, message())
    assert ids(search, id=sent.id) == ids(search, id=f"{sent.id}.kN3fWcuT2h9rQ_w1XzB") == [sent.id]
    assert ids(search, id=sent.id, status="dead") == []
    assert ids(search, id=sent.id, caller="bob") == []


def test_what_has_no_record_is_said_to_wait_perhaps(search: AwsSearch) -> None:
    found = search.find(Sought(id="01a21460b1680002467e305b70eca7262.kN3fWcuT2h9rQ_w1XzB"))
    assert found.rows == []
    assert "waits on the queue" in found.note
    assert "2027-" in found.note or "2026-" in found.note  # the time is in the id
    assert search.story("01a21460b1680002467e305b70eca7262") is None


def test_an_item_is_no_message(moto_engine: AwsEngine, search: AwsSearch) -> None:
    moto_engine.dynamodb.put_item(
        TableName=moto_engine.table_name, Item={"pk": {"S": "shop/things/1"}, "status": {"S": "sold"}}
    )
    assert ids(search, id="shop/things/1") == []
    assert search.story("shop/things/1") is None


def test_an_idempotency_key_is_found_in_every_workload_of_the_stack(moto_engine: AwsEngine, search: AwsSearch) -> None:
    for workload in WORKLOADS:
        key_id = keyed_id(workload, "ana", "cart-8417")
        process(moto_engine.table, message(workload, message_id=key_id))
    assert len(ids(search, key="cart-8417", caller="ana")) == 2
    assert len(ids(search, key="cart-8417", caller="ana", workload="orders")) == 1
    assert ids(search, key="cart-8417", caller="bob") == []


def test_the_key_is_derived_as_the_receiver_derives_it(moto_engine: AwsEngine, search: AwsSearch) -> None:
    from decoupled.pipeline.call import Call
    from decoupled.pipeline.loading import load
    from decoupled.pipeline.receiver import admit
    from tests.support.honest import ORDER

    headers = {"content-type": "application/json", "idempotency-key": '"cart-8417"'}
    call = Call(["orders"], "", headers, ORDER, "ana")
    (sent,) = admit(call, load(["orders"]), NOW).messages
    process(moto_engine.table, sent)
    assert ids(search, key="cart-8417", caller="ana") == [sent.id]


def test_a_key_names_each_entry_of_an_array_as_far_as_they_have_records(
    moto_engine: AwsEngine, search: AwsSearch
) -> None:
    sent = [message(message_id=keyed_id("orders", "ana", "cart-8417", index)) for index in range(4)]
    for index in (0, 1, 3):
        process(moto_engine.table, sent[index])
    assert ids(search, key="cart-8417", caller="ana") == [sent[0].id, sent[1].id]


def test_a_key_needs_its_caller_where_callers_say_who_they_are(moto_engine: AwsEngine) -> None:
    search = AwsSearch(moto_engine.dynamodb, moto_engine.table_name, WORKLOADS, open_to_all=False)
    with pytest.raises(ValueError, match="name the caller"):
        search.find(Sought(key="cart-8417"))


# --- dead ones ----------------------------------------------------------------------


def test_dead_ones_are_found_by_everything(moto_engine: AwsEngine, search: AwsSearch) -> None:
    table = moto_engine.table
    first = kill(table, message(caller="ana", group="g-1"))
    second = kill(table, message(caller="bob", group="g-2"), "the disk is full", "OSError")
    third = kill(table, message("notifications", caller="ana"), "no such host")
    process(table, message())
    assert ids(search, status="dead") == [third.id, second.id, first.id]
    assert ids(search, status="dead", caller="ana") == [third.id, first.id]
    assert ids(search, status="dead", workload="notifications") == [third.id]
    assert ids(search, error="oserror") == ids(search, error="DISK") == [second.id]
    assert ids(search, status="dead", group="g-1") == [first.id]
    assert ids(search, status="dead", accepted_after=second.accepted_at) == [third.id, second.id]
    assert ids(search, status="dead", accepted_before=second.accepted_at) == [second.id, first.id]


def test_a_list_goes_on_where_the_last_one_ended(moto_engine: AwsEngine, search: AwsSearch) -> None:
    sent = [kill(moto_engine.table, message()).id for _ in range(7)]
    listed, cursor = list[str](), None
    for _ in range(10):
        found = search.find(Sought(status="dead", limit=3, cursor=cursor))
        assert len(found.rows) <= 3
        listed += [row.id for row in found.rows]
        if (cursor := found.cursor) is None:
            break
    assert listed == sent[::-1]
    with pytest.raises(ValueError, match="cursor"):
        search.find(Sought(status="dead", cursor="'; DROP"))


def test_a_look_that_takes_too_long_is_cut_short_and_can_go_on(moto_engine: AwsEngine) -> None:
    sent = [kill(moto_engine.table, message(caller="bob")).id for _ in range(5)]
    ticks = iter(range(0, 1_000, round(limits.STACK_SEARCH_S)))
    search = AwsSearch(moto_engine.dynamodb, moto_engine.table_name, clock=lambda: float(next(ticks)))

    def pages() -> Iterator[list[str]]:
        cursor = None
        for _ in range(10):
            found = search.find(Sought(status="dead", cursor=cursor))
            yield [row.id for row in found.rows]
            if (cursor := found.cursor) is None:
                return
            assert "cut short" in found.note

    looks = list(pages())
    assert len(looks) > 1
    assert [it for look in looks for it in look] == sent[::-1]


@pytest.mark.parametrize("status", ["queued", "processed", "rejected"])
def test_what_has_no_index_is_refused_with_the_reason_and_never_scanned(
    moto_engine: AwsEngine, search: AwsSearch, status: str
) -> None:
    with pytest.raises(ValueError, match="no index of " + status):
        search.find(Sought(status=status, accepted_after=NOW))  # type: ignore[arg-type]
    assert "only dead" in search.find(Sought(caller="ana")).note.lower()
    assert not [operation for _, operation, _ in moto_engine.calls if operation == "Scan"]


# --- stories ------------------------------------------------------------------------


def test_the_story_of_one_that_was_processed(moto_engine: AwsEngine, search: AwsSearch) -> None:
    sent = message()
    child = Message(sent.emitted_id(0), "notifications", "{}", "ana", sent.accepted_at, due_at=sent.accepted_at + 9_000)
    process(moto_engine.table, sent, Commit('{"total":"79.80"}', emits=[child]))
    story = search.story(sent.id)
    assert story is not None
    assert [(step.what, step.at) for step in story.steps] == [
        ("accepted", sent.accepted_at),
        ("processed", sent.accepted_at + 500),
        ("emitted", sent.accepted_at + 500),
    ]
    assert (story.steps[2].id, story.result, story.body) == (child.id, {"total": "79.80"}, None)
    assert "notifications, due" in story.steps[2].detail


def test_the_story_of_one_that_is_dead_has_its_traceback_and_its_body(
    moto_engine: AwsEngine, search: AwsSearch
) -> None:
    sent = kill(moto_engine.table, message(group="g-1"))
    story = search.story(f"{sent.id}.kN3fWcuT2h9rQ_w1XzB")
    assert story is not None
    assert [step.what for step in story.steps] == ["accepted", "failed", "failed", "dead"]
    assert story.steps[2].traceback == "Traceback: line 7"
    assert (story.body, story.row.group, story.record.body) == (sent.body, "g-1", None)


def test_the_story_of_one_that_failed_and_waits(moto_engine: AwsEngine, search: AwsSearch) -> None:
    sent = message()
    delivery = Delivery(sent, "a receipt", 1)
    settle([(delivery, Failure("failed", "KeyError", "?"))], moto_engine.queue, moto_engine.table, Policy(5))
    assert moto_engine.table.begin_attempt(Delivery(sent, "another", 2)).attempts == 2
    story = search.story(sent.id)
    assert story is not None
    assert [step.what for step in story.steps] == ["accepted", "failed", "waits"]
    assert (story.row.status, story.receive_count) == ("queued", 2)


def test_the_story_of_one_that_was_rejected(moto_engine: AwsEngine, search: AwsSearch) -> None:
    sent = process(moto_engine.table, message(), Reject("no such account"))
    story = search.story(sent.id)
    assert story is not None
    assert story.steps[-1].what == "rejected"
    assert story.steps[-1].detail == story.row.reason == "no such account"
