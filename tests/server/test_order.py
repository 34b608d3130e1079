"""Ordered workloads behind a server: the next of a group goes as soon as the one before it has ended."""

from __future__ import annotations

from msgspec import Struct

from decoupled.core.workload import Effects, Message, Workload
from tests.support.virtual_time import EPOCH_MS, EmbeddedInVirtualTime, run


class Ping(Struct):
    pass


def pong(_ping: Ping, _message: Message) -> Effects:
    return Effects({})


def test_the_next_of_a_group_does_not_wait_for_the_clock() -> None:
    workloads = {"pings": Workload("pings", Ping, pong, ordered=True)}
    count = 200

    async def a_while() -> None:
        server = EmbeddedInVirtualTime(workloads)
        server.send([Message(f"ping-{number}", "pings", "{}", "", EPOCH_MS, "a") for number in range(count)])
        server.start()
        await server.until_finished(within_s=10)  # virtual ones; with a look each TICK_S it would take fifty
        order = server.database.execute("SELECT id FROM messages ORDER BY finished_at, seq").fetchall()
        assert order == [(f"ping-{number}",) for number in range(count)]

    run(a_while())
