"""Servers and workers that are killed under load, at random moments and at named points, and started again on the same
data. Then every id is accounted for."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time

from tests.support.ledger import Load, account_for_everything
from tests.support.server import LAUNCH, Server, wait_for

OPTIONS = ("--workloads", "ledger,echoes", "--log-level", "WARNING")
POINTS = (  # of launch.py
    "before_begin",
    "after_begin",
    "after_insert",
    "before_commit_of_a_send",
    "after_commit_of_a_send",
    "after_claim",
    "before_commit_of_a_claim",
    "after_commit_of_a_claim",
    "before_settle",
    "before_commit_of_a_settlement",
    "after_commit_of_a_settlement",
    "after_release",
    "checkpoint",
)


def kill_servers(server: Server, seed: int, points: tuple[str, ...], at_random: int) -> int:
    """At each of these points and so many times at random, in any order. How many entries were accepted."""
    choose = random.Random(seed)
    crashes: list[str | None] = [*points, *[None] * at_random]
    choose.shuffle(crashes)
    with Load(server.port, seed) as load:
        for point in crashes:
            if point is None:
                _kill_at_random(server, choose)
            else:
                _kill_at(server, point, choose.randint(1, 8))
        server.start()
        before = len(load.accepted)
        wait_for(lambda: len(load.accepted) > before)  # it serves on
    account_for_everything(server, load)
    return len(load.accepted)


def kill_workers(server: Server, seed: int, kills: int) -> int:
    """Workers of one server, one after the other. How many entries were accepted."""
    choose = random.Random(seed)
    server.start()
    with Load(server.port, seed) as load:
        for _ in range(kills):
            _kill_a_worker(server, choose, load)
    account_for_everything(server, load)
    return len(load.accepted)


def _kill_a_worker(server: Server, choose: random.Random, load: Load) -> None:
    """And see that entries are accepted after that."""
    wait_for(lambda: server.get("/health").json["workers"])
    workers = wait_for(server.workers)
    before = len(load.accepted)
    with contextlib.suppress(ProcessLookupError):
        os.kill(choose.choice(workers), signal.SIGKILL)
    wait_for(lambda: len(load.accepted) > before)


def _kill_at_random(server: Server, choose: random.Random) -> None:
    server.spawn()
    if choose.random() < 0.8:
        server.wait_until_up()
    time.sleep(choose.uniform(0, 0.4))  # not a wait for anything: the moment is what is random
    server.kill()
    assert server.process is not None
    assert server.process.returncode == -signal.SIGKILL, server.logged()


def _kill_at(server: Server, point: str, nth: int) -> None:
    server.spawn(*LAUNCH, point, "1" if point == "after_release" else str(nth))
    status = server.wait()
    assert status == -signal.SIGKILL, f"{point}, {nth}th time: {status} {server.logged()}"
