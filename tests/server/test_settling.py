"""What becomes of decisions on their way to the store: several batches are one step, and none is lost when no
transaction can be made. With the real writer, queue and table, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from decoupled.core.outcomes import Commit, Delivery
from decoupled.core.workload import Message
from decoupled.engines.protocols import StoreUnavailable
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.ends import SqliteEnds
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.table import SqliteTable
from decoupled.pipeline.settlement import Policy
from decoupled.server.group_commit import Writer
from decoupled.server.scheduling.groups import Groups
from decoupled.server.scheduling.settling import Settler
from decoupled.server.watches import Watches
from decoupled.workloads import orders
from tests.support import virtual_time


class Bench:
    """A settler, and the messages that it settles: ten are in flight."""

    def __init__(self, directory: Path) -> None:
        self.database = Database(directory / "decoupled.sqlite3")
        self.queue, self.table = SqliteQueue(self.database), SqliteTable(self.database)
        messages = [Message(f"m-{n}", "orders", "{}", "", 0) for n in range(10)]
        self.deliveries = self.queue.send_claimed(messages, 30)
        self.settled: list[str] = []
        loop = asyncio.get_running_loop()
        writer = Writer(self.database, self.queue, loop)
        groups = Groups({"orders": orders.WORKLOAD}, None, loop.time, {"": 1})
        watches = Watches(SqliteEnds(self.database), writer.run)
        self.settler = Settler(writer, self.queue, self.table, Policy(3), groups, watches, self.settled.append)

    def settle(self, *deliveries: Delivery) -> None:
        self.settler.settle([(delivery, Commit("{}")) for delivery in deliveries])

    async def done(self) -> None:
        while self.settler.pending:
            await asyncio.sleep(0.01)

    def processed(self) -> int:
        sql = "SELECT count(*) FROM messages WHERE status = 'processed'"
        count: int = self.database.execute(sql).fetchone()[0]
        return count


def on(directory: Path, test: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        bench = Bench(directory)
        try:
            await test(bench)
        finally:
            bench.database.close()

    virtual_time.run(main())


def test_what_several_batches_came_to_is_stored_in_one_step(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.settle(*bench.deliveries[:4])
        bench.settle(*bench.deliveries[4:])
        await bench.done()
        assert bench.processed() == 10
        assert bench.settled == ["orders"]
        bench.settle(bench.deliveries[0])  # what comes later is of another step
        await bench.done()
        assert bench.settled == ["orders", "orders"]

    on(tmp_path, test)


def test_what_joins_a_step_whose_transaction_cannot_begin_is_stored_with_it_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(bench: Bench) -> None:
        begin = bench.database.begin

        def begin_once_in_vain() -> None:
            monkeypatch.setattr(bench.database, "begin", begin)
            asyncio.get_running_loop().call_soon(bench.settle, *bench.deliveries[6:])
            raise StoreUnavailable("the disk is full")

        monkeypatch.setattr(bench.database, "begin", begin_once_in_vain)
        bench.settle(*bench.deliveries[:6])
        await bench.done()
        assert bench.processed() == 10
        bench.settle(bench.deliveries[0])
        await bench.done()
        assert bench.settled == ["orders", "orders"]

    on(tmp_path, test)


def test_what_comes_while_a_step_is_stored_is_no_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        commit = bench.database.commit

        def commit_once_in_vain() -> None:
            monkeypatch.setattr(bench.database, "commit", commit)
            bench.settle(*bench.deliveries[6:])
            bench.database.roll_back()
            raise StoreUnavailable("the disk is full")

        monkeypatch.setattr(bench.database, "commit", commit_once_in_vain)
        bench.settle(*bench.deliveries[:6])
        await bench.done()
        assert bench.processed() == 10
        assert bench.settled == ["orders", "orders"]

    on(tmp_path, test)
