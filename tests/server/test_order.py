"""Ordered workloads behind a server: the next of a group goes as soon as the one before it has ended, and no sooner,
whatever fails, dies or is killed."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct

from decoupled.core.workload import Effects, Message, Workload
from tests.support.chaos import order
from tests.support.server import Server
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


# --- real servers -------------------------------------------------------------------


@pytest.fixture
def seed() -> int:
    """Of when the server is killed; `ORDER_SEED` draws the same moments again."""
    chosen = int(os.environ.get("ORDER_SEED", random.randrange(1_000_000)))
    print(f"ORDER_SEED={chosen}")  # noqa: T201  shown when the test fails
    return chosen


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data", *order.OPTIONS)
    yield server
    server.end()


@pytest.mark.parametrize(
    ("groups", "each", "kills"), [(60, 20, 3), pytest.param(1_000, 100, 50, marks=pytest.mark.soak)]
)
def test_no_step_is_out_of_turn_through_kills(server: Server, seed: int, groups: int, each: int, kills: int) -> None:
    order.run(server, seed, groups, each, kills)
    assert order.inversions(server) == []
    statuses = order.account_for_all(server, groups, each)
    assert statuses["rejected"]


def test_steps_that_are_not_ordered_are_out_of_turn(server: Server, seed: int) -> None:
    """Otherwise the test above would show nothing."""
    server.environment = {"STEPS_IN_ANY_ORDER": "1"}
    order.run(server, seed, groups=60, each=10, kills=0)
    assert order.inversions(server)
    order.account_for_all(server, groups=60, each=10)
