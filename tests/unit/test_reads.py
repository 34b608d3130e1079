"""Reads that come in one turn of the loop share a snapshot, and the loop sees to others before it would be held up.
With a real database, written by another connection."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from decoupled.core.outcomes import Record
from decoupled.core.workload import Message
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.ends import SqliteEnds
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.table import SqliteTable
from decoupled.server.http.gateway import Gateway
from decoupled.server.http.request import Request
from decoupled.server.http.turns import TURN_S
from decoupled.workloads import orders
from tests.support.wire import Found


class SlowTable(SqliteTable):
    """Each read takes all of a turn."""

    def get(self, message_id: str) -> Record | None:
        found = super().get(message_id)
        until = time.perf_counter() + TURN_S
        while time.perf_counter() < until:
            pass
        return found


def request_for(message_id: str) -> Request:
    found = Found()
    found.reader.feed(b"GET /orders/%s HTTP/1.1\r\nhost: x\r\n\r\n" % message_id.encode())
    (request,) = found.requests
    return request


def reading(directory: Path, table: type[SqliteTable], test: Callable[[Gateway, SqliteQueue], Any]) -> None:
    async def main() -> None:
        with (
            contextlib.closing(Database(directory / "decoupled.sqlite3")) as written,
            contextlib.closing(Database(directory / "decoupled.sqlite3", read_only=True)) as read,
        ):
            sender, health = Any, Any
            loop, workloads = asyncio.get_running_loop(), {"orders": orders.WORKLOAD}
            gateway = Gateway(sender, table(read), SqliteEnds(read), workloads, health, loop, snapshot=read.snapshot)  # type: ignore[arg-type]
            await test(gateway, SqliteQueue(written))

    asyncio.run(main())


async def until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not there():
            await asyncio.sleep(0)


def test_the_loop_sees_to_others_between_reads_that_take_long(tmp_path: Path) -> None:
    async def test(gateway: Gateway, _: SqliteQueue) -> None:
        answered: list[Any] = []
        for _number in range(5):
            gateway.handle(request_for("a" * 40), answered.append)
        seen = set()

        def turned() -> bool:
            seen.add(len(answered))
            return len(answered) == 5

        await until(turned)
        assert seen == {0, 1, 2, 3, 4, 5}

    reading(tmp_path, SlowTable, test)


def test_a_read_that_waits_for_its_turn_sees_what_was_stored_meanwhile(tmp_path: Path) -> None:
    async def test(gateway: Gateway, queue: SqliteQueue) -> None:
        answered: list[Any] = []
        for number in range(3):
            gateway.handle(request_for(f"{number}" * 40), answered.append)
        await until(lambda: len(answered) == 1)
        queue.send([Message("2" * 40, "orders", "{}", "anonymous", 0)])
        await until(lambda: len(answered) == 3)
        assert [response.status for response in answered] == [404, 404, 200]

    reading(tmp_path, SlowTable, test)


def test_one_reply_that_fails_keeps_no_answer_from_the_others(tmp_path: Path) -> None:
    async def test(gateway: Gateway, _: SqliteQueue) -> None:
        answered: list[Any] = []

        def fails(_: Any) -> None:
            raise RuntimeError("this client")

        gateway.handle(request_for("a" * 40), fails)
        gateway.handle(request_for("b" * 40), answered.append)
        await until(lambda: len(answered) == 1)

    reading(tmp_path, SqliteTable, test)
