"""However the process dies, nothing that was answered 202 is lost, and nothing is applied twice. The server is
killed under load, at random moments and at named points, and started again on the same data; then every id is accounted
for."""

from __future__ import annotations

import http.client
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chaos import crashes
from tests.support.server import LAUNCH, Server

RANDOM_KILLS = 24
FRONT_KILLS, SERVER_KILLS_BESIDE = 16, 4
WORKER_KILLS = 25


@pytest.fixture
def seed() -> int:
    """Of this run; `CRASH_SEED` replays one."""
    chosen = int(os.environ.get("CRASH_SEED", random.randrange(1_000_000)))
    print(f"CRASH_SEED={chosen}")  # noqa: T201  shown when the test fails
    return chosen


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data", *crashes.OPTIONS)
    yield server
    server.end()


def test_nothing_is_lost_or_done_twice_in_fifty_crashes(server: Server, seed: int) -> None:
    crashes.kill_servers(server, seed, (*crashes.POINTS, *crashes.POINTS), RANDOM_KILLS)


def test_nothing_is_lost_or_done_twice_when_fronts_and_servers_are_killed_in_turn(server: Server, seed: int) -> None:
    crashes.kill_fronts_and_servers(server, seed, FRONT_KILLS, SERVER_KILLS_BESIDE)


@pytest.mark.parametrize("point", ["after_insert", "before_commit_of_a_send", "after_commit_of_a_send"])
def test_a_message_that_an_idle_server_hands_to_a_worker_at_once_is_sent_again_safely(
    server: Server, point: str
) -> None:
    server.spawn(*LAUNCH, point, "1")
    server.wait_until_up()
    entry, headers = {"account": 1, "amount": 3}, {"idempotency_key": '"once"'}
    with pytest.raises((OSError, http.client.HTTPException)):
        server.post("/ledger", entry, **headers)
    assert server.wait() == -signal.SIGKILL, server.logged()
    server.start()
    ((before,),) = server.rows("SELECT count(*) FROM messages WHERE workload = 'ledger'")
    assert before == (1 if point == "after_commit_of_a_send" else 0)
    location = server.post("/ledger", entry, **headers).headers["location"]
    server.wait_until("processed", location)
    assert server.get("/ledger/accounts/1").json == {"entries": 1, "total": 3}


def test_killed_workers_lose_nothing(server: Server, seed: int) -> None:
    crashes.kill_workers(server, seed, WORKER_KILLS)
