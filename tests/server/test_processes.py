"""What each process of a server may touch, as docs/processes says it, seen from the kernel: its open files and sockets,
and the libraries that it has loaded."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import Client, Server, serving, wait_for

pytestmark = pytest.mark.skipif(not Path("/proc/self/fdinfo").exists(), reason="only Linux shows it")

ENTRY = {"account": 1, "amount": 1}
WRITES = os.O_WRONLY | os.O_RDWR


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """All of its processes have done what they are there for."""
    options = ("--workloads", "ledger,echoes,calls", "--fronts", "2", "--concurrency", "1")
    with serving(tmp_path_factory.mktemp("processes") / "data", *options) as server:
        wait_for(lambda: server.get("/health").json, lambda it: (it["fronts"], it["workers"]) == (2, 2))
        (message_id,) = server.accept("/ledger", ENTRY)
        server.wait_until("processed", f"/ledger/{message_id}")
        (other,) = server.accept("/calls", {})
        server.wait_until("processed", f"/calls/{other}")
        yield server


def files(server: Server, pid: int) -> dict[str, int]:
    """Names of the data directory that a process has open, and whether it may write there."""
    found: dict[str, int] = {}
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        path = fd.readlink()
        if path.parent == server.data or path == server.data:
            flags = int(re.search(r"flags:\s+(\d+)", Path(f"/proc/{pid}/fdinfo/{fd.name}").read_text())[1], 8)  # type: ignore[index]
            found[path.name] = found.get(path.name, 0) | (flags & WRITES)
    return found


def sockets(pid: int) -> set[str]:
    return {link for fd in Path(f"/proc/{pid}/fd").iterdir() if (link := str(fd.readlink())).startswith("socket:")}


def of_tcp(pid: int, state: str) -> set[str]:
    """Sockets of a process in a state of TCP: 0A listens, 01 is connected."""
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {f"socket:[{row[9]}]" for row in rows if row[3] == state} & sockets(pid)


def loaded(pid: int, library: str) -> bool:
    return library in Path(f"/proc/{pid}/maps").read_text()


def test_the_writer_alone_writes_and_parses_no_http(server: Server) -> None:
    mine = files(server, server.pid)
    assert mine["decoupled.sqlite3"] & WRITES
    assert "lock" in mine
    assert not loaded(server.pid, "httptools")


def test_a_front_reads_the_database_and_writes_nothing(server: Server) -> None:
    for front in server.fronts():
        theirs = files(server, front)
        assert theirs["decoupled.sqlite3"] & WRITES == 0
        beside = {"decoupled.sqlite3-wal", "decoupled.sqlite3-shm"}  # SQLite opens them to say there that it reads
        assert theirs.keys() == {"decoupled.sqlite3", *beside}
        assert loaded(front, "httptools")


def test_a_worker_has_nothing_of_the_data_directory_and_no_client(server: Server) -> None:
    listening = of_tcp(server.pid, "0A")
    assert listening
    with Client(server) as client:
        client.post(b'{"account": 1, "amount": 1}', "content-type: application/json")
        assert client.answer().status == 202
        for worker in server.workers():
            assert files(server, worker) == {}
            assert not sockets(worker) & listening
            assert not of_tcp(worker, "01")
            assert not loaded(worker, "httptools")


def test_clients_are_with_the_fronts_and_not_with_the_writer(server: Server) -> None:
    with Client(server) as client:
        client.post(b'{"account": 1, "amount": 1}', "content-type: application/json")
        assert client.answer().status == 202
        assert of_tcp(server.pid, "01") == set()
        assert sum(len(of_tcp(front, "01")) for front in server.fronts()) == 1


def test_without_fronts_the_writer_has_the_clients_itself(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "data", "--workloads", "ledger,echoes", "--fronts", "0") as server,
        Client(server) as client,
    ):
        client.post(b'{"account": 1, "amount": 1}', "content-type: application/json")
        assert client.answer().status == 202
        assert server.fronts() == []
        assert len(of_tcp(server.pid, "01")) == 1
