"""The order of ends in a data directory: positions grow with each transaction, whatever becomes of a message; and those
of callers whom nobody follows have none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from decoupled.core import limits
from decoupled.core.dead_letters import Wanted
from decoupled.core.outcomes import Commit, Delivery, Record, Reject
from decoupled.core.workload import Message
from decoupled.engines.protocols import Position
from decoupled.engines.sqlite.database import FILE_NAME, Database
from decoupled.engines.sqlite.dead_letters import SqliteDeadLetters
from decoupled.engines.sqlite.ends import SqliteEnds
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.recovery import recover
from decoupled.engines.sqlite.table import SqliteTable

ANA = ("orders", "ana")
START = (0, 0)


class Store:
    """A data directory, with what is done to it in turn."""

    def __init__(self, file: Path) -> None:
        self.database = Database(file)
        self.queue, self.table = SqliteQueue(self.database), SqliteTable(self.database)
        self.ends, self.letters = SqliteEnds(self.database), SqliteDeadLetters(self.database)

    def send(self, *ids: str, caller: str = "ana") -> list[Delivery]:
        messages = [Message(it, "orders", "{}", caller, 0) for it in ids]
        return self.queue.send_claimed(messages, 30)

    def settle(self, *deliveries: Delivery, now: int = 1, decision: Commit | Reject | None = None) -> None:
        decided = [(it.message, decision or Commit("{}")) for it in deliveries]
        with self.database.transaction():
            self.table.commit(decided, now)
            self.ends.mark([it.message.id for it in deliveries])

    def bury(self, delivery: Delivery) -> None:
        message = delivery.message
        dead = Record(message.id, "orders", "dead", 0, message.caller, finished_at=1, body="{}")
        with self.database.transaction():
            assert self.table.bury(delivery, dead)
            self.ends.mark([message.id])

    def after(self, position: Position = START, most: int = 100, most_bytes: int = 1_000) -> list[tuple[str, str]]:
        return [(it.id, it.status) for _, it in self.ends.after(*ANA, position, most, most_bytes)[0]]

    def last(self) -> Position:
        span = self.ends.span(*ANA)
        assert span is not None
        return span[1]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / FILE_NAME)
    with contextlib.closing(store.database):
        store.ends.follow(*ANA)
        yield store


def test_ends_come_in_the_order_in_which_they_are_stored_whatever_the_clock_says(store: Store) -> None:
    early, late = store.send("b"), store.send("a")
    store.settle(*late, now=2_000)
    seen = store.last()
    store.settle(*early, now=1_000)
    assert store.after() == [("a", "processed"), ("b", "processed")]
    assert store.after(seen) == [("b", "processed")]


def test_what_ends_in_one_transaction_is_told_page_by_page(store: Store) -> None:
    store.settle(*store.send(*"abcdefg"))
    found: list[str] = []
    position, more = START, True
    while more:
        page, more = store.ends.after(*ANA, position, 3, 1_000)
        found += [it.id for _, it in page]
        position = page[-1][0]
        assert len(page) <= 3
    assert found == list("abcdefg")
    assert len(store.after(most_bytes=1)) == 1


def test_what_nobody_follows_has_no_position(store: Store) -> None:
    store.settle(*store.send("a", caller="ben"))
    assert store.ends.span("orders", "ben") is None
    assert store.database.execute("SELECT count(*) FROM messages WHERE ended IS NOT NULL").fetchone() == (0,)
    store.ends.follow("orders", "ben")
    assert store.ends.after("orders", "ben", START, 10, 10) == ([], False)


def test_what_was_undone_has_no_position(store: Store) -> None:
    (delivery,) = store.send("a")
    with contextlib.suppress(ZeroDivisionError), store.database.transaction():
        store.table.commit([(delivery.message, Commit("{}"))], 1)
        store.ends.mark(["a"])
        raise ZeroDivisionError
    assert store.after() == []
    store.settle(delivery)
    assert store.after() == [("a", "processed")]


def test_a_second_delivery_changes_no_position(store: Store) -> None:
    (delivery,) = store.send("a")
    store.settle(delivery)
    seen = store.last()
    store.settle(delivery)
    assert store.after(seen) == []


def test_each_end_of_a_dead_letter_is_one(store: Store) -> None:
    """Dead, put back and dead again; processed by a late delivery."""
    (delivery,) = store.send("a")
    store.bury(delivery)
    assert store.after() == [("a", "dead")]
    seen = store.last()
    store.letters.redrive(list(store.letters.find(Wanted())))
    assert store.after() == []
    (again,) = store.queue.claim("orders", 1, 30)
    store.bury(again)
    assert store.after(seen) == [("a", "dead")]
    seen = store.last()
    store.settle(delivery)
    assert store.after(seen) == [("a", "processed")]


def test_what_tools_change_is_an_end_too(store: Store) -> None:
    (delivery,) = store.send("a")
    store.bury(delivery)
    letters = list(store.letters.find(Wanted(), bodies=True))
    seen = store.last()
    store.letters.purge(letters)
    assert store.after(seen) == [("a", "rejected")]
    seen = store.last()
    store.letters.restore(letters)
    assert store.after(seen) == [("a", "dead")]


def test_who_has_not_come_for_longest_is_given_up_unless_it_is_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_FOLLOWED", 3)
    assert [store.ends.follow("orders", name) for name in ("ben", "cleo")] == [None, None]
    assert store.ends.follow(*ANA) is None  # comes again
    assert store.ends.follow("orders", "dan", {("orders", "ben")}) == ("orders", "cleo")
    assert store.ends.span("orders", "cleo") is None
    assert SqliteEnds.adopted(store.database).followed == {ANA, ("orders", "ben"), ("orders", "dan")}
    since = store.ends.span(*ANA)
    store.ends.follow("orders", "cleo")
    assert store.ends.span("orders", "cleo") > since  # type: ignore[operator]  # it begins anew


def test_in_a_recovered_file_positions_of_before_are_nobody_s(store: Store, tmp_path: Path) -> None:
    """Also where the last ones are lost."""
    for name in "abc":
        store.settle(*store.send(name))
    before = store.last()
    store.database.execute("DELETE FROM messages WHERE id > 'a'")
    with contextlib.closing(Database(tmp_path / "whole.sqlite3")) as whole:
        recover(tmp_path / FILE_NAME, whole)
        ends = SqliteEnds(whole)
        assert ends.span(*ANA) is None
        ends.follow(*ANA)
        span = ends.span(*ANA)
        assert span is not None
        assert span[0] > before
        assert ends.after(*ANA, span[0], 10, 10) == ([], False)
