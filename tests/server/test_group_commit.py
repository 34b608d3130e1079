"""The group commit: who is told what, and how a long queue and a busy front share it. With an event loop that does one
thing at a time, when the test says so."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from decoupled.core import limits
from decoupled.core.outcomes import REUSED, Delivery, NotSent, Reject, Stored, Together
from decoupled.core.workload import Message
from decoupled.engines.protocols import StoreBusy, StoreDamaged, StoreUnavailable
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.table import SqliteTable
from decoupled.server.group_commit import LOCK_PAUSE_MOST_S, MAX_CREDIT, REFUSED_IN_A_ROW, Writer
from decoupled.server.health import Trouble
from tests.support import virtual_time
from tests.support.damage import Pages


class Loop:
    """An event loop's list of what comes next, and its clock."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []
        self.now = 0.0

    def call_soon(self, call: Callable[[], object]) -> Handle:
        self.calls.append(call)
        return Handle(self.calls, call)

    def call_later(self, _seconds: float, call: Callable[[], object]) -> Handle:
        return self.call_soon(call)

    def create_future(self: Any) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def run(self) -> None:
        while self.calls:
            self.calls.pop(0)()


class Handle:
    def __init__(self, calls: list[Callable[[], object]], call: Callable[[], object]) -> None:
        self.calls, self.call = calls, call

    def cancel(self) -> None:
        self.calls.remove(self.call)


class Workers:
    """Take so many of each group at once."""

    visibility_timeout_s = 30.0

    def __init__(self) -> None:
        self.room = 0
        self.taken: list[Delivery] = []

    def take(self, fresh: Sequence[Message]) -> tuple[Sequence[Message], Sequence[Message]]:
        return fresh[: self.room], fresh[self.room :]

    def sent(self, claimed: list[Delivery]) -> None:
        self.taken += claimed


class Bench:
    """A writer, all that it works with, and what senders were told."""

    def __init__(self, file: Path | str = ":memory:", loop: Any = None) -> None:
        self.loop: Any = Loop() if loop is None else loop
        self.database = Database(file)
        self.queue = SqliteQueue(self.database, lambda: 1000)
        self.writer = Writer(self.database, self.queue, cast("asyncio.AbstractEventLoop", self.loop))
        self.workers = self.writer.taker = Workers()
        self.told: list[Together] = []
        self.sent = 0
        self.lost = ""

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            self.sent += 1
            self.writer.send([Message(f"m-{self.sent}", "orders", "{}", "", 0)], self.told.append)

    def send_keyed(self, *keyed: tuple[str, str]) -> None:
        """One request with an entry for each id and digest."""
        messages = [Message(message_id, "orders", "{}", "", 0, digest=digest) for message_id, digest in keyed]
        self.writer.send(messages, self.told.append)

    def send_as(self, *ids: str) -> None:
        for message_id in ids:
            self.writer.send([Message(message_id, "orders", "{}", "", 0)], self.told.append)

    def queued(self) -> int:
        """Messages that wait for a claim."""
        sql = "SELECT count(*) FROM messages WHERE status = 'queued' AND in_flight = 0"
        count: int = self.database.execute(sql).fetchone()[0]
        return count

    def claim(self) -> int:
        """What the poller does at every occasion, in one transaction with what was sent: how many it got."""
        if self.writer.gives_way():
            self.loop.run()
            return 0
        got = self.writer.run(lambda: len(self.queue.claim("orders", self.writer.take_spare(1000), 30)))
        self.loop.run()
        return got.result()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.database.close()


def saturate(bench: Bench, groups: int) -> int:
    """Group after group of 64 requests, with no pause; how many older messages were claimed meanwhile."""
    claimed = 0
    for _ in range(groups):
        bench.send(64)
        claimed += bench.claim()
        bench.loop.now += 0.001
    return claimed


def test_requests_of_one_moment_share_a_transaction_and_hear_when_it_is_stored(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = []
    commit = bench.database.commit

    def count() -> None:
        commits.append(len(bench.told))
        commit()

    monkeypatch.setattr(bench.database, "commit", count)
    bench.send(3)
    operation = bench.writer.run(lambda: "done")
    assert bench.told == []
    bench.loop.run()
    assert (commits, bench.told, operation.result(), bench.queued()) == ([0], [None] * 3, "done", 3)


def test_what_would_hold_up_the_loop_goes_into_several_transactions_in_its_order(bench: Bench) -> None:
    told: list[int] = []

    def send(number: int, bodies: int, size: int) -> None:
        messages = [Message(f"{number}-{place}", "orders", "x" * size, "", 0) for place in range(bodies)]
        bench.writer.send(messages, lambda outcome: told.append(number) if outcome is None else None)

    half = limits.MAX_TRANSACTION_BYTES // 2
    send(1, 1, half)
    send(2, 1, 100)
    send(3, 100, half // 50)  # too much on its own, and never divided
    send(4, 2_000, 1)
    send(5, 1, 100)
    looked_up = bench.writer.run(bench.queued)
    rounds: list[list[int]] = []
    while bench.loop.calls:
        bench.loop.calls.pop(0)()
        rounds.append(told[len([number for one in rounds for number in one]) :])
    assert rounds == [[1, 2], [3], [4, 5]]
    assert looked_up.result() == 2
    assert bench.queued() == 2_103
    bench.send()
    bench.loop.run()
    assert bench.told == [None]


def test_an_operation_that_fails_is_undone_alone(bench: Bench) -> None:
    def fail() -> None:
        bench.queue.send([Message("other", "orders", "{}", "", 0)])
        raise KeyError("no")

    bench.send()
    failing, working = bench.writer.run(fail), bench.writer.run(lambda: 1)
    bench.loop.run()
    assert isinstance(failing.exception(), KeyError)
    assert (working.result(), bench.told, bench.queued()) == (1, [None], 1)


def test_a_transaction_that_fails_is_nobodys_success(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        bench.database.roll_back()
        raise StoreUnavailable("disk I/O error", unknown=True)

    monkeypatch.setattr(bench.database, "commit", refuse)
    bench.send(2)
    operation = bench.writer.run(lambda: 1)
    bench.loop.run()
    assert bench.told == [NotSent("the queue cannot be written: disk I/O error", unknown=True)] * 2
    assert isinstance(operation.exception(), StoreUnavailable)
    failure = bench.writer.failure
    assert failure == "disk I/O error"
    assert bench.queued() == 0
    monkeypatch.undo()
    bench.send()
    bench.loop.run()
    assert (bench.told[2:], bench.writer.failure, bench.queued()) == ([None], None, 1)


def test_a_sender_that_cannot_be_told_keeps_nothing_from_the_others(bench: Bench) -> None:
    def gone(_outcome: Together) -> None:
        raise ConnectionError("it left")

    bench.writer.send([Message("first", "orders", "{}", "", 0)], gone)
    bench.send()
    bench.loop.run()
    assert (bench.told, bench.queued()) == ([None], 2)


def test_a_saturated_front_goes_first_and_a_long_queue_still_gets_shorter(bench: Bench) -> None:
    bench.send(20_000)
    bench.loop.run()
    bench.workers.room = 64  # whoever comes is taken at once
    claimed = saturate(bench, 1000)
    assert 0 < claimed <= MAX_CREDIT + 0.05 * 64_000
    assert bench.queued() == 20_000 - claimed
    assert 0.03 * 64_000 < saturate(bench, 1000) < 0.05 * 64_000


def test_behind_workers_without_room_a_queue_grows_only_slowly(bench: Bench) -> None:
    saturate(bench, 100)
    before = bench.queued()
    saturate(bench, 200)
    assert 0 < bench.queued() - before < 0.2 * 200 * 64


def test_a_front_that_pauses_leaves_the_queue_to_the_workers(bench: Bench) -> None:
    bench.workers.room = 64
    saturate(bench, 100)
    bench.workers.room = 0
    bench.send(3000)
    bench.loop.run()
    bench.loop.now += 0.02
    got = [bench.claim() for _ in range(3)]
    bench.loop.now += 2
    assert got[-1] >= 64
    assert bench.claim() == 1000


# --- keys that come with another entry ------------------------------------------


@pytest.mark.parametrize("room", [0, 2, 9])
def test_each_request_hears_of_its_own_entries_whoever_takes_them(bench: Bench, room: int) -> None:
    bench.workers.room = room
    bench.send_keyed(("a", "1"), ("b", "1"))
    bench.send_keyed(("a", "2"), ("c", "2"))
    bench.send_keyed(("a", "1"), ("c", "2"))
    bench.send_keyed(("a", "2"))
    bench.send(1)
    bench.loop.run()
    assert bench.told == [None, [REUSED, None], None, [REUSED], None]
    assert bench.queued() + len(bench.workers.taken) == 4
    assert len({delivery.message.id for delivery in bench.workers.taken}) == len(bench.workers.taken) == min(room, 4)


def test_a_transaction_that_fails_as_a_whole_is_told_to_all_alike(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        bench.database.roll_back()
        raise StoreUnavailable("disk full")

    bench.send_keyed(("a", "1"))
    bench.loop.run()
    monkeypatch.setattr(bench.database, "commit", fail)
    bench.send_keyed(("a", "2"), ("b", "2"))
    bench.send(1)
    bench.loop.run()
    assert bench.told[1:] == [NotSent("the queue cannot be written: disk full")] * 2


# --- damage -------------------------------------------------------------------

KEPT = 3_000


def readable(file: Path, message_id: str) -> bool:
    with contextlib.closing(sqlite3.connect(file)) as connection, contextlib.suppress(sqlite3.DatabaseError):
        return bool(connection.execute("SELECT 1 FROM messages WHERE id = ?", (message_id,)).fetchall())
    return False


@pytest.fixture
def damaged(tmp_path: Path) -> Iterator[Bench]:
    """A writer whose file is damaged where some of the ids stand; `lost` is one of them."""
    file = tmp_path / "decoupled.sqlite3"
    bench = Bench(file)
    bench.queue.send([Message(f"m-{number:04}", "orders", "{}", "", 0) for number in range(KEPT)])
    bench.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    leaves = Pages(file).leaves("sqlite_autoindex_messages_1")
    Pages(file).overwrite(leaves[len(leaves) // 2])
    bench.database.execute("PRAGMA shrink_memory")
    bench.lost = next(f"m-{number:04}" for number in range(KEPT) if not readable(file, f"m-{number:04}"))
    yield bench
    bench.database.close()


def test_a_request_that_meets_damage_is_refused_and_those_of_its_group_are_not(damaged: Bench) -> None:
    damaged.send_as("a", damaged.lost, "z")
    works = damaged.writer.run(lambda: "done")
    damaged.loop.run()
    refused = NotSent("the queue cannot be written: a part of it is damaged")
    assert sorted(damaged.told, key=repr) == [None, None, refused]
    assert works.result() == "done"
    assert damaged.queued() == KEPT + 2
    assert damaged.writer.trouble() is None  # others are accepted; what is damaged, the database says


def test_damage_in_a_group_keeps_nobody_from_hearing_of_a_key_that_came_before(damaged: Bench) -> None:
    damaged.send_keyed(("a", "1"))
    damaged.send_as(damaged.lost)
    damaged.send_keyed(("a", "2"), ("b", "1"))
    damaged.send_keyed(("b", "2"))
    damaged.loop.run()
    refused = NotSent("the queue cannot be written: a part of it is damaged")
    assert damaged.told == [refused, None, [REUSED, None], [REUSED]]
    assert damaged.queued() == KEPT + 2


def test_a_request_whose_key_stands_where_the_file_is_damaged_is_refused_alone(tmp_path: Path) -> None:
    file = tmp_path / "decoupled.sqlite3"
    bench = Bench(file)
    bench.queue.send([Message(f"m-{number:04}", "orders", "{}", "", 0, digest="1") for number in range(KEPT)])
    bench.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    leaves = Pages(file).leaves("messages")
    (lost, *_) = Pages(file).rows(leaves[len(leaves) // 2])  # its row, and not its id
    Pages(file).overwrite(leaves[len(leaves) // 2])
    bench.database.execute("PRAGMA shrink_memory")
    bench.send_keyed(("a", "1"))
    bench.send_keyed((f"m-{lost - 1:04}", "2"))
    bench.send_keyed(("m-0000", "2"), ("m-0001", "1"))
    bench.loop.run()
    refused = NotSent("the queue cannot be written: a part of it is damaged")
    assert bench.told == [refused, None, [REUSED, None]]
    bench.database.close()


def test_an_operation_that_meets_damage_fails_alone(damaged: Bench) -> None:
    table = SqliteTable(damaged.database)
    meets_it = damaged.writer.run(
        lambda: table.commit([(Message(damaged.lost, "orders", "{}", "", 0), Reject("no"))], 0)
    )
    works = damaged.writer.run(lambda: table.commit([(Message("m-0000", "orders", "{}", "", 0), Reject("no"))], 0))
    damaged.send_as("a")
    damaged.loop.run()
    assert isinstance(meets_it.exception(), StoreDamaged)
    assert works.result() == [Stored("rejected", "no")]
    assert (damaged.told, damaged.queued()) == ([None], KEPT)


def test_where_every_request_meets_damage_none_can_be_accepted(damaged: Bench) -> None:
    for _ in range(REFUSED_IN_A_ROW):
        assert damaged.writer.trouble() is None
        damaged.send_as(damaged.lost)
        damaged.loop.run()
    trouble = damaged.writer.trouble()
    assert trouble is not None
    assert trouble.refuses
    damaged.send_as("a")
    damaged.loop.run()
    assert damaged.writer.trouble() is None


def test_a_page_that_the_disk_does_not_give_back_fails_who_asked_for_it(bench: Bench) -> None:
    def read() -> None:
        bench.database.roll_back()  # as SQLite does
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
        raise error

    bench.send(2)
    reading, works = bench.writer.run(read), bench.writer.run(lambda: 1)
    bench.loop.run()
    assert isinstance(reading.exception(), StoreDamaged)
    assert (works.result(), bench.told, bench.queued()) == (1, [None, None], 2)


# --- another process's lock ---------------------------------------------------


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """By another connection that writes."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def test_a_request_waits_for_a_lock_only_so_long_and_is_told_that_it_is_not_accepted(tmp_path: Path) -> None:
    file = tmp_path / "decoupled.sqlite3"

    async def wait() -> None:
        bench = Bench(file, asyncio.get_running_loop())
        bench.database.begin_serving(lambda _: None)
        with locked(file):
            bench.send(3)
            works = bench.writer.run(lambda: 1)
            await asyncio.sleep(limits.LOCK_WAIT_S / 2)
            assert (bench.told, works.done()) == ([], False)
            assert bench.writer.trouble() == Trouble("another process has held the lock of the database for 1.0 s")
            await asyncio.sleep(limits.LOCK_WAIT_S / 2 + LOCK_PAUSE_MOST_S)
            assert bench.told == [NotSent("the queue cannot be written: another process holds its lock")] * 3
            assert isinstance(works.exception(), StoreBusy)
            trouble = bench.writer.trouble()
            assert trouble is not None
            assert trouble.refuses
            bench.send()
            await asyncio.sleep(0.1)
        await asyncio.sleep(2 * LOCK_PAUSE_MOST_S)
        assert bench.told[3:] == [None]
        assert bench.writer.trouble() is None
        assert bench.queued() == 1
        bench.database.close()

    virtual_time.run(wait())


def test_a_lock_of_a_moment_costs_a_moment(tmp_path: Path) -> None:
    file = tmp_path / "decoupled.sqlite3"

    async def wait() -> None:
        bench = Bench(file, asyncio.get_running_loop())
        bench.database.begin_serving(lambda _: None)
        with locked(file):
            bench.send()
            await asyncio.sleep(0.003)
        await asyncio.sleep(0.01)
        assert bench.told == [None]
        bench.database.close()

    virtual_time.run(wait())
