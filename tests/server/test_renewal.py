"""SIGHUP: other fronts take the place of those that are there, one by one, and no client's request fails."""

from __future__ import annotations

import os
import pty
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fronts import CHECK, Clients, front_of, ready, renewed, serves
from tests.support.server import Client, Server, alive, wait_for

OPTIONS = ("--workloads", "checks", "--concurrency", "1", "--fronts", "2", "--log-level", "WARNING")

# Whatever became of the tests' own signals: under nohup, whoever they start would inherit that.
IN_A_TERMINAL = (
    "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL);"
    " os.open(sys.argv[1], os.O_RDWR); os.execv(sys.argv[2], sys.argv[2:])"
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data", *OPTIONS)
    yield server
    server.end()


def test_fronts_are_renewed_one_by_one_and_no_request_fails(server: Server) -> None:
    server.start()
    first = ready(server, 2)
    with Clients(server, threads=4) as one_by_one, Clients(server, threads=2, pipelined=5) as pipelined:
        for clients in (one_by_one, pipelined):
            clients.go_on()
        os.kill(server.pid, signal.SIGHUP)
        second = renewed(server, first, 2)
        for clients in (one_by_one, pipelined):
            clients.go_on()
        os.kill(server.pid, signal.SIGHUP)
        third = renewed(server, first + second, 2)
        wait_for(lambda: [pid for pid in first + second if alive(pid)], lambda left: not left)
        for clients in (one_by_one, pipelined):
            clients.go_on()
    assert one_by_one.trouble == pipelined.trouble == []
    assert sorted(server.fronts()) == sorted(third)
    assert server.get("/health").json["status"] == "ok"
    assert server.stop() == 0, server.logged()
    ((stored,),) = server.rows("SELECT count(*) FROM messages")
    assert stored == len(one_by_one.accepted) + len(pipelined.accepted)


def test_however_often_fronts_are_renewed_a_client_that_thinks_for_a_moment_finds_its_connection(
    server: Server,
) -> None:
    server.start()
    before = ready(server, 2)
    with Clients(server, threads=8, think_s=0.5) as clients:
        clients.go_on(8)
        for _ in range(3):
            os.kill(server.pid, signal.SIGHUP)
            before += renewed(server, before, 2)
        clients.go_on(16)
    assert clients.trouble == []


def test_a_client_of_a_front_that_is_replaced_may_end_what_it_has_begun(server: Server) -> None:
    server.start()
    before = ready(server, 2)
    with Client(server) as idle, Client(server) as client:
        serves(idle)
        client.send(CHECK[:40])
        wait_for(lambda: front_of(server, client))
        os.kill(server.pid, signal.SIGHUP)
        renewed(server, before, 2)
        client.send(CHECK[40:] + CHECK[:40])
        answer = client.answer()
        assert answer.status == 202
        assert "connection" not in answer.headers
        client.send(CHECK[40:])
        answer = client.answer()
        assert (answer.status, answer.headers["connection"]) == (202, "close")
        serves(idle)
        assert idle.file.read() == b""
    wait_for(lambda: [pid for pid in before if alive(pid)], lambda left: not left)


def test_a_second_wish_for_new_fronts_is_not_forgotten_while_the_first_one_is_met(server: Server) -> None:
    server.start()
    before = ready(server, 2)
    os.kill(server.pid, signal.SIGHUP)
    between = wait_for(lambda: [pid for pid in server.fronts() if pid not in before])
    os.kill(server.pid, signal.SIGHUP)
    renewed(server, before + between, 2)
    wait_for(lambda: [pid for pid in before + between if alive(pid)], lambda left: not left)


def test_fronts_that_die_while_they_are_renewed_are_replaced_too(server: Server) -> None:
    server.options += ("--fronts", "3")
    server.start()
    before = ready(server, 3)
    os.kill(server.pid, signal.SIGHUP)
    os.kill(before[2], signal.SIGKILL)
    new = wait_for(lambda: [pid for pid in server.fronts() if pid not in before])
    os.kill(new[0], signal.SIGKILL)
    wait_for(
        lambda: not set(before).intersection(server.fronts()) or "not renewed" in server.get("/health").body.decode()
    )
    wait_for(lambda: len(server.fronts()) == 3)
    ready(server, 3)


def test_fronts_from_before_go_on_where_a_new_one_cannot_start(server: Server, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    workload = tmp_path / "fragile.py"
    workload.write_text(FRAGILE.format(file=str(broken)))
    server.options = ("--workloads", f"checks,{workload}", "--concurrency", "1", "--fronts", "2")
    server.start()
    before = ready(server, 2)
    with Clients(server, threads=2) as clients:
        broken.touch()
        os.kill(server.pid, signal.SIGHUP)
        wait_for(lambda: server.get("/health").json["detail"] or "", lambda why: "the fronts are not renewed" in why)
        assert sorted(server.fronts()) == sorted(before)
        clients.go_on()
        broken.unlink()
        os.kill(server.pid, signal.SIGHUP)
        renewed(server, before, 2)
        wait_for(lambda: server.get("/health").json["status"], lambda status: status == "ok")
        clients.go_on()
    assert clients.trouble == []


FRAGILE = """
import os, sys
from pathlib import Path
from msgspec import Struct
from decoupled import Effects, Message, Workload

if Path({file!r}).exists() and sys.argv[0].endswith("fronts/process.py"):
    raise ImportError("the next version is broken")

class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    pass

def process(entry: Entry, message: Message) -> Effects:
    return Effects({{}})

WORKLOAD = Workload("fragile", Entry, process)
"""


def test_a_server_without_fronts_goes_on_at_the_signal_and_says_so(server: Server) -> None:
    server.options += ("--fronts", "0")
    server.start()
    with Client(server) as client:
        serves(client)
        os.kill(server.pid, signal.SIGHUP)
        wait_for(lambda: "there are no fronts to renew" in server.logged())
        serves(client)
    assert server.stop() == 0, server.logged()


def test_a_server_that_was_started_with_nohup_outlives_its_terminal(server: Server) -> None:
    terminal, other_end = pty.openpty()
    server.program = (
        sys.executable,
        "-c",
        IN_A_TERMINAL,
        os.ttyname(other_end),
        "/usr/bin/env",
        "nohup",
        *server.program,
    )
    server.start()
    before = ready(server, 2)
    os.close(other_end)
    os.close(terminal)
    renewed(server, before, 2)
    with Client(server) as client:
        serves(client)
    assert server.stop() == 0, server.logged()


def test_a_terminal_that_is_closed_ends_the_server_and_a_signal_from_elsewhere_renews_its_fronts(
    server: Server,
) -> None:
    terminal, other_end = pty.openpty()
    server.program = (sys.executable, "-c", IN_A_TERMINAL, os.ttyname(other_end), *server.program)
    server.start()
    before = ready(server, 2)
    os.kill(server.pid, signal.SIGHUP)
    renewed(server, before, 2)
    os.close(other_end)
    with Clients(server, threads=2) as clients:
        clients.go_on()
        clients.ends = True
        os.close(terminal)
        assert server.wait() == 0, server.logged()
    assert clients.trouble == []
