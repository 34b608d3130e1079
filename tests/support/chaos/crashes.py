"""Servers, fronts and workers that are killed under load, at random moments and at named points, and started again on
the same data. Then every id is accounted for."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

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

FRONT_POINTS = (  # of faulty_front.py
    "before_a_frame",
    "halfway_in_a_frame",
    "after_a_frame",
    "before_the_answers",
    "between_two_answers",
    "after_the_answers",
)
FRONTS = 3


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


def kill_fronts_and_servers(server: Server, seed: int, fronts: int, servers: int) -> int:
    """So many of each, half at named points and half at random, in any order. How many entries were accepted."""
    choose = random.Random(seed)
    fault = server.data.parent / "fault"
    server.options = (*server.options, "--fronts", str(FRONTS))
    server.program = (*LAUNCH, "front", str(fault))
    kills: list[tuple[str, str | None]] = []
    for kind, count, points in (("front", fronts, FRONT_POINTS), ("server", servers, POINTS)):
        kills += [(kind, points[number // 2 % len(points)] if number % 2 else None) for number in range(count)]
    choose.shuffle(kills)
    with Load(server.port, seed) as load:
        for kind, point in kills:
            before = len(load.accepted)
            if kind == "front":
                _kill_a_front(server, choose, point, fault)
                wait_for(lambda before=before: len(load.accepted) > before)  # type: ignore[misc]
            elif point is None:
                _kill_at_random(server, choose)
            else:
                server.kill()
                _kill_at(server, point, choose.randint(1, 8), server.program)
        _run(server)
        wait_for(lambda: len(load.accepted) > before)
    assert not load.trouble, load.trouble[:3]
    account_for_everything(server, load)
    return len(load.accepted)


def arm(fault: Path, point: str) -> None:
    """For the next front that comes to this point; the file is gone when one has."""
    new = fault.with_suffix(".new")
    new.write_text(point)
    new.rename(fault)  # whole: a front may look at any moment


def _run(server: Server) -> None:
    """Have it up, whether it is or not."""
    if server.process is None or server.ended():
        server.start()


def _kill_a_front(server: Server, choose: random.Random, point: str | None, fault: Path) -> None:
    _run(server)
    if point is not None:
        arm(fault, point)
        wait_for(lambda: not fault.exists())
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(choose.choice(wait_for(server.fronts)), signal.SIGKILL)


def _kill_a_worker(server: Server, choose: random.Random, load: Load) -> None:
    """And see that entries are accepted after that."""
    wait_for(lambda: server.get("/health").json["workers"])
    workers = wait_for(server.workers)
    before = len(load.accepted)
    with contextlib.suppress(ProcessLookupError):
        os.kill(choose.choice(workers), signal.SIGKILL)
    wait_for(lambda: len(load.accepted) > before)


def _kill_at_random(server: Server, choose: random.Random) -> None:
    server.kill()
    server.spawn()
    if choose.random() < 0.8:
        server.wait_until_up()
    time.sleep(choose.uniform(0, 0.4))  # not a wait for anything: the moment is what is random
    server.kill()
    assert server.process is not None
    assert server.process.returncode == -signal.SIGKILL, server.logged()


def _kill_at(server: Server, point: str, nth: int, program: tuple[str, ...] = LAUNCH) -> None:
    server.spawn(*program, point, "1" if point == "after_release" else str(nth))
    status = server.wait()
    assert status == -signal.SIGKILL, f"{point}, {nth}th time: {status} {server.logged()}"
