"""What the writer counts, beside a database of its own: only what is on the disk, and each thing once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from decoupled.core import limits
from decoupled.core.dead_letters import Wanted
from decoupled.core.metrics import LATENCY_S, Counts, Numbers
from decoupled.core.outcomes import Commit, Delivery, Failure, Reject
from decoupled.core.workload import Message
from decoupled.engines.protocols import StoreUnavailable
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.dead_letters import SqliteDeadLetters
from decoupled.engines.sqlite.ends import SqliteEnds
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.table import SqliteTable
from decoupled.pipeline.settlement import Policy, settle
from decoupled.server.counting import Counting, Requests
from decoupled.server.group_commit import Writer
from decoupled.server.scheduling.groups import Groups
from decoupled.server.scheduling.settling import Settler
from decoupled.server.watches import Watches
from decoupled.workloads import orders

FAILURE = Failure("failed", "ValueError", "it cannot be")


class Shelf:
    """A queue and a table in one file, with a clock of the test's, in milliseconds."""

    visibility_timeout_s = 30.0

    def __init__(self, directory: Path) -> None:
        self.now = 1_000
        self.database = Database(directory / "decoupled.sqlite3")
        self.queue = SqliteQueue(self.database, lambda: self.now)
        self.table = SqliteTable(self.database, clock_ms=lambda: self.now)
        self.letters = SqliteDeadLetters(self.database, lambda: self.now, lambda: self.now)
        self.counting = Counting(["orders"])

    def message(self, name: str, **more: Any) -> Message:
        return Message(name, "orders", "{}", "", self.now, **more)

    def claim(self) -> list[Delivery]:
        return self.queue.claim("orders", 10, 30)

    def settle(self, *decided: tuple[Delivery, Commit | Reject | Failure], max_attempts: int = 1) -> dict[str, int]:
        """What came of it, as it is counted."""
        tally = Numbers()
        settle(decided, self.queue, self.table, Policy(max_attempts, lambda: self.now), tally=tally)
        return {metric: sum(values.values()) for metric, values in tally.counters.items()}

    # --- of the writer's Taker

    def take(self, fresh: Sequence[Message]) -> tuple[Sequence[Message], Sequence[Message]]:
        return fresh[::2], fresh[1::2]

    def sent(self, claimed: list[Delivery]) -> None:
        """It does nothing with them."""


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def in_loop(shelf: Shelf, test: Callable[[Writer], Awaitable[None]]) -> None:
    async def main() -> None:
        writer = Writer(shelf.database, shelf.queue, asyncio.get_running_loop(), shelf.counting)
        writer.taker = shelf
        await test(writer)

    asyncio.run(main())


# --- what is put on the queue -------------------------------------------------------


def test_only_what_is_new_and_on_the_disk_is_accepted(shelf: Shelf) -> None:
    """In either way that a message is put there: claimed at once, and left to a claim."""

    async def test(writer: Writer) -> None:
        def emit(*names: str) -> None:
            shelf.queue.send([shelf.message(name) for name in names])

        def emit_in_vain() -> None:
            emit("x", "y")
            raise ValueError

        for names in ("abcd", "abcde", "fbdf"):  # of which some were there already
            writer.send([shelf.message(name) for name in names], lambda _: None)
            emitted = writer.run(lambda names=names: emit(names[0] * 2))  # type: ignore[misc]
            in_vain = writer.run(emit_in_vain)
            await asyncio.wait([emitted, in_vain])
            assert isinstance(in_vain.exception(), ValueError)
        shelf.database.lost = lambda: "the file is somebody else's"
        refused = writer.run(lambda: emit("z"))
        await asyncio.wait([refused])
        assert isinstance(refused.exception(), StoreUnavailable)

    in_loop(shelf, test)
    assert shelf.counting.numbers.counters["accepted"] == {"orders": 8}  # a to f, aa and ff
    commits, seconds = (shelf.counting.numbers.histograms[it][""] for it in ("commit_messages", "commit_seconds"))
    assert (sum(commits.counts), commits.sum) == (3, 8)
    assert sum(seconds.counts) == 3
    assert seconds.sum > 0


def test_a_transaction_without_new_messages_is_a_commit_and_no_group_of_them(shelf: Shelf) -> None:
    async def test(writer: Writer) -> None:
        await writer.run(lambda: None)

    in_loop(shelf, test)
    commits, seconds = (shelf.counting.numbers.histograms[it][""] for it in ("commit_messages", "commit_seconds"))
    assert (sum(commits.counts), sum(seconds.counts)) == (0, 1)


# --- what becomes of it -------------------------------------------------------------


def test_settling_tells_what_messages_came_to(shelf: Shelf) -> None:
    shelf.queue.send([shelf.message(name) for name in "abcdef"])
    a, b, c, d, e, f = shelf.claim()
    assert shelf.settle((a, Commit("{}")), (b, Commit("{}"))) == {"processed": 2}
    assert shelf.settle((b, Commit("{}")), (c, Reject("no")), (d, FAILURE)) == {"rejected": 1, "dead": 1}
    assert shelf.settle((c, FAILURE), (a, FAILURE)) == {}  # late, and final already
    assert shelf.settle((e, FAILURE), (f, Failure("unavailable", "Sick", "ill")), max_attempts=2) == {"retried": 2}


def test_a_dead_letter_that_a_late_delivery_ends_is_none_any_more(shelf: Shelf) -> None:
    shelf.queue.send([shelf.message(name) for name in "abcde"])
    a, b, c, d, e = shelf.claim()
    assert shelf.settle((a, FAILURE), (b, FAILURE), (c, FAILURE)) == {"dead": 3}
    assert shelf.settle((a, FAILURE)) == {}  # dead it was before
    assert shelf.settle((a, Commit("{}"))) == {"processed": 1, "dead_ended": 1}
    assert shelf.settle((b, Commit("{}")), (d, Commit("{}"))) == {"processed": 2, "dead_ended": 1}
    assert shelf.settle((c, Reject("no")), (e, Commit("{}"))) == {"processed": 1, "rejected": 1, "dead_ended": 1}


def test_what_a_claim_buries_is_dead_when_that_is_on_the_disk(shelf: Shelf) -> None:
    """Not before, and not where it was undone."""

    async def test(writer: Writer) -> None:
        groups = Groups({"orders": orders.WORKLOAD}, None, writer.loop.time, {"": 1})
        watches = Watches(SqliteEnds(shelf.database), writer.run)
        settler = Settler(writer, shelf.queue, shelf.table, Policy(3), groups, watches, lambda _: None)

        def claim(fails: bool) -> None:
            settler.forget_buried()
            for delivery in shelf.claim():
                assert settler.received_too_often(delivery, 0)
            if fails:
                raise ValueError

        shelf.queue.send([shelf.message(name) for name in "abc"])
        with pytest.raises(ValueError):
            await writer.run(lambda: claim(fails=True))
        shelf.now += 31_000
        await writer.run(lambda: claim(fails=False))
        assert shelf.counting.numbers.counters["dead"] == {"orders": 0}
        settler.tell_buried()

    in_loop(shelf, test)
    assert shelf.counting.numbers.counters["dead"] == {"orders": 3}
    assert len(list(shelf.letters.find(Wanted()))) == 3


# --- how long it waited -------------------------------------------------------------


def waited(shelf: Shelf) -> dict[str, int]:
    return {delivery.message.id: delivery.waited_ms for delivery in shelf.claim()}


@pytest.mark.parametrize("group", ["", "ana"])
@pytest.mark.parametrize("ordered", [False, True])
def test_a_message_waits_from_when_it_could_be_handed_out(shelf: Shelf, group: str, ordered: bool) -> None:
    shelf.database.ordered = frozenset(["orders"] if ordered else [])
    shelf.queue.send([shelf.message("a", group=group)])
    shelf.now += 700
    shelf.queue.send([shelf.message("b", group="ben", due_at=shelf.now + 5_000)])
    assert waited(shelf) == {"a": 700}
    shelf.now += 5_300
    assert waited(shelf) == {"b": 300}


def test_a_dead_letter_that_was_put_back_has_waited_since_then(shelf: Shelf) -> None:
    shelf.queue.send([shelf.message("a")])
    shelf.settle((shelf.claim()[0], FAILURE))
    shelf.now += 86_400_000
    letter = shelf.letters.get("a")
    assert letter is not None
    shelf.letters.redrive([letter])
    shelf.now += 40
    assert waited(shelf) == {"a": 40}


def test_only_first_deliveries_have_waited_for_a_worker(shelf: Shelf) -> None:
    message = shelf.message("a")
    shelf.counting.taken("orders", [Delivery(message, "1.a", 1, 200), Delivery(message, "2.a", 2, 9_000)])
    shelf.counting.taken("orders", [Delivery(message, "2.a", 2, 9_000)])
    shelf.counting.taken_at_once("orders", 3)
    several = [Delivery(message, "1.a", 1, waited_ms) for waited_ms in (0, 600, 700, 90_000_000)]
    shelf.counting.taken("orders", several[1:3])  # close together
    shelf.counting.taken("orders", several)
    counts = shelf.counting.numbers.histograms["waiting_seconds"]["orders"]
    assert counts.counts == [4, 0, 0, 1, 4, *[0] * 7, 1]
    assert round(counts.sum, 9) == 90_002.8


# --- requests -----------------------------------------------------------------------


def test_what_a_front_has_counted_is_told_once() -> None:
    requests, counting = Requests(), Counting(["orders"])
    assert requests.take() is None
    requests.accepted("orders", 0.0015)
    requests.refused(422)
    requests.refused(422)
    counting.of_requests(requests.take())
    assert requests.take() is None
    requests.accepted("orders", 100.0)
    counting.of_requests(requests.take())
    counting.of_requests(None)
    counting.requests.refused(503)  # the writer's own
    numbers = counting.numbers
    assert numbers.counters["refused"] == {"422": 2, "503": 1}
    assert numbers.histograms["accept_seconds"] == {"orders": Counts([0, 1, *[0] * 10, 1], 100.0015)}


def test_many_at_once_are_counted_as_they_would_be_one_by_one() -> None:
    values = [0.0, 0.001, 0.0015, 0.002, 0.002, 0.3, 10.0, 10.5, 99.0]
    for some in (values, values[::-1], values[2:5], values[:1], values[-2:]):
        together, single = Counts([0] * (len(LATENCY_S) + 1)), Counts([0] * (len(LATENCY_S) + 1))
        together.observe_all(LATENCY_S, some)
        for value in some:
            single.observe(LATENCY_S, value)
        assert (together.counts, round(together.sum, 9)) == (single.counts, round(single.sum, 9))


def test_what_a_front_has_noted_is_bounded_and_all_of_it_is_told() -> None:
    requests = Requests()
    for number in range(3 * limits.MAX_NOTED + 5):
        requests.accepted("orders", 0.0015 if number % 2 else 0.3)
        assert sum(map(len, requests.noted.values())) < limits.MAX_NOTED
    told = requests.take()
    assert told is not None
    half = (3 * limits.MAX_NOTED + 5) // 2
    assert told.histograms["accept_seconds"]["orders"].counts == [0, half, *[0] * 6, half + 1, *[0] * 4]


def test_the_writer_has_counted_a_request_as_soon_as_it_is_answered() -> None:
    counting = Counting(["orders"])
    counting.requests.accepted("orders", 0.0015)
    assert sum(counting.numbers.histograms["accept_seconds"]["orders"].counts) == 1
