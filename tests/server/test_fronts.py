"""Fronts are processes: one that dies, hangs or is replaced takes its own clients along at most, and never a message
that was answered 202. None outlives the writer, and none says less than another one promised."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from decoupled.core import limits
from tests.support.chaos.crashes import FRONT_POINTS, arm
from tests.support.fronts import CHECK, Clients, clients_of, clients_on_each, ready, serves
from tests.support.server import DECOUPLED, LAUNCH, Answer, Client, Server, alive, wait_for

OPTIONS = ("--workloads", "checks", "--concurrency", "1", "--log-level", "WARNING")
HEALTH = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
QUICK = "WORKER_PROVEN_S=0.2,FRONT_SILENT_S=2.5,WRITER_BUSY_S=1,WRITER_SILENT_S=3,HEALTH_WAIT_S=1"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Three fronts, and short limits. A test leaves it well."""
    program = (*LAUNCH, "limits", QUICK)
    server = Server(tmp_path_factory.mktemp("fronts") / "data", *OPTIONS, "--fronts", "3", program=program)
    try:
        server.start()
        ready(server, 3)
        yield server
        assert server.stop() == 0, server.logged()
    finally:
        server.end()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data", *OPTIONS, "--fronts", "2")
    yield server
    server.end()


def post(client: Client, **check: Any) -> None:
    client.post(json.dumps(check).encode(), "content-type: application/json", path="/checks")


def health(client: Client) -> dict[str, Any]:
    client.send(HEALTH)
    found: dict[str, Any] = client.answer().json
    return found


def well(server: Server, fronts: int = 3) -> None:
    wait_for(lambda: server.get("/health").json, lambda it: it["status"] == "ok" and it["fronts"] == fronts)


def processed_once(server: Server) -> None:
    """All that is on the queue, each once."""
    assert set(server.wait_until_settled()) == {"processed"}
    ((messages,),) = server.rows("SELECT count(*) FROM messages")
    assert server.rows("SELECT json_extract(item, '$.times') FROM items") == [(messages,)]


# --- a front that dies, or hangs ------------------------------------------------------


@pytest.mark.parametrize("act", ["kill", "exit", "segfault"])
def test_a_front_that_dies_takes_its_clients_along_and_nothing_else(shared: Server, tmp_path: Path, act: str) -> None:
    told = {"kill": "killed by signal 9", "exit": "exit status 4", "segfault": "killed by signal 11"}
    well(shared)
    fronts = shared.fronts()
    with clients_on_each(shared, fronts) as clients:
        victim, other, third = fronts
        if act == "kill":
            os.kill(victim, signal.SIGKILL)
        else:
            post(clients[victim], act=act, once=str(tmp_path / "once"))
        with contextlib.suppress(ConnectionResetError):
            assert clients[victim].socket.recv(1) == b""
        found = wait_for(lambda: health(clients[other]), lambda it: it["status"] == "degraded")
        assert f"a front ended: {told[act]}" in found["detail"]
        serves(clients[other])
        serves(clients[third])
        well(shared)
        assert victim not in shared.fronts()
        assert set(shared.fronts()) > {other, third}
        serves(clients[other])
    processed_once(shared)


@pytest.mark.parametrize("act", ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "BaseException"])
@pytest.mark.parametrize("size", [0, limits.AT_ONCE_BYTES], ids=["small", "large"])
def test_whatever_a_validation_raises_costs_its_own_request_only(shared: Server, act: str, size: int) -> None:
    well(shared)
    fronts = shared.fronts()
    with Client(shared) as client:
        post(client, act=act, padding=" " * size)
        assert client.answer().status == 500
        post(client)
        assert client.answer().status == 202
    assert shared.fronts() == fronts


def test_clients_that_come_while_no_front_is_there_wait_for_the_next_one(shared: Server) -> None:
    well(shared)
    for pid in shared.fronts():
        os.kill(pid, signal.SIGKILL)
    with Client(shared) as client:
        serves(client)
    well(shared)


@pytest.mark.parametrize("act", ["hang_in_python", "hang_in_c"])
def test_a_front_that_hangs_is_replaced_and_others_serve_meanwhile(shared: Server, tmp_path: Path, act: str) -> None:
    well(shared)
    fronts = shared.fronts()
    with clients_on_each(shared, fronts) as clients:
        victim, other, _ = fronts
        post(clients[victim], act=act, once=str(tmp_path / "once"))
        wait_for((tmp_path / "once").exists)
        while alive(victim):
            serves(clients[other])
            with Client(shared) as new:
                serves(new)
        found = wait_for(lambda: health(clients[other]), lambda it: it["status"] == "degraded")
        assert "a front ended: it was silent for 2.5 s" in found["detail"]
        with contextlib.suppress(ConnectionResetError):
            assert clients[victim].socket.recv(1) == b""
    well(shared)
    processed_once(shared)


def test_what_a_front_took_along_can_be_sent_again_under_its_key_wherever_it_died(
    server: Server, tmp_path: Path
) -> None:
    fault = tmp_path / "fault"
    server.program = (*LAUNCH, "front", str(fault))
    server.start()
    for point in FRONT_POINTS:
        arm(fault, point)
        with Client(server) as client, contextlib.suppress(ConnectionResetError):
            client.post(b"{}", f'idempotency-key: "{point}"', "content-type: application/json", path="/checks")
            assert client.file.readline() in (b"", b"HTTP/1.1 202 Accepted\r\n")
        wait_for(lambda: not fault.exists())
        answer = server.post("/checks", {}, idempotency_key=f'"{point}"')
        assert answer.status == 202
        server.wait_until("processed", answer.headers["location"])
    assert server.statuses() == {"processed": len(FRONT_POINTS)}
    processed_once(server)


# --- the end of the writer ------------------------------------------------------------


def test_no_front_outlives_the_writer_and_the_port_is_free(server: Server, tmp_path: Path) -> None:
    """One is stuck in C, one is stopped, one has nothing to do, and a fourth one is being started."""
    slow_start = tmp_path / "slow start"
    workload = tmp_path / "slow.py"
    workload.write_text(SLOW_START.format(file=str(slow_start)))
    server.options = ("--workloads", f"checks,{workload}", "--concurrency", "1", "--fronts", "3")
    server.start()
    fronts = ready(server, 3)
    with clients_on_each(server, fronts) as clients:
        post(clients[fronts[0]], act="hang_in_c", once=str(tmp_path / "once"))
        wait_for((tmp_path / "once").exists)
        os.kill(fronts[1], signal.SIGSTOP)
        slow_start.touch()
        os.kill(server.pid, signal.SIGHUP)
        wait_for(lambda: slow_start.read_text())
        fronts = server.fronts()
        workers = server.workers()
        assert len(fronts) == 4
        server.kill()
        wait_for(lambda: [pid for pid in (*fronts, *workers) if alive(pid)], lambda left: not left)
    slow_start.unlink()
    server.start()
    with Client(server) as client:
        serves(client)
    assert server.stop() == 0, server.logged()


SLOW_START = """
import ctypes, sys
from pathlib import Path
from msgspec import Struct
from decoupled import Effects, Message, Workload

if Path({file!r}).exists() and sys.argv[0].endswith("fronts/process.py"):
    Path({file!r}).write_text("hangs")
    ctypes.PyDLL(None).sleep(3600)

class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    pass

def process(entry: Entry, message: Message) -> Effects:
    return Effects({{}})

WORKLOAD = Workload("slow", Entry, process)
"""


def test_what_a_validation_leaves_behind_does_not_keep_the_port(server: Server, tmp_path: Path) -> None:
    server.start()
    with Client(server) as client:
        post(client, act="fork", seconds=30, once=str(tmp_path / "once"))
        assert client.answer().status == 202
    assert server.stop() == 0, server.logged()
    server.start()
    assert server.stop() == 0, server.logged()


@pytest.mark.parametrize(("number", "whole_group"), [("SIGTERM", False), ("SIGTERM", True), ("SIGINT", True)])
def test_a_server_that_is_asked_to_stop_ends_in_order_under_load(
    server: Server, number: str, whole_group: bool
) -> None:
    server.start()
    wait_for(lambda: server.get("/health").json, lambda it: it["workers"] == 1 and it["fronts"] == 2)
    with Clients(server, threads=4) as one_by_one, Clients(server, threads=2, pipelined=5) as pipelined:
        both = (one_by_one, pipelined)
        for clients in both:
            clients.go_on()
        for clients in both:
            clients.ends = True
        (os.killpg if whole_group else os.kill)(server.pid, signal.Signals[number])
        assert server.wait() == 0, server.logged()
    assert [clients.trouble for clients in both] == [[], []]
    accepted = {path.rpartition("/")[2] for clients in both for path in clients.accepted}
    assert accepted <= {message_id for (message_id,) in server.rows("SELECT id FROM messages")}
    assert not [line for line in server.log_lines() if line["logger"] == "decoupled.fronts"]


def test_neither_a_front_that_hangs_nor_one_that_starts_keeps_a_server_that_is_asked_to_stop(server: Server) -> None:
    server.program = (*LAUNCH, "limits", "FRONT_END_S=0.5")
    server.start()
    before = ready(server, 2)
    with clients_on_each(server, before):
        os.kill(before[0], signal.SIGSTOP)
        os.kill(server.pid, signal.SIGHUP)
        fronts = wait_for(server.fronts, lambda pids: len(pids) == 3)
        assert server.stop() == 0, server.logged()
    wait_for(lambda: [pid for pid in fronts if alive(pid)], lambda left: not left)


# --- a writer that does not take what comes -------------------------------------------


def test_a_writer_that_hangs_bounds_what_its_fronts_take_and_they_say_so(shared: Server) -> None:
    well(shared)
    fronts = shared.fronts()
    before_kb = sum(map(_peak_kb, fronts))
    answers: list[tuple[bool, Answer]] = []

    def ask(keyed: bool) -> None:
        """A megabyte each."""
        for _ in range(2):
            key = {"idempotency_key": f'"{uuid.uuid4()}"'} if keyed else {}
            answers.append((keyed, shared.post("/checks", [{"padding": "x" * 200_000}] * 5, **key)))

    threads = [threading.Thread(target=ask, args=(keyed,)) for keyed in (True, False) * 8]
    os.kill(shared.pid, signal.SIGSTOP)
    try:
        for thread in threads:
            thread.start()
        told = shared.get("/health")
        assert (told.status, told.json["status"]) == (503, "unavailable")
        assert "the writer does not answer" in told.json["detail"]
        command = [str(DECOUPLED), "status", "--data", str(shared.data)]
        said = " ".join(subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.split())
        assert "nothing can be accepted: the writer does not answer" in said
        for thread in threads:
            thread.join()  # none waits for longer than WITHIN_S
        grown_mb = (sum(map(_peak_kb, fronts)) - before_kb) / 1024
    finally:
        os.kill(shared.pid, signal.SIGCONT)
    assert len(answers) == 32
    assert {(answer.status, answer.headers["retry-after"]) for _, answer in answers} == {(503, "1")}
    problems = {(keyed, it["detail"], it["resend"]) for keyed, answer in answers for it in answer.json["rejected"]}
    busy = "Not accepted: the queue cannot be written: too much waits to be written"
    silent = "Not accepted: the queue cannot be written: the writer does not answer"
    assert problems >= {(False, busy, "safe"), (False, silent, "with_idempotency_key")}
    assert problems <= {
        *((keyed, busy, "safe") for keyed in (True, False)),
        (True, silent, "safe"),
        (False, silent, "with_idempotency_key"),
    }
    assert grown_mb < 150
    well(shared)
    processed_once(shared)


def test_what_was_accepted_while_the_writer_falters_is_stored(shared: Server) -> None:
    well(shared)
    with Clients(shared, threads=4) as one_by_one, Clients(shared, threads=2, pipelined=5) as pipelined:
        for _ in range(8):
            one_by_one.go_on(10)
            os.kill(shared.pid, signal.SIGSTOP)
            one_by_one.stopping.wait(0.1)  # not a wait for anything: for as long it writes nothing
            os.kill(shared.pid, signal.SIGCONT)
    assert one_by_one.trouble == pipelined.trouble == []
    accepted = [path.rpartition("/")[2] for path in one_by_one.accepted + pipelined.accepted]
    assert len(set(accepted)) == len(accepted)
    assert set(accepted) <= {message_id for (message_id,) in shared.rows("SELECT id FROM messages")}
    processed_once(shared)


def _peak_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


# --- what one front promised, another one keeps ---------------------------------------


def test_no_front_says_less_than_another_ones_202_promised(shared: Server) -> None:
    well(shared)
    fronts = shared.fronts()
    trouble: list[str] = []

    def post_here_and_get_there(here: Client, there: Client) -> None:
        for _ in range(150):
            here.send(CHECK)
            location = here.answer().headers["location"]
            there.send(f"GET {location} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            if (answer := there.answer()).status != 200 or answer.json["status"] not in ("queued", "processed"):
                trouble.append(repr(answer))

    with clients_on_each(shared, fronts) as ones, clients_on_each(shared, fronts) as others:
        pairs = [(ones[here], others[there]) for here, there in zip(fronts, fronts[1:] + fronts[:1], strict=True)]
        threads = [threading.Thread(target=post_here_and_get_there, args=pair) for pair in pairs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert trouble == []


def test_one_key_on_two_fronts_at_the_same_moment_is_one_message(shared: Server) -> None:
    well(shared)
    fronts = shared.fronts()
    with clients_on_each(shared, fronts) as clients:
        for number in range(30):
            key = f'idempotency-key: "at once {number}"'
            for client in clients.values():
                client.post(b"{}", key, "content-type: application/json", path="/checks")
            answers = [client.answer() for client in clients.values()]
            assert {answer.status for answer in answers} == {202}
            assert len({answer.headers["location"] for answer in answers}) == 1
    processed_once(shared)


# --- who takes a client ---------------------------------------------------------------


@pytest.mark.parametrize("burst", [True, False])
def test_clients_are_spread_over_the_fronts(shared: Server, burst: bool) -> None:
    well(shared)
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            client = stack.enter_context(Client(shared))
            if not burst:
                serves(client)
        found = wait_for(lambda: clients_of(shared), lambda it: sum(it.values()) >= 300)
        assert max(found.values()) < 160, found


def test_clients_are_let_in_while_a_front_is_stopped(shared: Server) -> None:
    well(shared)
    stopped, *_ = shared.fronts()
    os.kill(stopped, signal.SIGSTOP)
    try:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Client(shared)) for _ in range(60)]
            for client in clients:
                serves(client)
    finally:
        os.kill(stopped, signal.SIGCONT)
    well(shared)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what a process has loaded")
def test_the_writer_has_no_parser_of_http_and_fronts_have_one(server: Server) -> None:
    server.start()
    with Client(server) as client:
        serves(client)
    assert "httptools" in Path(f"/proc/{ready(server, 2)[0]}/maps").read_text()
    assert "httptools" not in Path(f"/proc/{server.pid}/maps").read_text()
    assert server.stop() == 0, server.logged()
