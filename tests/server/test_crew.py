"""There are as many workers as there should be, or the server says that there are not, and why, and tries again. One
that has too much memory makes way, and no message notices."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import DECOUPLED, LAUNCH, Client, Server, wait_for

HEALTH = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /hazards HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n" + (
    b'{"act": "well"}'
)
WELL = {"act": "well"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data", "--workloads", "hazards", "--concurrency", "2", "--max-attempts", "2")
    yield server
    server.end()


def health(client: Client) -> dict[str, Any]:
    """As a client sees it that is there already."""
    client.send(HEALTH)
    answer = client.answer()
    assert answer.status == 200
    found: dict[str, Any] = answer.json
    return found


def degraded(client: Client, *words: str) -> None:
    """Health says so, and all of these words, before long."""

    def says(found: dict[str, Any]) -> bool:
        return found["status"] == "degraded" and all(word in found["detail"] for word in words)

    wait_for(lambda: health(client), says)


def well(server: Server) -> None:
    """All is well again before long, and everything that was accepted is processed, with nothing held against it."""
    wait_for(lambda: server.get("/health").json, lambda it: it["status"] == "ok" and it["workers"] == 2, 60)
    assert set(server.wait_until_settled()) == {"processed"}
    assert server.rows("SELECT count(*) FROM messages WHERE attempts > 0") == [(0,)]


def logged(server: Server, text: str) -> list[dict[str, Any]]:
    return [line for line in server.log_lines() if text in line["message"]]


def logged_once(server: Server, text: str) -> None:
    """A line of the log, which is written soon after what it tells of, and no second one."""
    wait_for(lambda: logged(server, text))
    assert len(logged(server, text)) == 1


# --- what cannot be started ----------------------------------------------------------


def test_a_process_that_may_open_no_more_files_says_so_and_goes_on_with_what_it_has(server: Server) -> None:
    """Neither can a worker be started then, nor a client be let in where there are no fronts."""
    server.options += ("--fronts", "0")
    server.start()
    wait_for(lambda: server.get("/health").json["workers"], lambda ready: ready == 2)
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(Client(server))
        health(client)
        may, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (_files(server.pid), hard))
        others = [stack.enter_context(Client(server)) for _ in range(16)]  # some of them wait in the kernel
        degraded(client, "no further client can be let in", "Too many open files")
        post(client)
        assert set(server.wait_until_settled()) == {"processed"}
        for worker in server.workers():
            os.kill(worker, signal.SIGKILL)
        degraded(client, "0 of 2 workers are ready", "Too many open files")
        post(client)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (may, hard))
        for other in others:
            assert health(other)
    well(server)
    logged_once(server, "workers are missing")
    logged_once(server, "no client can be let in")


def post(client: Client) -> None:
    client.send(POST)
    assert client.answer().status == 202


def _files(pid: int) -> int:
    """A limit that leaves no room above those that a process has open."""
    return max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()) + 1


def test_a_server_whose_first_workers_cannot_be_started_accepts_and_tries_again(server: Server, tmp_path: Path) -> None:
    no_process = tmp_path / "no_process"
    no_process.touch()
    server.program = (*LAUNCH, "no_process", str(no_process))
    server.options += ("--fronts", "0")
    server.start()
    with Client(server) as client:
        degraded(client, "0 of 2 workers are ready", "Resource temporarily unavailable")
        server.accept("/hazards", WELL, WELL)
        no_process.unlink()
    well(server)
    logged_once(server, "workers are missing")


def test_a_worker_that_ends_before_it_is_ready_is_nobodys_fault(server: Server, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    workload = tmp_path / "fragile.py"
    workload.write_text(FRAGILE.format(broken=str(broken)))
    server.options = ("--workloads", str(workload), "--concurrency", "2", "--max-attempts", "2")
    server.start()
    broken.touch()  # from now on it cannot be imported
    for worker in server.workers():
        os.kill(worker, signal.SIGKILL)
    with Client(server) as client:
        degraded(client, "of 2 workers are ready", "exit status 7")
        server.accept("/fragile", *[{}] * 30)
        degraded(client, "0 of 2 workers are ready", "exit status 7")
    broken.unlink()
    well(server)
    logged_once(server, "workers are missing")


FRAGILE = """
import os, sys
from pathlib import Path
from msgspec import Struct
from decoupled import Effects, Message, Workload

if Path({broken!r}).exists() and sys.argv[0].endswith("workers/process.py"):
    os._exit(7)

class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    pass

def process(entry: Entry, message: Message) -> Effects:
    return Effects({{}})

WORKLOAD = Workload("fragile", Entry, process)
"""


# --- workers that make way -----------------------------------------------------------


def test_a_worker_with_too_much_memory_makes_way_between_two_batches(server: Server, tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    noted.mkdir()
    server.options += ("--worker-memory", "120")
    server.start()
    leaks = {"act": "leak", "noted": str(noted)}
    ids = server.accept("/hazards", *[leaks] * 60)  # 8 MiB each
    server.wait_until("processed", *[f"/hazards/{message_id}" for message_id in ids], seconds=60)
    assert len(list(noted.iterdir())) == len(ids)  # none was decided twice
    assert server.rows("SELECT max(receive_count), max(attempts) FROM messages") == [(1, 0)]

    def replaced() -> dict[str, int]:
        counts: dict[str, int] = server.get("/health").json["workers_replaced"]
        return counts

    def told() -> list[dict[str, Any]]:
        return logged(server, "worker replaced")

    def notes() -> list[str]:
        status = [str(DECOUPLED), "status", "--json", "--data", str(server.data)]
        said: list[str] = json.loads(subprocess.run(status, capture_output=True, timeout=60, check=True).stdout)[
            "notes"
        ]
        return said

    assert told()
    # The last of them may end a moment after all is processed.
    wait_for(replaced, lambda counts: counts == {"memory": len(told()), "messages": 0, "stuck": 0})
    wait_for(notes, lambda said: f"workers replaced for their memory: {len(told())}" in said)
    assert all("MB of memory; it may have 120" in line["cause"] for line in told())
    assert logged(server, "worker lost") == []


def test_a_worker_makes_way_after_as_many_messages_as_it_should_decide(server: Server, tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    noted.mkdir()
    server.options += ("--worker-messages", "20")
    server.start()
    ids = server.accept("/hazards", *[{"act": "well", "noted": str(noted)}] * 100)
    server.wait_until("processed", *[f"/hazards/{message_id}" for message_id in ids], seconds=60)
    assert len(list(noted.iterdir())) == len(ids)
    assert server.rows("SELECT max(receive_count), max(attempts) FROM messages") == [(1, 0)]
    assert server.get("/health").json["workers_replaced"]["messages"] >= 3


def test_what_a_workload_needs_before_its_first_message_is_no_reason_to_replace_its_worker(server: Server) -> None:
    server.options += ("--worker-memory", "1")
    server.start()
    ids = server.accept("/hazards", *[WELL] * 50)
    server.wait_until("processed", *[f"/hazards/{message_id}" for message_id in ids])
    found = server.get("/health").json
    assert found["status"] == "degraded"
    assert "before its first message, and may have 1" in found["detail"]
    assert found["workers_replaced"] == {"memory": 0, "messages": 0, "stuck": 0}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux limits what a message may allocate")
def test_a_message_that_allocates_without_end_fails_alone(server: Server) -> None:
    server.options += ("--worker-memory", "100")
    server.start()
    before, bad, after = server.accept("/hazards", WELL, {"act": "allocate"}, WELL)
    server.wait_until("processed", f"/hazards/{before}", f"/hazards/{after}")
    server.wait_until("dead", f"/hazards/{bad}")
    assert server.rows("SELECT error_type FROM messages WHERE id = ?", bad) == [("MemoryError",)]
    assert logged(server, "worker lost") == []


@pytest.mark.skipif(not Path("/proc/self/oom_score_adj").exists(), reason="only Linux can be told whom to end first")
def test_when_the_machine_has_no_memory_left_a_worker_ends_before_the_server(server: Server) -> None:
    server.start()
    wait_for(lambda: server.get("/health").json["workers"], lambda ready: ready == 2)
    main = int(Path(f"/proc/{server.pid}/oom_score_adj").read_text())
    assert all(int(Path(f"/proc/{pid}/oom_score_adj").read_text()) > main for pid in server.workers())


def test_no_limit_is_no_limit(server: Server) -> None:
    server.options += ("--worker-memory", "0")
    server.start()
    ids = server.accept("/hazards", *[{"act": "leak"}] * 10)
    server.wait_until("processed", *[f"/hazards/{message_id}" for message_id in ids])
    for pid in server.workers():
        soft, _ = resource.prlimit(pid, resource.RLIMIT_DATA)
        assert soft == resource.getrlimit(resource.RLIMIT_DATA)[0]
    assert server.get("/health").json["workers_replaced"] == {"memory": 0, "messages": 0, "stuck": 0}


# --- what nobody foresaw -------------------------------------------------------------


@pytest.mark.parametrize("place", ["poller's clock", "settlement", "listener's clock"])
def test_an_error_that_nobody_foresaw_ends_the_server_in_order(server: Server, tmp_path: Path, place: str) -> None:
    bug = tmp_path / "bug"
    server.program = (*LAUNCH, "bug", f"{place}={bug}")
    server.options += ("--fronts", "0")
    server.start()
    server.accept("/hazards", *[WELL] * 5)
    server.wait_until_settled()
    bug.touch()
    accepted: list[str] = []
    with contextlib.suppress(ConnectionError):  # the server may end before it has answered
        answer = server.post("/hazards", [WELL] * 20)
        accepted = [f"/hazards/{it['id']}" for it in answer.json["accepted"]] if answer.status == 202 else []
    assert server.wait() == 1, server.logged()
    (critical,) = [line for line in server.log_lines() if line["level"] == "CRITICAL"]
    assert "ZeroDivisionError: a bug" in critical["traceback"]
    assert "nobody foresaw" in server.log.read_text().splitlines()[-1]
    server.start()
    if accepted:
        server.wait_until("processed", *accepted)
    well(server)
    assert server.rows("SELECT json_extract(item, '$.well') FROM items") == [(server.statuses()["processed"],)]


@pytest.mark.parametrize("place", ["connection", "connection's next step"])
def test_an_error_in_one_connection_ends_that_connection_alone(server: Server, tmp_path: Path, place: str) -> None:
    bug = tmp_path / "bug"
    server.program = (*LAUNCH, "bug", f"{place}={bug}")
    server.options += ("--fronts", "0")
    server.start()
    with Client(server) as other, Client(server) as client:
        health(other)
        health(client)
        bug.touch()
        client.send(POST * 3)  # in one read: the second is begun when the first is answered
        while client.socket.recv(65_536):
            pass
        assert health(other)
    logged_once(server, "a connection failed")
    assert server.stop() == 0, server.logged()


def test_a_connection_that_cannot_be_stopped_does_not_keep_the_server(server: Server, tmp_path: Path) -> None:
    bug = tmp_path / "bug"
    server.program = (*LAUNCH, "bug", f"connection's end={bug}")
    server.options += ("--fronts", "0")
    server.start()
    with Client(server) as client, Client(server) as other:
        health(client)
        health(other)
        bug.touch()
        assert server.stop() == 0, server.logged()
    logged_once(server, "a connection failed")
