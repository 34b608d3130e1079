"""A service manager hands over the socket: then a restart refuses no client. And it is told how the server goes."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Files
from tests.support.fronts import CHECK, Clients, ready
from tests.support.managed import HAND_OVER, Managed
from tests.support.server import DECOUPLED, Client, Server, free_port, wait_for

OPTIONS = ("--workloads", "checks", "--concurrency", "1")
TWO_FRONTS = ("--fronts", "2")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Managed]:
    server = Managed(tmp_path / "data", *OPTIONS, *TWO_FRONTS)
    yield server
    server.close()


def test_a_restart_refuses_no_client_and_loses_nothing(server: Managed) -> None:
    server.spawn()
    server.told("READY=1")
    with Clients(server, threads=6) as clients:
        clients.go_on()
        assert server.stop() == 0, server.logged()
        server.told("STOPPING=1")
        server.spawn()
        clients.go_on()
    assert clients.trouble == []
    assert server.stop() == 0, server.logged()
    ((stored,),) = server.rows("SELECT count(*) FROM messages")
    assert stored == len(set(clients.accepted)) == len(clients.accepted)


def test_a_restart_refuses_no_client_that_speaks_tls(tmp_path: Path) -> None:
    """Not even one whose handshake waits for the next server."""
    files = Files(tmp_path)
    files.issue()
    server = Managed(tmp_path / "data", *OPTIONS, *TWO_FRONTS, *files.options)
    server.trusts = files.trusts()
    with contextlib.closing(server):
        server.spawn()
        server.told("READY=1")
        with Clients(server, threads=4) as clients:
            clients.go_on()
            assert server.stop() == 0, server.logged()
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as early:
                server.spawn()
                with server.trusts.wrap_socket(early, server_hostname="127.0.0.1") as client:
                    client.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
                    assert client.recv(12) == b"HTTP/1.1 200"
            clients.go_on()
        assert clients.trouble == []
        assert server.stop() == 0, server.logged()
        ((stored,),) = server.rows("SELECT count(*) FROM messages")
        assert stored == len(set(clients.accepted)) == len(clients.accepted)


def test_who_connects_while_there_is_no_server_is_answered_by_the_next(server: Managed) -> None:
    with Client(server) as early:
        early.send(CHECK)
        server.spawn()
        assert early.answer().status == 202


def test_a_server_that_takes_requests_itself_is_handed_one_as_well(tmp_path: Path) -> None:
    server = Managed(tmp_path / "data", *OPTIONS, "--fronts", "0")
    with contextlib.closing(server):
        server.spawn()
        server.told("READY=1")
        with Clients(server, threads=3) as clients:
            clients.go_on()
            assert server.stop() == 0, server.logged()
            server.spawn()
            clients.go_on()
        assert clients.trouble == []


def test_nobody_is_let_in_unasked_through_a_socket_that_others_reach(tmp_path: Path) -> None:
    everywhere = socket.socket()
    everywhere.bind(("0.0.0.0", 0))
    everywhere.listen()
    with contextlib.closing(Managed(tmp_path / "data", *OPTIONS, listener=everywhere)) as server:
        server.spawn()
        assert server.wait() == 1
        assert "others can reach 0.0.0.0" in server.logged()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"LISTEN_FDS": "2"}, "hands over 2 sockets"),
        ({"LISTEN_FDS": "1"}, "says that file 3 is a socket"),
    ],
)
def test_a_socket_that_is_none_is_refused_by_name(given: dict[str, str], said: str, tmp_path: Path) -> None:
    server = Server(
        tmp_path / "data", *OPTIONS, program=("bash", "-c", HAND_OVER.split(";", 1)[1], "x", str(DECOUPLED))
    )
    server.environment = given
    server.spawn()
    assert server.wait() == 1
    assert said in server.logged()


def test_a_socket_for_another_process_is_left_alone(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", *OPTIONS)
    server.environment = {"LISTEN_FDS": "1", "LISTEN_PID": "1"}
    server.start()
    assert server.get("/health").status == 200
    assert server.stop() == 0
    server.end()


# --- what it is told --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    """One that a watchdog watches, and that is told to listen somewhere else: where most may not."""
    server = Managed(tmp_path_factory.mktemp("watched") / "data", *OPTIONS, *TWO_FRONTS, "--port", "1")
    server.environment = {**server.environment, "WATCHDOG_USEC": "300000"}
    server.spawn()
    assert server.told("READY=1")[0] == "READY=1"
    yield server
    assert server.stop() == 0, server.logged()
    server.close()


def test_the_address_is_that_of_the_socket_and_the_log_says_so(watched: Managed) -> None:
    assert f" http://127.0.0.1:{watched.port}\n" in (watched.data / "server").read_text()
    assert [line["options"] for line in watched.log_lines() if "options" in line] == ["127.0.0.1:1"]


def test_no_process_of_a_workload_gets_what_was_meant_for_the_server(watched: Managed) -> None:
    ready(watched, 2)
    inode = os.fstat(watched.listener.fileno()).st_ino
    for pid in wait_for(watched.workers):
        variables = Path(f"/proc/{pid}/environ").read_text()
        assert not re.search(r"\b(LISTEN|NOTIFY|WATCHDOG)_", variables)
        assert f"socket:[{inode}]" not in {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}


def test_the_watchdog_hears_nothing_from_a_server_that_hangs(watched: Managed) -> None:
    watched.told("WATCHDOG=1")
    os.kill(watched.pid, signal.SIGSTOP)
    watched.notices.settimeout(1.0)
    with pytest.raises(TimeoutError):
        watched.told("never")
    watched.notices.settimeout(20)
    os.kill(watched.pid, signal.SIGCONT)
    watched.told("WATCHDOG=1")


def test_what_is_wrong_is_its_status_for_as_long_as_it_lasts(watched: Managed) -> None:
    os.kill(ready(watched, 2)[0], signal.SIGKILL)
    watched.told("STATUS=.*a front ended.*")
    watched.told("STATUS=ok")


def test_a_manager_that_is_gone_is_no_trouble_for_clients(server: Managed) -> None:
    server.notices.close()
    server.spawn()
    wait_for(server.logged, lambda text: "the service manager cannot be told" in text)
    assert server.get("/health").status == 200
    assert server.stop() == 0


@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="there is no systemd")
def test_it_takes_the_socket_of_systemd_itself(tmp_path: Path) -> None:
    port = free_port()
    command = ["systemd-socket-activate", "--listen", f"127.0.0.1:{port}", str(DECOUPLED), "serve", *OPTIONS[2:]]
    with (tmp_path / "log").open("wb") as log:
        began = subprocess.Popen(
            [*command, "--data", "data"], cwd=tmp_path, stdout=log, stderr=log, text=True, start_new_session=True
        )
    server = Server(tmp_path / "data")
    server.port, server.process = port, began
    try:
        server.wait_until_up()
        assert server.get("/health").json["status"] == "ok"
        assert server.stop() == 0
    finally:
        server.end()
