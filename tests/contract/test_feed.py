"""What the server asks of an engine that hands messages out (Feed), and of its transactions: on each engine that has
them, and on the model. A new engine joins by a line in `new_feed`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoupled.core import limits
from decoupled.core.outcomes import REUSED, Commit, Delivery, NotSent, Reject
from decoupled.core.workload import Message
from decoupled.engines.protocols import Feed, StoreBusy
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.table import SqliteTable
from tests.support.contract import message
from tests.support.model_engine import ManualClock, ModelFeed

Clocked: TypeAlias = tuple[Feed, ManualClock]


@pytest.fixture(params=["embedded", "model"])
def clocked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Clocked]:
    """An empty queue, and the clock that it goes by."""
    clock = ManualClock()
    if request.param == "model":
        yield ModelFeed(clock), clock
        return
    database = Database(tmp_path / "decoupled.sqlite3")
    yield SqliteQueue(database, clock), clock
    database.close()


def send(clocked: Clocked, *workloads: str) -> list[Message]:
    """One message after the other, a second apart."""
    feed, clock = clocked
    sent = []
    for workload in workloads:
        sent.append(message(workload=workload))
        assert feed.send(sent[-1:]) == [None]
        clock.advance(1)
    return sent


def test_the_workload_that_waits_longest_is_ready_first(clocked: Clocked) -> None:
    send(clocked, "readings", "orders", "readings")
    assert clocked[0].ready() == ["readings", "orders"]


def test_a_claim_hands_out_one_workload_the_longest_waiting_first(clocked: Clocked) -> None:
    first, _, second, third = send(clocked, "orders", "readings", "orders", "orders")
    feed, _ = clocked
    assert [delivery.message for delivery in feed.claim("orders", 2, 30)] == [first, second]
    assert [delivery.message for delivery in feed.claim("orders", 2, 30)] == [third]
    assert feed.claim("orders", 2, 30) == []
    assert feed.ready() == ["readings"]


def grouped(feed: Feed, groups: Iterable[str], workload: str = "orders") -> list[Message]:
    """One message after the other, each of the next group."""
    sent = [message(workload=workload, group=group) for group in groups]
    assert feed.send(sent) == [None] * len(sent)
    return sent


def names(deliveries: Iterable[Delivery]) -> list[str]:
    return [delivery.message.group for delivery in deliveries]


@given(
    groups=st.lists(st.sampled_from(["", "a", "b", "b\0", "bb", "ü", "\U0001f600", "z"]), max_size=60),
    shares=st.dictionaries(st.sampled_from(["", "a", "b", "bb", "z"]), st.integers(0, 5)),
    maxima=st.lists(st.integers(1, 20), min_size=1, max_size=6),
)
def test_claims_share_what_is_visible_between_the_groups(
    groups: list[str], shares: dict[str, int], maxima: list[int]
) -> None:
    with contextlib.closing(Database(":memory:")) as database:
        clock = ManualClock()
        for feed in (SqliteQueue(database, clock), ModelFeed(clock)):
            sent = grouped(feed, groups)
            left = {group: [it.id for it in sent if it.group == group] for group in groups}
            for maximum in maxima:
                may = {group: min(len(ids), shares.get(group, 100)) for group, ids in left.items()}
                claimed = feed.claim("orders", maximum, 30, lambda group: shares.get(group, 100))
                assert len(claimed) == min(maximum, sum(may.values()))
                for group, ids in left.items():
                    mine = [delivery.message.id for delivery in claimed if delivery.message.group == group]
                    assert len(mine) <= may[group]
                    assert set(mine) == set(ids[: len(mine)])  # the longest-waiting ones
                    fair = maximum // max(1, sum(n > 0 for n in may.values()))
                    assert len(mine) >= min(may[group], fair)
                    del ids[: len(mine)]


def test_claims_of_one_message_go_round_all_groups_before_one_has_its_second(clocked: Clocked) -> None:
    feed, _ = clocked
    grouped(feed, ["busy"] * 50 + ["a", "b", "", "zz"])
    rounds = [names(feed.claim("orders", 1, 30))[0] for _ in range(10)]
    assert sorted(rounds[:5]) == ["", "a", "b", "busy", "zz"]
    assert rounds[5:] == ["busy"] * 5


def test_a_claim_of_many_takes_of_all_groups_that_have_few(clocked: Clocked) -> None:
    feed, _ = clocked
    grouped(feed, [f"group-{number:02}" for number in range(50)] + ["busy"] * 500)
    claimed = names(feed.claim("orders", 100, 30))
    assert len(claimed) == 100
    assert len(set(claimed)) == 51


def test_a_group_that_comes_while_another_has_a_long_queue_waits_for_one_claim(clocked: Clocked) -> None:
    feed, _ = clocked
    grouped(feed, ["busy"] * 100)
    feed.claim("orders", 10, 30)
    grouped(feed, ["late"])
    assert "late" in names(feed.claim("orders", 10, 30))


def test_what_is_claimed_of_a_group_is_no_more_visible_than_any_other(clocked: Clocked) -> None:
    feed, clock = clocked
    grouped(feed, ["a", "b"])
    assert len(feed.claim("orders", 10, 30)) == 2
    assert feed.claim("orders", 10, 30) == []
    clock.advance(30)
    assert sorted(names(feed.claim("orders", 10, 30))) == ["a", "b"]


def test_behind_very_many_groups_that_wait_a_message_is_found_by_a_later_claim(
    clocked: Clocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_GROUPS_LOOKED", 10)
    feed, _ = clocked
    grouped(feed, [f"group-{number:03}" for number in range(100)])
    while feed.claim("orders", 100, 300):
        pass
    grouped(feed, ["group-055x"])
    found = [names(feed.claim("orders", 1, 30)) for _ in range(12)]
    assert ["group-055x"] in found


def test_a_look_for_damage_finds_none_and_changes_nothing(clocked: Clocked) -> None:
    waiting = send(clocked, "orders", "orders", "orders", "readings")
    feed, _ = clocked
    assert feed.set_aside_damaged() == 0
    assert [(d.message, d.receive_count) for d in feed.claim("orders", 100, 30)] == [(m, 1) for m in waiting[:3]]


def test_what_was_claimed_is_visible_again_after_its_timeout_and_counted(clocked: Clocked) -> None:
    send(clocked, "orders")
    feed, clock = clocked
    feed.claim("orders", 1, 30)
    clock.advance(29.999)
    assert feed.claim("orders", 1, 30) == []
    clock.advance(0.001)
    (delivery,) = feed.claim("orders", 1, 30)
    assert delivery.receive_count == 2


def test_messages_may_be_sent_and_claimed_in_one_step(clocked: Clocked) -> None:
    feed, clock = clocked
    (before,) = send(clocked, "orders")
    fresh = message()
    (delivery,) = feed.send_claimed([before, fresh], 30)
    assert (delivery.message, delivery.receive_count) == (fresh, 1)
    feed.retry_later([(delivery, 0)])
    clock.advance(1)
    assert {again.message for again in feed.claim("orders", 10, 30)} == {before, fresh}


@pytest.mark.parametrize("count", [1, 3, 31, 100])
def test_of_many_that_are_sent_and_claimed_in_one_step_only_the_fresh_ones_are_handed_out_each_once(
    clocked: Clocked, count: int
) -> None:
    feed, _ = clocked
    before, fresh = send(clocked, *["orders"] * count), [message() for _ in range(count)]
    mixed = [one for pair in zip(fresh, before, fresh[::-1], strict=True) for one in pair]
    assert feed.send_claimed(before, 30) == []
    handed_out = feed.send_claimed(mixed, 30)
    assert {delivery.message for delivery in handed_out} == set(fresh)
    assert len(handed_out) == len({delivery.receipt for delivery in handed_out}) == count


def test_of_two_with_one_id_that_are_sent_and_claimed_in_one_step_the_first_is_handed_out(clocked: Clocked) -> None:
    feed, _ = clocked
    first, other = message('{"n": 1}'), message()
    second = message('{"n": 2}', id=first.id)
    handed_out = feed.send_claimed([first, other, second], 30)
    assert sorted(delivery.message.body for delivery in handed_out) == sorted([first.body, other.body])


def refused_of(feed: Feed, messages: list[Message]) -> list[Message]:
    """Those that are not accepted, of some that are sent and claimed in one step."""
    refused: list[Message] = []

    def refuse(message: Message, why: NotSent) -> None:
        assert why is REUSED
        refused.append(message)

    feed.send_claimed(messages, 30, refuse)
    return refused


@pytest.mark.parametrize("claimed", [False, True], ids=["sent", "sent and claimed"])
def test_a_key_that_comes_with_another_entry_is_refused_and_the_first_one_stands(
    clocked: Clocked, claimed: bool
) -> None:
    feed, _ = clocked
    first, other = message('{"n": 1}', digest="one"), message(digest="two")
    assert feed.send([first, other]) == [None, None]
    reused, again = message('{"n": 2}', id=first.id, digest="two"), message('{ "n": 1 }', id=first.id, digest="one")
    fresh = message(digest="two")
    if claimed:
        assert refused_of(feed, [again, reused, fresh, other]) == [reused]
    else:
        assert feed.send([again, reused, fresh, other]) == [None, REUSED, None, None]
    handed_out = feed.claim("orders", 10, 30)
    assert {it.message.id for it in handed_out} | {fresh.id} == {first.id, other.id, fresh.id}
    assert '{"n": 2}' not in [it.message.body for it in handed_out]


@pytest.mark.parametrize("claimed", [False, True], ids=["sent", "sent and claimed"])
def test_of_two_entries_that_come_under_one_key_at_once_the_first_one_is_accepted(
    clocked: Clocked, claimed: bool
) -> None:
    feed, _ = clocked
    first, other = message(digest="one"), message(digest="one")
    second = message('{"n": 2}', id=first.id, digest="two")
    if claimed:
        assert refused_of(feed, [first, second, other, second]) == [second, second]
    else:
        assert feed.send([first, second, other, second]) == [None, REUSED, None, REUSED]


def test_of_many_resends_those_with_another_entry_are_told_apart(clocked: Clocked) -> None:
    feed, _ = clocked
    sent = [message(digest=f"entry {number}") for number in range(100)]
    feed.send(sent)
    again = [it if number % 7 else msgspec.structs.replace(it, digest="another") for number, it in enumerate(sent)]
    assert [outcome is REUSED for outcome in feed.send(again)] == [number % 7 == 0 for number in range(100)]


@pytest.mark.parametrize(("before", "after"), [("", "one"), ("one", ""), ("", "")])
def test_an_entry_without_a_digest_is_compared_with_nothing(clocked: Clocked, before: str, after: str) -> None:
    feed, _ = clocked
    first = message(digest=before)
    feed.send([first])
    second = message('{"n": 2}', id=first.id, digest=after)
    assert feed.send([second]) == [None]
    assert refused_of(feed, [second]) == []


def test_a_key_keeps_its_entry_when_that_is_done(tmp_path: Path) -> None:
    with contextlib.closing(Database(tmp_path / "decoupled.sqlite3")) as database:
        queue, table = SqliteQueue(database), SqliteTable(database)
        processed, rejected, late = message(digest="one"), message(digest="one"), message(digest="one", due_at=1 << 42)
        queue.send([processed, rejected, late])
        table.commit([(processed, Commit("{}")), (rejected, Reject("no"))], 1)
        again = [msgspec.structs.replace(it, digest="two") for it in (processed, rejected, late)]
        assert queue.send(again) == [REUSED] * 3
        assert refused_of(queue, again) == again
        record = table.get(processed.id)
        assert record is not None
        assert record.digest == "one"


def test_nothing_is_looked_up_of_messages_that_are_new(tmp_path: Path) -> None:
    asked: list[str] = []
    with contextlib.closing(Database(tmp_path / "decoupled.sqlite3")) as database:
        queue = SqliteQueue(database)
        messages = [message(digest="one") for _ in range(50)]
        database.connection.set_trace_callback(asked.append)
        queue.send(messages[:25])
        queue.send_claimed(messages[25:], 30)
        assert not [sql for sql in asked if "SELECT" in sql]
        queue.send([message(id=messages[0].id)])  # nor of one that has no key
        assert not [sql for sql in asked if "SELECT" in sql]
        queue.send(messages[:1])
        assert [sql for sql in asked if "SELECT" in sql]


def test_the_messages_of_a_server_that_died_are_visible_at_once_and_what_waits_goes_on_waiting(
    clocked: Clocked,
) -> None:
    died, waits = send(clocked, "orders", "orders")
    feed, clock = clocked
    _, delivery = feed.claim("orders", 2, 300)
    feed.retry_later([(delivery, 60)])
    assert feed.release_in_flight() == 1
    (again,) = feed.claim("orders", 2, 30)
    assert (again.message, again.receive_count) == (died, 2)
    clock.advance(60)
    assert waits in [delivery.message for delivery in feed.claim("orders", 2, 30)]


@pytest.mark.parametrize("back_s", [3_600, 86_400, 30 * 86_400])
def test_nothing_waits_for_a_clock_that_was_set_back_before_a_server_starts(clocked: Clocked, back_s: int) -> None:
    waits, died, fresh = send(clocked, "orders", "orders", "orders")
    feed, clock = clocked
    (delivery,) = feed.claim("orders", 1, 300)
    feed.retry_later([(delivery, 60)])
    feed.claim("orders", 1, 300)
    clock.advance(-back_s)
    assert feed.release_in_flight() == 1
    assert {delivery.message for delivery in feed.claim("orders", 9, 300)} == {died, fresh}
    clock.advance(min(back_s + 60, limits.MAX_VISIBILITY_TIMEOUT_S))  # no longer than anything may wait
    assert waits in [delivery.message for delivery in feed.claim("orders", 9, 300)]


def test_what_is_due_later_is_neither_ready_nor_claimed_before_its_time(clocked: Clocked) -> None:
    feed, clock = clocked
    later = message(due_at=clock() + 86_400_000)
    assert feed.send_claimed([later], 30) == []
    feed.send([message(workload="readings", due_at=clock() + 60_000)])
    assert feed.queued(10) == {"orders": 1, "readings": 1}
    assert feed.ready() == []
    clock.advance(60)
    assert feed.ready() == ["readings"]
    assert feed.claim("orders", 1, 30) == []
    clock.advance(86_340)
    (delivery,) = feed.claim("orders", 1, 30)
    assert (delivery.message.id, delivery.receive_count) == (later.id, 1)


def test_what_is_put_off_is_handed_out_at_its_time_and_no_longer_in_flight(clocked: Clocked) -> None:
    send(clocked, "orders")
    feed, clock = clocked
    (delivery,) = feed.claim("orders", 1, 30)
    assert feed.defer([(delivery, clock() + 86_400_000)], clock()) == [delivery]
    assert feed.release_in_flight() == 0
    clock.advance(86_399)
    assert feed.claim("orders", 1, 30) == []
    clock.advance(1)
    (again,) = feed.claim("orders", 1, 30)
    assert again.receive_count == 2


def test_what_failed_after_it_was_due_waits_as_any_other(clocked: Clocked) -> None:
    feed, clock = clocked
    feed.send([message(due_at=clock() + 60_000)])
    clock.advance(60)
    (delivery,) = feed.claim("orders", 1, 30)
    feed.retry_later([(delivery, 600)])
    assert feed.release_in_flight() == 0
    assert feed.ready() == []
    clock.advance(600)
    assert feed.ready() == ["orders"]


def test_what_is_not_finished_is_counted_by_workload_no_further_than_asked(clocked: Clocked) -> None:
    send(clocked, "orders", "orders", "orders", "readings")
    feed, _ = clocked
    feed.claim("orders", 1, 30)
    assert feed.queued(2) == {"orders": 2, "readings": 1}
    assert feed.queued(100) == {"orders": 3, "readings": 1}


# --- two clocks of one queue, and messages that are due by the time of day ------------


@pytest.mark.parametrize("put_off", [False, True])
@pytest.mark.parametrize(
    ("wall_s", "queue_s", "left_s"),
    [
        (100, 100, 3_500),  # nothing was set
        (-3_600, 0, 7_200),  # the time of day was set back: it is not yet that time
        (3_000, 0, 600),
        (4_000, 0, 0),  # or past it
        (4_000, -86_400, 0),  # the machine booted, and the queue's clock was set by another time of day
        (100, 86_400, 3_500),
        (-86_400, 3_600, 90_000),
    ],
)
def test_a_start_has_what_is_due_later_wait_by_the_time_of_day(
    tmp_path: Path, wall_s: int, queue_s: int, left_s: int, put_off: bool
) -> None:
    wall, waits_by = ManualClock(), ManualClock()
    database = Database(tmp_path / "decoupled.sqlite3")
    queue = SqliteQueue(database, waits_by, wall)
    due_at = wall() + 3_600_000
    queue.send([message(due_at=None if put_off else due_at)])
    if put_off:
        queue.defer([(queue.claim("orders", 1, 30)[0], due_at)], wall())
    wall.advance(wall_s)
    waits_by.advance(queue_s)
    assert queue.release_in_flight() == 0
    if left_s:
        waits_by.advance(left_s - 1)
        assert queue.claim("orders", 1, 30) == []
        waits_by.advance(1)
    (delivery,) = queue.claim("orders", 1, 30)
    assert delivery.receive_count == 1 + put_off
    database.close()


def test_what_was_handed_out_when_it_was_due_does_not_wait_again(tmp_path: Path) -> None:
    wall, waits_by = ManualClock(), ManualClock()
    database = Database(tmp_path / "decoupled.sqlite3")
    queue = SqliteQueue(database, waits_by, wall)
    queue.send([message(due_at=wall() + 1_000)])
    waits_by.advance(1)
    assert len(queue.claim("orders", 1, 300)) == 1
    wall.advance(-3_600)
    assert queue.release_in_flight() == 1
    assert len(queue.claim("orders", 1, 300)) == 1
    database.close()


# --- transactions -------------------------------------------------------------


@pytest.fixture
def open_database(tmp_path: Path) -> Iterator[Callable[[], Database]]:
    """Connections to one file."""
    opened = []

    def connect() -> Database:
        opened.append(Database(tmp_path / "decoupled.sqlite3"))
        return opened[-1]

    yield connect
    for database in opened:
        database.close()


def test_nothing_of_a_transaction_that_was_rolled_back_is_there(open_database: Callable[[], Database]) -> None:
    database = open_database()
    database.begin()
    assert database.in_transaction
    SqliteQueue(database).send([message()])
    database.roll_back()
    assert not database.in_transaction
    database.roll_back()  # nothing to undo: as the protocol says, it never raises
    assert SqliteQueue(database).ready() == []


def test_others_see_a_transaction_once_it_is_committed(open_database: Callable[[], Database]) -> None:
    database, other = open_database(), open_database()
    database.begin()
    SqliteQueue(database).send([message()])
    assert SqliteQueue(other).ready() == []
    database.commit()
    assert SqliteQueue(other).ready() == ["orders"]


def test_a_part_that_raises_is_undone_alone(open_database: Callable[[], Database]) -> None:
    database = open_database()
    queue, table = SqliteQueue(database), SqliteTable(database)
    stays, goes = message(), message()
    database.begin()
    queue.send([stays])
    with contextlib.suppress(ZeroDivisionError), database.savepoint():
        table.commit([(goes, Reject("no"))], 0)
        _ = 1 / 0
    database.commit()
    assert table.get(goes.id) is None
    assert table.get(stays.id) is not None


def test_a_second_writer_is_told_that_the_store_is_busy(open_database: Callable[[], Database]) -> None:
    database, other = open_database(), open_database()
    other.execute("PRAGMA busy_timeout = 0")
    database.begin()
    with pytest.raises(StoreBusy, match="another process") as refused:
        other.begin()
    assert not refused.value.unknown
    database.roll_back()
    other.begin()
    other.roll_back()
