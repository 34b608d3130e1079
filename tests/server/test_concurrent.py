"""Workloads that call others are decided many at once, by processes of their own. What one message does to its process
costs the others a moment, and nobody else a thing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.receivers import http_receiver
from tests.support.server import DECOUPLED, Server, alive, wait_for

OPTIONS = ("--workloads", "calls,threads,hazards", "--max-attempts", "2")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data", *OPTIONS, "--concurrency", "1")
    yield server
    server.end()


@pytest.fixture
def noted(tmp_path: Path) -> Path:
    """Where each message leaves a file when it is begun."""
    directory = tmp_path / "noted"
    directory.mkdir()
    return directory


def begun(noted: Path) -> Counter[str]:
    """How often each message was."""
    return Counter(file.name.partition("-")[0] for file in noted.iterdir())


@contextlib.contextmanager
def meeting(count: int) -> Iterator[int]:
    """The port of a server that answers when so many ask at the same time."""
    with socket.create_server(("127.0.0.1", 0), backlog=count) as listener, contextlib.ExitStack() as stack:

        def serve() -> None:
            with contextlib.suppress(OSError):
                connections = [stack.enter_context(listener.accept()[0]) for _ in range(count)]
                for connection in connections:
                    connection.sendall(b"well\n")

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def failures(server: Server) -> dict[str, tuple[int, str | None, str | None]]:
    """Attempts, error and its text of every message that has any."""
    rows = server.rows("SELECT id, attempts, error_type, error FROM messages WHERE attempts > 0 OR error IS NOT NULL")
    return {message_id: (attempts, kind, text) for message_id, attempts, kind, text in rows}


# --- at once ------------------------------------------------------------------


def test_two_hundred_calls_are_in_flight_in_one_process(server: Server) -> None:
    server.start()
    with meeting(200) as port:
        ids = server.accept("/calls", *[{"act": "ask", "port": port}] * 200)
        records = server.wait_until("processed", *[f"/calls/{message_id}" for message_id in ids])
    assert len({record["result"]["pid"] for record in records}) == 1


def test_a_library_that_blocks_is_called_from_as_many_threads_as_the_workload_says(server: Server) -> None:
    server.start()
    with meeting(8) as port:
        ids = server.accept("/threads", *[{"act": "ask", "port": port}] * 8)
        records = server.wait_until("processed", *[f"/threads/{message_id}" for message_id in ids])
    assert len({record["result"]["pid"] for record in records}) == 1
    assert len({record["result"]["thread"] for record in records}) == 8


def test_no_more_are_in_flight_than_the_workload_says_and_the_rest_waits_in_the_queue(server: Server) -> None:
    server.start()
    ids = server.accept("/threads", *[{"act": "sleep", "seconds": 0.05}] * 60)
    seen = []
    while server.statuses().get("processed", 0) < len(ids):
        ((hidden,),) = server.rows("SELECT count(*) FROM messages WHERE receive_count > 0 AND status = 'queued'")
        seen.append(hidden)
    assert 1 <= max(seen) <= 8


def test_calls_that_hang_keep_no_other_workload_waiting(server: Server) -> None:
    server.start()
    with meeting(1_000) as port:  # never
        server.accept("/calls", *[{"act": "ask", "port": port}] * 600)
        ids = server.accept("/hazards", *[{}] * 20)
        server.wait_until("processed", *[f"/hazards/{message_id}" for message_id in ids])


def test_processes_that_call_are_there_only_for_workloads_that_do(server: Server) -> None:
    server.options = ("--workloads", "hazards", "--concurrency", "2")
    server.start()
    wait_for(lambda: server.get("/health").json["workers"], lambda ready: ready == 2)
    assert len(server.workers()) == 2
    server.stop()
    server.options = ("--workloads", "calls", "--concurrency", "2")
    server.start()
    wait_for(lambda: server.get("/health").json["workers"], lambda ready: ready == 2)
    assert len(server.workers()) == 2
    (message_id,) = server.accept("/calls", {})
    server.wait_until("processed", f"/calls/{message_id}")


def test_notifications_to_a_receiver_that_hangs_keep_no_other_receiver_waiting(server: Server) -> None:
    server.options = ("--workloads", "notifications", "--concurrency", "2")
    server.environment = {
        "WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "WEBHOOK_TRUSTED_HOSTS": "127.0.0.1,localhost",
    }
    server.start()
    notification: dict[str, Any] = {"type": "order.shipped", "subject": "s", "text": "t"}
    with meeting(10_000) as hangs, http_receiver() as receiver:
        to = [{"kind": "webhook", "url": f"http://127.0.0.1:{hangs}/"}]
        server.accept("/notifications", *[notification | {"to": to}] * 1_000)
        to = [{"kind": "webhook", "url": f"http://localhost:{receiver.port}/"}]
        ids = server.accept("/notifications", *[notification | {"to": to}] * 100)
        server.wait_until("processed", *[f"/notifications/{message_id}" for message_id in ids])
        assert Counter(headers["webhook-id"] for _, headers, _ in receiver.requests) == dict.fromkeys(ids, 1)
        assert server.statuses() == {"processed": 100, "queued": 1_000}


# --- deadlines ----------------------------------------------------------------


def test_each_has_its_own_deadline_and_one_that_swallows_it_holds_up_nobody(server: Server, noted: Path) -> None:
    server.options += ("--function-timeout", "1")
    server.start()
    late, stubborn, *good = server.accept(
        "/calls", {"act": "sleep", "seconds": 60}, {"act": "swallow"}, *[{"act": "sleep", "seconds": 0.7}] * 20
    )
    server.wait_until("dead", f"/calls/{late}", f"/calls/{stubborn}")
    server.wait_until("processed", *[f"/calls/{message_id}" for message_id in good])
    found = failures(server)
    assert found.keys() == {late, stubborn}
    assert {kind for _, kind, _ in found.values()} == {"TimeLimitExceeded"}


def test_one_that_hangs_in_the_network_is_not_to_blame(server: Server) -> None:
    server.options += ("--function-timeout", "1")
    server.start()
    with meeting(2) as port:
        ids = [*server.accept("/calls", {"act": "ask", "port": port}), *server.accept("/threads", {})]
        wait_for(lambda: [it for it in server.log_lines() if it.get("kind") == "unavailable"])
    server.wait_until("processed", f"/threads/{ids[1]}")
    assert failures(server) == {}


@pytest.mark.parametrize("act", ["block_in_python", "block_in_c"])
def test_one_that_blocks_its_process_fails_and_the_others_do_not(server: Server, act: str) -> None:
    server.options += ("--function-timeout", "1")
    server.start()
    bad, *good = server.accept("/calls", {"act": act}, *[{"act": "sleep", "seconds": 0.2}] * 20)
    server.wait_until("processed", *[f"/calls/{message_id}" for message_id in good], seconds=60)
    server.wait_until("dead", f"/calls/{bad}", seconds=60)
    assert failures(server).keys() == {bad}


def test_threads_that_do_not_end_are_decided_and_their_process_is_replaced(server: Server, tmp_path: Path) -> None:
    server.options += ("--function-timeout", "1")
    server.start()
    hung = [{"act": "sleep", "seconds": 60, "once": str(tmp_path / f"once-{number}")} for number in range(4)]
    ids = server.accept("/threads", *hung, *[{"act": "sleep", "seconds": 0.1}] * 20)
    server.wait_until("processed", *[f"/threads/{message_id}" for message_id in ids])
    health = wait_for(lambda: server.get("/health").json, lambda it: it["workers_replaced"]["stuck"] == 1)
    assert health["workers_replaced"] == {"memory": 0, "messages": 0, "stuck": 1}
    (line,) = [line for line in server.log_lines() if line["message"] == "worker replaced"]
    assert line["cause"] == "4 threads of threads do not end, of 8 that there may be"
    status = [str(DECOUPLED), "status", "--json", "--data", str(server.data)]
    notes = json.loads(subprocess.run(status, capture_output=True, timeout=60, check=True).stdout)["notes"]
    assert "workers replaced for their calls that do not end: 1" in notes
    assert [line for line in server.log_lines() if line["message"] == "worker lost"] == []


# --- crashes ------------------------------------------------------------------


def test_of_hundreds_that_were_with_a_process_when_it_died_only_the_one_that_killed_it_dies(
    server: Server, noted: Path
) -> None:
    server.options = ("--workloads", "calls", "--max-attempts", "2", "--concurrency", "2")
    server.start()
    good: dict[str, Any] = {"act": "sleep", "seconds": 0.2, "noted": str(noted)}
    entries = [*[good] * 150, {"act": "exit", "seconds": 0.05}, *[good] * 150]
    ids = server.accept("/calls", *entries)
    poison = ids.pop(150)
    server.wait_until("processed", *[f"/calls/{message_id}" for message_id in ids], seconds=60)
    (record,) = server.wait_until("dead", f"/calls/{poison}", seconds=60)
    assert record["attempts"] == 2
    assert failures(server).keys() == {poison}
    assert server.rows("SELECT json_extract(item, '$.sleep') FROM items") == [(300,)]
    assert max(begun(noted).values()) <= 11  # its first try, and a half of a half … of those who were with the bad one
    lost = [line for line in server.log_lines() if line["message"] == "worker lost"]
    assert len(lost) <= 11  # of 150, down to it alone, and once more alone at its second try
    assert {line["cause"] for line in lost} == {"exit status 4"}


def test_two_that_kill_their_process_are_both_found(server: Server) -> None:
    server.start()
    good = {"act": "sleep", "seconds": 0.1}
    ids = server.accept("/calls", {"act": "exit"}, *[good] * 30, {"act": "exit", "seconds": 0.05}, *[good] * 30)
    first, *others = ids
    second = others.pop(30)
    server.wait_until("processed", *[f"/calls/{message_id}" for message_id in others], seconds=60)
    server.wait_until("dead", f"/calls/{first}", f"/calls/{second}", seconds=60)
    assert failures(server).keys() == {first, second}


def test_a_process_that_somebody_kills_is_nobodys_fault(server: Server, noted: Path) -> None:
    server.options = ("--workloads", "calls", "--max-attempts", "2", "--concurrency", "1")
    server.start()
    ids = server.accept("/calls", *[{"act": "sleep", "seconds": 1, "noted": str(noted)}] * 100)
    wait_for(lambda: begun(noted), lambda it: len(it) == 100)
    for worker in server.workers():
        os.kill(worker, signal.SIGKILL)
    server.wait_until("processed", *[f"/calls/{message_id}" for message_id in ids])
    assert failures(server) == {}
    assert max(begun(noted).values()) == 2


def test_what_was_in_flight_when_the_server_was_killed_is_done_by_the_next_one(server: Server, noted: Path) -> None:
    server.start()
    ids = server.accept("/calls", *[{"act": "sleep", "seconds": 1, "noted": str(noted)}] * 100)
    wait_for(lambda: begun(noted), lambda it: len(it) == 100)
    workers = server.workers()
    server.kill()
    wait_for(lambda: [pid for pid in workers if alive(pid)], lambda left: not left)
    server.start()
    server.wait_until("processed", *[f"/calls/{message_id}" for message_id in ids])
    assert server.rows("SELECT json_extract(item, '$.sleep') FROM items") == [(100,)]


def test_sigterm_finishes_all_that_is_in_flight(server: Server, noted: Path) -> None:
    server.start()
    server.accept("/calls", *[{"act": "sleep", "seconds": 0.7, "noted": str(noted)}] * 100)
    wait_for(lambda: begun(noted), lambda it: len(it) == 100)
    assert server.stop() == 0, server.logged()
    assert server.statuses() == {"processed": 100}


def test_a_process_with_messages_enough_makes_way_and_nothing_is_decided_twice(server: Server, noted: Path) -> None:
    server.options += ("--worker-messages", "50")
    server.start()
    ids = server.accept("/calls", *[{"act": "sleep", "seconds": 0.05, "noted": str(noted)}] * 600)
    server.wait_until("processed", *[f"/calls/{message_id}" for message_id in ids])
    assert set(begun(noted).values()) == {1}
    assert server.get("/health").json["workers_replaced"]["messages"] >= 2


# --- what they say --------------------------------------------------------------


@pytest.mark.parametrize("workload", ["calls", "threads"])
def test_what_is_printed_and_logged_is_told_with_its_message(server: Server, workload: str) -> None:
    server.start()
    ids = server.accept(f"/{workload}", *[{"act": "tell", "seconds": 0.2}] * 5)
    server.wait_until("processed", *[f"/{workload}/{message_id}" for message_id in ids])

    def told() -> list[dict[str, Any]]:
        return [line for line in server.log_lines() if line["logger"] in ("stdout", workload)]

    lines = wait_for(told, lambda lines: len(lines) == 15)
    assert Counter(line["message_id"] for line in lines) == dict.fromkeys(ids, 3)
    assert {line["workload"] for line in lines} == {workload}
    assert {line["message"] for line in lines} <= {"told", "before and after", "at last"}
