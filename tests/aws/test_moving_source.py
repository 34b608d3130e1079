"""A stack as the side that a move leaves: what its table, its dead letters and its schedules tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import pytest

from decoupled.core import limits
from decoupled.core.dead_letters import Wanted
from decoupled.core.fingerprints import difference, item_difference
from decoupled.core.moving import Carried, CarriedItem, ItemPart, Part, State
from decoupled.core.outcomes import Commit, Delivery
from decoupled.core.times import now_ms
from decoupled.core.workload import Message, Unavailable
from decoupled.engines.aws.closing import KEY
from decoupled.engines.aws.dead_letter_queue import DeadLetterQueue
from decoupled.engines.aws.dead_letters import AwsDeadLetters
from decoupled.engines.aws.moving_source import AwsSource
from decoupled.engines.aws.moving_target import AwsTarget
from tests.support.engines import AwsEngine
from tests.support.moving import ITEM, NOBODYS, dead, processed, queued, rejected

LATER_MS = 1000 * (limits.MAX_DELAY_S + 600)


class Closed:
    """The closing of a stack, as far as a source asks it."""

    identity = "the first"

    def __init__(self, engine: AwsEngine) -> None:
        self.table = engine.table_name
        self._engine = engine
        self.said: list[str] = []
        self.messages = 0
        self.state: tuple[State, str] = ("open", "")

    def schedules(self) -> Iterator[Mapping[str, Any]]:
        yield from self._engine.scheduled()

    def schedule(self, name: str) -> Mapping[str, Any] | None:
        return next((each for each in self._engine.scheduled() if each["Name"] == name), None)

    def told(self) -> tuple[State, str]:
        return self.state

    def tell(self, state: State, to: str) -> None:
        self.said.append(state)
        self.state = (state, to)

    def close(self) -> None:
        self.said.append("close")

    def open(self) -> None:
        self.said.append("open again")

    def left(self) -> int:
        return self.messages


def source_of(engine: AwsEngine, closed: Closed | None = None, to: str = "") -> AwsSource:
    look = partial(DeadLetterQueue, engine.sqs, [engine.dead_letter_queue_url], 0)
    made = lambda: AwsDeadLetters(engine.dynamodb, engine.table_name, engine.queue, look())  # noqa: E731
    return AwsSource("the stack boxes", closed or Closed(engine), engine.dynamodb, made, to)  # type: ignore[arg-type]


def target_of(engine: AwsEngine) -> AwsTarget:
    return AwsTarget("boxes", engine.dynamodb, engine.table_name, engine.queue)


def all_of(read: Callable[[str, int], Part], most: int = 2) -> tuple[dict[str, Carried], str]:
    found, mark, more = dict[str, Carried](), "", True
    while more:
        part = read(mark, most)
        found |= {record.id: record for record in part.records}
        mark, more = part.mark, part.more
    return found, mark


def all_items(read: Callable[[str, int], ItemPart]) -> dict[str, CarriedItem]:
    found, mark, more = dict[str, CarriedItem](), "", True
    while more:
        part = read(mark, 2)
        found |= {item.key: item for item in part.items}
        mark, more = part.mark, part.more
    return found


@pytest.fixture
def filled(moto_engine: AwsEngine) -> AwsEngine:
    target = target_of(moto_engine)
    target.put([processed(), processed("done-2"), rejected(), dead(), queued()])
    target.put_items([ITEM, NOBODYS])
    moto_engine.dynamodb.put_item(TableName=moto_engine.table_name, Item={"pk": {"S": KEY}, "to": {"S": "x"}})
    return moto_engine


def test_what_has_ended_is_scanned_again_in_each_round(filled: AwsEngine) -> None:
    source = source_of(filled)
    first, mark = all_of(source.ended)
    assert first.keys() == {"done", "done-2", "no"}
    assert difference(processed(), first["done"]) is None
    assert difference(rejected(), first["no"]) is None
    filled.table.commit([(queued("late").message(), Commit("{}"))], 1)
    again = source.ended(mark, 100)
    assert {record.id for record in again.records} == {"done", "done-2", "no", "late"}


def test_items_are_told_and_what_is_ours_is_not(filled: AwsEngine) -> None:
    found = all_items(source_of(filled).items)
    assert found.keys() == {ITEM.key, NOBODYS.key}
    assert item_difference(ITEM, found[ITEM.key]) is None
    assert item_difference(NOBODYS, found[NOBODYS.key]) is None


def give_up(engine: AwsEngine, message_id: str) -> Message:
    """As SQS does with what was received too often."""
    told = {"id": message_id, "workload": "shop", "caller": "key:shop", "accepted_at": "1"}
    engine.sqs.send_message(
        QueueUrl=engine.dead_letter_queue_url,
        MessageBody="{}",
        MessageAttributes={name: {"DataType": "String", "StringValue": value} for name, value in told.items()},
        MessageGroupId="shop:g",
    )
    return Message(message_id, "shop", "{}", "key:shop", 1, "g")


def test_dead_letters_come_with_all_that_they_had(filled: AwsEngine) -> None:
    gave_up = give_up(filled, "gave-up")
    source = source_of(filled)
    found, _ = all_of(source.dead, 1)
    source.close()
    assert found.keys() == {"dead", "gave-up"}
    assert difference(dead(), found["dead"]) is None
    assert found["gave-up"].message() == gave_up


def test_what_died_after_the_time_that_this_machine_thinks_it_is_goes_over(moto_engine: AwsEngine) -> None:
    target_of(moto_engine).put([dead("ahead", finished_at=now_ms() + 3_600_000)])
    assert all_of(source_of(moto_engine).dead)[0].keys() == {"ahead"}


def test_dead_letters_that_another_look_hides_are_waited_for(filled: AwsEngine) -> None:
    give_up(filled, "gave-up")
    another = DeadLetterQueue(filled.sqs, [filled.dead_letter_queue_url], 0)
    another.look()  # of a tool, say, which was killed
    source = source_of(filled)
    with pytest.raises(Unavailable, match="1 messages on the dead-letter queue are hidden"):
        source.dead("", 10)
    another.release()
    assert all_of(source.dead)[0].keys() == {"dead", "gave-up"}
    assert all_of(source.dead)[0].keys() == {"dead", "gave-up"}
    source.close()


def test_more_dead_letters_than_a_look_sees_are_not_left_behind(
    filled: AwsEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_up(filled, "gave-up")
    monkeypatch.setattr(limits, "MAX_PEEKED", 1)
    with pytest.raises(ValueError, match="more than one look can take"):
        source_of(filled).dead("", 10)


def test_what_sqs_gave_up_and_has_an_open_record_is_dead_and_not_lost(moto_engine: AwsEngine) -> None:
    moto_engine.table.begin_attempt(Delivery(give_up(moto_engine, "gave-up"), "r", 1))
    source = source_of(moto_engine)
    assert all_of(source.dead)[0].keys() == {"gave-up"}
    assert all_of(source.waiting)[0] == {}
    source.close()


def test_what_is_due_later_comes_from_its_schedule_and_its_record(moto_engine: AwsEngine) -> None:
    due_at = (now_ms() + LATER_MS) // 60_000 * 60_000
    sent = [queued("a", due_at=due_at, digest="0f3a"), queued("b", due_at=due_at), queued("c", due_at=due_at)]
    target = target_of(moto_engine)
    target.put(sent[:2])  # of the third, no record was ever made
    target.send(sent[:2])
    moto_engine.queue.send([sent[2].message()])
    found, _ = all_of(source_of(moto_engine).waiting, 1)
    assert [found[it.id].message() for it in sent] == [it.message() for it in sent]
    assert [found[it.id].attempts for it in sent] == [2, 2, 0]


def test_what_is_due_later_is_asked_for_once_unless_something_seems_to_be_lost(moto_engine: AwsEngine) -> None:
    due_at = (now_ms() + LATER_MS) // 60_000 * 60_000
    sent = [queued(name, due_at=due_at) for name in "abcdef"]
    target = target_of(moto_engine)
    target.put(sent)
    target.send(sent)
    closed = Closed(moto_engine)
    asked: list[str] = []
    one = closed.schedule

    def schedule(name: str) -> Mapping[str, Any] | None:
        asked.append(name)
        return one(name)

    closed.schedule = schedule  # type: ignore[method-assign]
    all_of(source_of(moto_engine, closed).waiting)
    assert sorted(asked) == [*"abcdef"]
    target.put([queued("put-off")])  # whose schedule has a name of its own
    assert moto_engine.queue.defer([(Delivery(queued("put-off").message(), "r", 1), due_at)], now_ms()) == []
    found, _ = all_of(source_of(moto_engine).waiting)
    assert found.keys() == {*"abcdef", "put-off"}


def test_a_record_that_waits_for_no_message_is_named(filled: AwsEngine) -> None:
    with pytest.raises(ValueError, match=r"1 messages .* no queue: waits"):
        all_of(source_of(filled).waiting)


def test_a_copy_of_what_has_ended_waits_no_more(moto_engine: AwsEngine) -> None:
    later = queued("a", due_at=now_ms() + LATER_MS)
    moto_engine.queue.send([later.message()])
    moto_engine.table.commit([(later.message(), Commit("{}"))], 1)
    found, _ = all_of(source_of(moto_engine).waiting)
    assert found == {}


def test_who_stops_says_so_first_and_who_opens_last(moto_engine: AwsEngine) -> None:
    closed = Closed(moto_engine)
    source = source_of(moto_engine, closed)
    source.stop("the data directory back", "", drain=False)
    source.go_on()
    assert closed.said == ["stopped", "close", "open again", "open"]
    source.stop("the data directory back", "", drain=False)
    source.give_over()
    with pytest.raises(ValueError, match="for good"):
        source.go_on()
    assert source.state() == "moved"


def test_only_who_moves_it_opens_it_again(moto_engine: AwsEngine) -> None:
    closed = Closed(moto_engine)
    source_of(moto_engine, closed, "the data directory back").stop("the data directory back", "", drain=False)
    with pytest.raises(ValueError, match="moves to the data directory back, and not to elsewhere"):
        source_of(moto_engine, closed, "elsewhere").go_on()
    assert closed.state == ("stopped", "the data directory back")
    source_of(moto_engine, closed, "the data directory back").go_on()
    assert closed.state[0] == "open"


def test_what_was_opened_or_has_messages_again_is_not_given_over(moto_engine: AwsEngine) -> None:
    closed = Closed(moto_engine)
    source = source_of(moto_engine, closed)
    with pytest.raises(ValueError, match="somebody has opened it again"):
        source.give_over()
    source.stop("back", "", drain=False)
    closed.messages = 1
    with pytest.raises(ValueError, match="--back-out"):
        source.give_over()
    assert closed.state == ("stopped", "back")
    closed.messages = 0
    source.give_over()
    assert closed.state == ("moved", "back")


def test_nothing_that_is_dead_is_changed_in_a_stack_that_is_closed(moto_engine: AwsEngine) -> None:
    target_of(moto_engine).put([dead()])
    look = DeadLetterQueue(moto_engine.sqs, [moto_engine.dead_letter_queue_url], 0)
    letters = AwsDeadLetters(moto_engine.dynamodb, moto_engine.table_name, moto_engine.queue, look)
    (letter,) = letters.some(Wanted(), None, 10).letters
    closed = {"pk": {"S": KEY}, "state": {"S": "stopped"}, "to": {"S": "the data directory back"}}
    moto_engine.dynamodb.put_item(TableName=moto_engine.table_name, Item=closed)
    for change in (letters.redrive, letters.purge, letters.restore, letters.edit):
        with pytest.raises(Unavailable, match="its messages move to the data directory back"):
            change([letter])
    moto_engine.dynamodb.delete_item(TableName=moto_engine.table_name, Key={"pk": {"S": KEY}})
    assert [it.done for it in letters.redrive([letter])] == ["redriven"]
    letters.close()


def test_a_moved_record_counts_as_an_attempt_where_it_failed_before(filled: AwsEngine) -> None:
    record = filled.table.begin_attempt(Delivery(queued().message(), "r", 1))
    assert (record.status, record.attempts) == ("queued", 3)
