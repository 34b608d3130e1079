"""The group commit: who is told what, and how a long queue and a busy front share it. With an event loop that does one
thing at a time, when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from decoupled.core.outcomes import Delivery, NotSent
from decoupled.core.workload import Message
from decoupled.engines.protocols import StoreUnavailable
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.server.group_commit import MAX_CREDIT, Writer


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

    def take(self, fresh: int) -> int:
        return min(fresh, self.room)

    def sent(self, claimed: list[Delivery]) -> None:
        self.taken += claimed


class Bench:
    """A writer, all that it works with, and what senders were told."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.database = Database(":memory:")
        self.queue = SqliteQueue(self.database, lambda: 1000)
        self.writer = Writer(self.database, self.queue, cast("asyncio.AbstractEventLoop", self.loop))
        self.workers = self.writer.taker = Workers()
        self.told: list[NotSent | None] = []
        self.sent = 0

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            self.sent += 1
            self.writer.send([Message(f"m-{self.sent}", "orders", "{}", "", 0)], self.told.append)

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
    def gone(_outcome: NotSent | None) -> None:
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
