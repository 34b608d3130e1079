"""The audit in a server's background: it goes round, says so, tells of what it finds, and remembers where it was."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from decoupled.core import upkeep_limits
from decoupled.core.audit import Fault, Mark, Step
from decoupled.core.workload import Unavailable
from decoupled.engines.sqlite.audit_blocks import mark_of
from decoupled.engines.sqlite.audit_rounds import AuditRounds
from decoupled.engines.sqlite.database import FILE_NAME, Database
from decoupled.server.upkeep.auditing import Auditing, rest_s
from tests.support.rows import many
from tests.support.server import DECOUPLED, LAUNCH, Server, wait_for

T = TypeVar("T")

FAST = (*LAUNCH, "limits", "AUDIT_FIRST_S=0.1,AUDIT_ROUND_S=0.2,AUDIT_PART=1.0")


def told(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.get("/health").json
    return found


def audited(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = told(server)["upkeep"].get("audit", {})
    return found


def test_a_server_audits_itself_and_tells_a_person_on_call_what_it_has_found(tmp_path: Path) -> None:
    many(tmp_path / "data", 1_000)
    server = Server(tmp_path / "data", "--workloads", "readings", program=FAST)
    server.start()
    try:
        wait_for(lambda: audited(server).get("rounds", 0) >= 2)
        assert told(server)["status"] == "ok"
        assert audited(server)["faults"] == 0
        assert audited(server)["messages"] >= 2_000
        assert "nothing wrong" in audited(server)["says"]
        wait_for(lambda: mark(server).highest == 1_000)
        server.kill()

        with contextlib.closing(sqlite3.connect(server.data / FILE_NAME)) as file:
            file.execute("DELETE FROM messages WHERE seq = 300 OR seq > 990")
            file.commit()
        server.start()
        wait_for(lambda: audited(server).get("faults") == 2)
        health = told(server)
        assert health["status"] == "degraded"
        assert "10 messages: an audit has seen more [numbers 991 to 1000]" in health["detail"]
        assert "1 more faults: `decoupled audit` tells of all" in health["detail"]
        assert "1 of 990 messages are neither there nor removed" in server.logged()
        assert server.get("/metrics").body.decode().count("decoupled_audit_faults 2") == 1
        said = subprocess.run(
            [DECOUPLED, "status", "--data", server.data], capture_output=True, text=True, timeout=60, check=True
        ).stdout
        assert "2 kinds of faults" in " ".join(said.split())
        assert server.stop() == 0, server.logged()
    finally:
        server.kill()


def mark(server: Server) -> Mark:
    with contextlib.closing(Database(server.data / FILE_NAME, read_only=True)) as database:
        return mark_of(database)


def test_it_goes_block_after_block_and_on_from_where_it_was(tmp_path: Path) -> None:
    many(tmp_path, 3 * upkeep_limits.BLOCK_MESSAGES)
    rounds = AuditRounds(tmp_path / FILE_NAME, Mark())
    steps = [rounds.step() for _ in range(2)]
    assert [step.rows for step in steps] == [upkeep_limits.BLOCK_MESSAGES - 1, upkeep_limits.BLOCK_MESSAGES]
    assert not any(step.ended for step in steps)
    left_off = rounds.mark
    rounds.close()
    assert left_off == Mark(3 * upkeep_limits.BLOCK_MESSAGES, 2, 0)
    rounds = AuditRounds(tmp_path / FILE_NAME, left_off)
    last = [rounds.step() for _ in range(2)]
    assert [step.rows for step in last] == [upkeep_limits.BLOCK_MESSAGES, 1]
    assert [step.ended for step in last] == [False, True]
    assert rounds.mark == Mark(3 * upkeep_limits.BLOCK_MESSAGES, 0, 1)
    rounds.close()


def test_a_file_that_has_got_shorter_ends_the_round(tmp_path: Path) -> None:
    many(tmp_path, 10)
    rounds = AuditRounds(tmp_path / FILE_NAME, Mark(block=7))
    assert rounds.step().ended
    assert rounds.step().rows == 10
    rounds.close()


# --- what becomes of what it finds ------------------------------------------------------


FAULT = Fault(kind="missing", what="1 of 10 messages are neither there nor removed", where="numbers 1 to 10")


class Played:
    """Steps that a test has written; after them it is unavailable."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.mark = Mark()
        self.seen: Callable[[], None] = lambda: None
        self.closed = False
        self.marks = False  # whether it gets anywhere

    def step(self) -> Step:
        self.seen()
        self.mark = Mark(rounds=self.mark.rounds + self.marks)
        if not self.steps:
            raise Unavailable("the disk is gone")
        return self.steps.pop(0)

    def close(self) -> None:
        self.closed = True


class Unwriting:
    """A writer that fails, while requests come without a pause."""

    def __init__(self, busy: bool = False) -> None:
        self.busy = busy

    def run(self, _operation: Callable[[], T]) -> asyncio.Future[T]:
        future = asyncio.get_running_loop().create_future()
        future.set_exception(Unavailable("no space"))
        return future

    def gives_way(self) -> bool:
        return self.busy


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep_limits, "AUDIT_FIRST_S", 0.0)
    monkeypatch.setattr(upkeep_limits, "AUDIT_ROUND_S", 0.0)
    monkeypatch.setattr(upkeep_limits, "AUDIT_PART", 1.0)


def play(rounds: Played, writer: Unwriting | None = None, until: str = "does not go on") -> list[str]:
    """What health says before each step, and at the end."""
    said: list[str] = []

    async def played() -> None:
        auditing = Auditing(rounds, writer or Unwriting(), lambda _: lambda: None, asyncio.get_running_loop())
        rounds.seen = lambda: said.append(trouble.detail if (trouble := auditing.trouble()) else "")
        auditing.start()
        while not ((trouble := auditing.trouble()) and until in trouble.detail):
            await asyncio.sleep(0.01)
        said.append(trouble.detail)
        await auditing.close()
        assert rounds.closed

    asyncio.run(asyncio.wait_for(played(), 20))
    return said


def test_a_fault_is_told_until_a_whole_round_has_not_found_it_again() -> None:
    rounds = Played(Step(5, [FAULT], False), Step(5, [FAULT], True), Step(5, [], False), Step(5, [], True))
    before, first, second, third, *_ = play(rounds)
    assert before == ""
    assert all("1 of 10 messages" in said for said in (first, second, third))


def test_what_does_not_go_on_says_so() -> None:
    assert play(Played())[-1] == "the audit does not go on: the disk is gone"


def test_where_it_is_that_cannot_be_written_is_told() -> None:
    rounds = Played(*[Step(1, [], True)] * 1_000)
    rounds.marks = True
    assert "cannot be written: no space" in play(rounds, until="cannot be written")[-1]


def test_a_large_file_is_read_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep_limits, "AUDIT_ROUND_S", 3_600.0)
    monkeypatch.setattr(upkeep_limits, "AUDIT_PART", 0.1)
    assert rest_s(60.0, reading_s=60.0) == 3_540.0
    assert rest_s(5_000.0, reading_s=5_000.0) == 45_000.0
    assert rest_s(50_000.0, reading_s=5_000.0) == 0.0, "it was requests that it waited for"


def test_it_gives_way_to_requests_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep_limits, "AUDIT_YIELD_S", 0.5)
    writer, rounds = Unwriting(busy=True), Played(Step(1, [FAULT], False))
    assert "1 of 10" in play(rounds, writer, until="1 of 10")[-1]


def test_the_mark_of_another_version_is_none(tmp_path: Path) -> None:
    with contextlib.closing(Database(tmp_path / FILE_NAME)) as database:
        for text in ("[1]", json.dumps({"highest": "x"}), "no JSON"):
            database.execute("INSERT OR REPLACE INTO marks VALUES ('audit', ?)", (text,))
            assert mark_of(database) == Mark()
