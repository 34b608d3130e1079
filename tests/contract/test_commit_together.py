"""What is stored together is what would be stored one after the other: one statement for several rows, and one step for
several batches, change nothing but the time it takes. On the embedded engine, which does both."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from decoupled.core.outcomes import Commit, Delivery, NotStored, Record, Reject, Stored
from decoupled.core.workload import Add, Message, Put, Write
from decoupled.engines.sqlite import several
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.table import SqliteTable
from tests.support.contract import NOW

IDS = [f"m-{number}" for number in range(50)]
WORKLOADS = ["orders", "steps"]  # of which one is ordered

Decided = Sequence[tuple[Message, Commit | Reject]]


def message_of(number: int) -> Message:
    return Message(IDS[number], WORKLOADS[number % 2], f'{{"n": {number}}}', "anonymous", NOW, f"g-{number}")


numbers = st.integers(0, len(IDS) - 1)
plain = st.builds(lambda n: Commit(f'{{"n": {n}}}'), st.integers(0, 9))
writing: st.SearchStrategy[Write] = st.sampled_from(
    [Add("sums/all", {"n": 1}, ceiling={"n": 3}, otherwise="full"), Put("sums/once", {"n": 1}, if_absent="there")]
)
others = st.one_of(
    st.builds(Reject, st.just("no")),
    st.builds(lambda write: Commit("{}", [write]), writing),
    st.builds(lambda n: Commit("{}", emits=[Message(f"emitted-{n}", "orders", "{}", "", NOW)]), numbers),
)
decisions = st.one_of(plain, plain, plain, others)
steps = st.lists(st.tuples(numbers.map(message_of), decisions), min_size=1, max_size=60)


@st.composite
def alike(draw: st.DrawFn) -> Decided:
    """Different messages that all get a result; but one, perhaps."""
    decided = [(message_of(number), draw(plain)) for number in draw(st.lists(numbers, min_size=2, unique=True))]
    if draw(st.booleans()):
        place = draw(st.integers(0, len(decided) - 1))
        return [*decided[:place], (decided[place][0], draw(others)), *decided[place + 1 :]]
    return decided


class Store:
    """A queue and a table in memory."""

    def __init__(self, ordered: bool) -> None:
        self.database = Database(":memory:")
        self.database.ordered = frozenset(WORKLOADS[1:] if ordered else ())
        self.queue = SqliteQueue(self.database, lambda: NOW)
        self.table = SqliteTable(self.database, clock_ms=lambda: NOW)

    def begin(self, message: Message, state: str) -> None:
        if state != "elsewhere":
            self.queue.send_claimed([message], 30)
        if state == "rejected":
            self.table.commit([(message, Reject("before"))], NOW - 1)
        if state == "dead":
            record = Record(message.id, message.workload, "dead", NOW, "", finished_at=NOW - 1, body=message.body)
            self.table.bury(Delivery(message, f"1.{message.id}", 1), record)

    def rows(self) -> list[tuple[object, ...]]:
        return [
            *self.database.execute("SELECT * FROM messages ORDER BY id").fetchall(),
            *self.database.execute("SELECT * FROM items ORDER BY key").fetchall(),
        ]


@given(st.integers(0, 1_000))
def test_however_many_rows_there_are_each_is_in_one_statement(count: int) -> None:
    parts = list(several.parts(range(count)))
    assert [row for part in parts for row in part] == list(range(count))
    assert {len(part) for part in parts} <= set(several.SIZES)


@given(
    st.sampled_from(["elsewhere", "rejected", "dead"]),
    st.sets(numbers, max_size=6),
    st.booleans(),
    alike() | steps,
)
def test_messages_of_one_commit_end_as_they_would_one_after_the_other(
    state: str, of: set[int], ordered: bool, decided: Decided
) -> None:
    found: list[tuple[list[Stored | NotStored], list[tuple[object, ...]]]] = []
    for together in (True, False):
        store = Store(ordered)
        with contextlib.closing(store.database):
            for number in range(len(IDS)):
                store.begin(message_of(number), state if number in of else "in flight")
            with store.database.transaction():
                parts = [decided] if together else [[one] for one in decided]
                outcomes = [outcome for part in parts for outcome in store.table.commit(part, NOW)]
            found.append((outcomes, store.rows()))
    assert found[0] == found[1]


@given(st.lists(numbers), st.lists(numbers), st.booleans())
def test_messages_handed_out_as_they_come_are_those_that_were_new(
    before: list[int], sent: list[int], ordered: bool
) -> None:
    found: list[tuple[list[Delivery], list[tuple[object, ...]]]] = []
    for together in (True, False):
        store = Store(ordered)
        with contextlib.closing(store.database):
            store.queue.send([message_of(number) for number in before])
            messages = [message_of(number) for number in sent]
            parts = [messages] if together else [[message] for message in messages]
            found.append(([one for part in parts for one in store.queue.send_claimed(part, 30)], store.rows()))
    assert found[0] == found[1]
    new = dict.fromkeys(number for number in sent if number not in before)
    if not ordered:
        assert [delivery.message for delivery in found[0][0]] == [message_of(number) for number in new]
