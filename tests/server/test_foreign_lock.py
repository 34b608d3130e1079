"""Another process holds the lock of the database: only what has to be written waits, and not for ever."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from decoupled.core import limits
from tests.support.server import Server, wait_for

ENTRY = {"account": 1, "amount": 5}
FREEZE_S = 4.0  # SQLite would wait for five


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data", "--workloads", "ledger,echoes,hazards", "--drain", "1")
    yield server.start()
    server.end()


@contextlib.contextmanager
def locked(server: Server) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(server.data / "decoupled.sqlite3", isolation_level=None)) as other:
        other.execute("PRAGMA busy_timeout = 5000")
        other.execute("BEGIN IMMEDIATE")
        yield


def test_a_lock_of_another_process_delays_writes_and_nothing_else(server: Server) -> None:
    ids = server.accept("/ledger", ENTRY)
    server.wait_until("processed", f"/ledger/{ids[0]}")
    with ThreadPoolExecutor() as pool, locked(server):
        began = time.monotonic()
        writing = pool.submit(server.post, "/ledger", ENTRY)
        while not writing.done():
            asked = time.monotonic()
            assert server.get(f"/ledger/{ids[0]}").json["status"] == "processed"
            server.get("/health")
            assert time.monotonic() - asked < limits.LOCK_WAIT_S  # it would take what the write takes
        refused = writing.result()
        assert limits.LOCK_WAIT_S / 2 < time.monotonic() - began < FREEZE_S
        assert (refused.status, refused.json["resend"]) == (503, "safe")
        assert int(refused.headers["retry-after"]) > 0
        assert "another process" in refused.json["detail"]
        health = server.get("/health")
        assert (health.status, health.json["status"]) == (503, "unavailable")
        assert "another process has held the lock" in health.json["detail"]
    accepted = wait_for(lambda: server.post("/ledger", ENTRY), lambda answer: answer.status == 202)
    server.wait_until("processed", f"/ledger/{accepted.json['id']}")
    wait_for(lambda: server.get("/health").json["status"], lambda status: status == "ok")
    item = server.get("/ledger/accounts/1").json
    assert item == {"entries": 2, "total": 2 * ENTRY["amount"]}  # what was refused was not accepted all the same


def test_a_request_that_meets_a_short_lock_is_accepted(server: Server) -> None:
    for _ in range(5):  # on a busy machine two seconds may be over between two looks: then the lock was not short
        with ThreadPoolExecutor() as pool:
            with locked(server):
                writing = pool.submit(server.post, "/ledger", ENTRY)
                seen = wait_for(lambda: server.get("/health").json["status"], lambda status: status != "ok")
            answer = writing.result()
        if seen == "degraded":
            break
        wait_for(lambda: server.post("/ledger", ENTRY).status, lambda status: status == 202)
    assert (seen, answer.status) == ("degraded", 202)


def test_what_was_decided_meanwhile_is_stored_later(server: Server, tmp_path: Path) -> None:
    began = tmp_path / "began"
    (message_id,) = server.accept("/hazards", {"act": "slow", "seconds": 0.3, "touch": str(began)})
    wait_for(began.exists)
    with locked(server):
        wait_for(lambda: "settlement failed" in server.logged())
        assert server.get(f"/hazards/{message_id}").json["status"] == "queued"
    server.wait_until("processed", f"/hazards/{message_id}")
    assert server.rows("SELECT receive_count FROM messages WHERE id = ?", message_id) == [(1,)]


def test_a_server_stops_in_time_and_loses_nothing_while_it_is_locked(server: Server, tmp_path: Path) -> None:
    began = tmp_path / "began"
    (message_id,) = server.accept("/hazards", {"act": "slow", "seconds": 0.3, "touch": str(began)})
    wait_for(began.exists)
    with locked(server):
        server.stop()
    assert "Traceback" not in server.logged()
    server.start()
    server.wait_until("processed", f"/hazards/{message_id}")
