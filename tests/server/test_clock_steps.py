"""The system's clock is set back, or ahead, under a running server and between two: nothing waits for it, and what is
told of the messages stays sane. `make chaos` runs these, too."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from decoupled.core.times import parse_rfc3339
from tests.support.server import DECOUPLED, LAUNCH, Server, wait_for

HOUR_S, DAY_S = 3_600, 86_400
MESSAGES = 25
WORKS_S = 0.02  # so that some of them wait when the clock is set
SLOW = {"act": "slow", "seconds": WORKS_S}
WITHIN_S = 40.0  # far from an hour, and from what a machine under load takes


class Clocked(Server):
    """A server whose system's clock can be set. The steady clock cannot."""

    def __init__(self, directory: Path) -> None:
        self.by_s = directory / "by_s"
        self.set_clock(0)
        options = ("--workloads", "hazards,ledger,echoes", "--concurrency", "1", "--max-attempts", "1")
        super().__init__(directory / "data", *options, program=(*LAUNCH, "clock", str(self.by_s)))

    def set_clock(self, by_s: int) -> None:
        """By so much it differs from the real one from now on."""
        draft = self.by_s.with_suffix(".new")
        draft.write_text(str(by_s))
        draft.replace(self.by_s)

    def tool(self, *arguments: str) -> str:
        """What a command prints, which goes by the real clock."""
        command = [str(DECOUPLED), *arguments, "--data", str(self.data)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Clocked]:
    server = Clocked(tmp_path)
    yield server
    server.end()


def send(server: Server, *more: dict[str, Any]) -> list[str]:
    return server.accept("/hazards", *[SLOW] * MESSAGES, *more)


def times_of(server: Server) -> list[tuple[int, int]]:
    return server.rows("SELECT accepted_at, finished_at FROM messages WHERE status = 'processed' ORDER BY seq")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.mark.parametrize("by_s", [-HOUR_S, DAY_S])
def test_a_clock_that_is_set_under_a_running_server_makes_nothing_wait(
    server: Clocked, tmp_path: Path, by_s: int
) -> None:
    server.start()
    fails_once = {"act": "unavailable", "once": str(tmp_path / "once")}  # and comes back after a backoff
    send(server, fails_once)
    server.set_clock(by_s)
    send(server)
    server.accept("/ledger", {"account": 1, "amount": 1})  # and what it emits
    assert server.wait_until_settled(WITHIN_S) == {"processed": 2 * MESSAGES + 3}


def test_a_clock_that_is_set_wrong_for_a_moment_leaves_no_trace(server: Clocked, tmp_path: Path) -> None:
    server.start()
    server.set_clock(DAY_S)
    began_ms = now_ms()
    send(server, {"act": "unavailable", "once": str(tmp_path / "once")})
    wait_for((tmp_path / "once").exists)
    server.set_clock(0)
    send(server)
    assert server.wait_until_settled(WITHIN_S) == {"processed": 2 * MESSAGES + 1}
    for accepted_ms, processed_ms in times_of(server):
        assert began_ms - 1_000 <= accepted_ms <= processed_ms <= now_ms() + 1_000


@pytest.mark.parametrize(("before_s", "after_s"), [(0, -HOUR_S), (DAY_S, 0)])
@pytest.mark.parametrize("same_boot", [True, False])
def test_a_clock_that_is_set_between_two_servers_makes_nothing_wait(
    server: Clocked, tmp_path: Path, before_s: int, after_s: int, same_boot: bool
) -> None:
    server.set_clock(before_s)
    server.start()
    begun = tmp_path / "begun"
    send(server, {"act": "unavailable", "once": str(begun)} if same_boot else SLOW)
    wait_for(begun.exists if same_boot else server.statuses)
    server.kill()
    server.set_clock(after_s)
    if not same_boot:
        (server.data / "clock").write_text("another-start-of-the-machine 0\n")
    server.start()
    assert server.wait_until_settled(WITHIN_S) == {"processed": MESSAGES + 1}
    for accepted_ms, processed_ms in times_of(server):
        assert accepted_ms <= processed_ms


@pytest.mark.parametrize("same_boot", [True, False])
def test_what_is_due_later_is_due_by_the_time_of_day_when_a_server_starts(server: Clocked, same_boot: bool) -> None:
    server.start()
    for delay_s in (HOUR_S, DAY_S):
        assert server.post("/hazards", {"act": "well"}, delay=str(delay_s)).status == 202
    server.kill()
    server.set_clock(HOUR_S + 60)
    if not same_boot:
        (server.data / "clock").write_text("another-start-of-the-machine 0\n")
    server.start()
    wait_for(server.statuses, lambda it: it == {"processed": 1, "queued": 1}, WITHIN_S)
    assert json.loads(server.tool("status", "--json"))["delayed"] == 1


def test_a_key_means_the_same_message_whatever_the_clock_says(server: Clocked) -> None:
    server.start()
    ids = []
    for by_s in (0, -HOUR_S, DAY_S, 0):
        server.set_clock(by_s)
        answer = server.post("/hazards", {"act": "well"}, idempotency_key='"a-key"')
        assert answer.status == 202
        ids.append(answer.json["id"])
    assert len(set(ids)) == 1
    assert server.wait_until_settled(WITHIN_S) == {"processed": 1}
    assert server.rows("SELECT json_extract(item, '$.well') FROM items") == [(1,)]


@pytest.mark.parametrize("by_s", [-HOUR_S, DAY_S])
def test_tools_and_a_server_whose_clock_is_another_work_together(server: Clocked, tmp_path: Path, by_s: int) -> None:
    """A dead letter is found though it died tomorrow, and what is redriven waits for no clock."""
    server.set_clock(by_s)
    server.start()
    (message_id,) = server.accept("/hazards", {"act": "raise", "once": str(tmp_path / "once")})
    server.wait_until("dead", f"/hazards/{message_id}", seconds=WITHIN_S)
    (letter,) = [json.loads(line) for line in server.tool("dead", "list", "--json").splitlines()]
    assert letter["id"] == message_id
    assert parse_rfc3339(letter["accepted_at"]) <= parse_rfc3339(letter["dead_at"])
    server.tool("dead", "redrive", "--all")
    server.wait_until("processed", f"/hazards/{message_id}", seconds=WITHIN_S)
    assert json.loads(server.tool("status", "--json"))["delayed"] == 0
