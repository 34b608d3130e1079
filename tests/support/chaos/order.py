"""A server with an ordered workload that fails at random, killed again and again while a client sends. Then it is seen
whether any step was begun, or its effects stored, before its turn."""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from tests.support.server import Server

OPTIONS = ("--workloads", "steps", "--max-attempts", "2", "--log-level", "ERROR")
AT_ONCE = 1_000  # steps in a request
AHEAD = 2  # of each group
TRY_AGAIN_S = 0.05
MOST_S = 300.0


def run(server: Server, seed: int, groups: int, each: int, kills: int) -> None:
    """Send all steps, through so many kills; until each has ended."""
    choose = random.Random(seed)
    sender = threading.Thread(target=_send, args=(server, groups, each), daemon=True)
    server.start()
    sender.start()
    for _ in range(kills):
        time.sleep(choose.uniform(0, 0.6))  # not a wait for anything: the moment is what is random
        server.kill()
        server.start()
    sender.join(MOST_S)
    assert not sender.is_alive(), server.logged()
    server.wait_until_settled(seconds=MOST_S)
    assert server.stop() == 0, server.logged()


def log_of(server: Server) -> Path:
    """What was begun, in turn."""
    return server.data.with_suffix(".steps")


def _send(server: Server, groups: int, each: int) -> None:
    """A few steps of each group in one request, and the next ones when these are accepted."""
    log = str(log_of(server))
    for first in range(0, each, AHEAD):
        steps = [
            {"group": f"g{group}", "number": number, "log": log}
            for group in range(groups)
            for number in range(first, min(first + AHEAD, each))
        ]
        for start in range(0, len(steps), AT_ONCE):
            _send_until_accepted(server, steps[start : start + AT_ONCE], f'"{first}-{start}"')


def _send_until_accepted(server: Server, steps: list[dict[str, object]], key: str) -> None:
    until = time.monotonic() + MOST_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            if server.post("/steps", steps, idempotency_key=key).status == 202:
                return
        time.sleep(TRY_AGAIN_S)  # it is down, and comes back


def inversions(server: Server) -> list[str]:
    """Every step that was begun, or whose effects were stored, after a later one of its group."""
    begun = [line.split() for line in log_of(server).read_text().splitlines()]
    stored = server.rows("SELECT substr(key, 12) FROM items WHERE key LIKE 'steps/done/%' ORDER BY rowid")
    return _out_of_turn("begun", begun) + _out_of_turn("stored", [key.split(".") for (key,) in stored])


def _out_of_turn(what: str, steps: Iterable[list[str]]) -> list[str]:
    lines: defaultdict[str, list[int]] = defaultdict(list)
    for group, number in steps:
        lines[group].append(int(number))
    return [
        f"{what}: {group}.{later} before {group}.{earlier}"
        for group, numbers in lines.items()
        for later, earlier in pairwise(numbers)
        if later > earlier
    ]


def account_for_all(server: Server, groups: int, each: int) -> dict[str, int]:
    """Each step has ended, and the effects of those that were processed are there, once. Their statuses."""
    statuses = server.statuses()
    assert sum(statuses.values()) == groups * each, statuses
    ((stored,),) = server.rows("SELECT count(*) FROM items WHERE key LIKE 'steps/done/%'")
    assert stored == statuses["processed"]
    assert server.rows("SELECT count(*) FROM messages WHERE reason = 'done before'") == [(0,)]
    return statuses
