"""Standard error that nobody reads, that is broken or closed: no client and no message waits for it, and what could not
be written is counted."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from decoupled.core import limits
from decoupled.server.health import Trouble
from decoupled.server.outlet import NOTICE_EVERY_S, Outlet
from tests.support.server import DECOUPLED, Server, wait_for

LINE = b"x" * 999 + b"\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """One that nobody reads: its two ends."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


@pytest.fixture
def server(tmp_path: Path, pipe: tuple[int, int]) -> Iterator[Server]:
    """Its outputs go to the pipe."""
    server = Server(tmp_path / "data", "--workloads", "hazards", "--log-level", "DEBUG", "--function-timeout", "5")
    server.output = pipe[1]
    yield server
    server.end()


def read_on(fd: int, until: bytes) -> bytes:
    """What stands in a pipe, up to something. Bounded by the test's own patience: what is written there is."""
    read = b""
    while until not in read:
        piece = os.read(fd, 1 << 16)
        assert piece, read[-4000:]
        read += piece
    return read


def print_much(server: Server) -> None:
    """Each prints a hundred thousand characters, on every way there is."""
    ids = server.accept("/hazards", *[{"act": "print"}] * 30)
    server.wait_until("processed", *[f"/hazards/{message_id}" for message_id in ids])
    assert {count for (count,) in server.rows("SELECT receive_count FROM messages")} == {
        1
    }  # none hung, and none was lost


def test_a_server_whose_output_nobody_reads_goes_on_and_says_what_is_lost(
    server: Server, pipe: tuple[int, int]
) -> None:
    server.start()
    print_much(server)
    health = wait_for(lambda: server.get("/health").json, lambda it: it["status"] == "degraded")
    assert "lines of the log were dropped" in health["detail"]
    shown = subprocess.run([DECOUPLED, "status", "--json", "--data", server.data], capture_output=True, check=True)
    assert "lines of its log were dropped" in json.loads(shown.stdout)["notes"][-1]
    read_on(pipe[0], b"dropped here")
    reader = threading.Thread(target=read_on, args=(pipe[0], b"stopping"))
    reader.start()
    after = wait_for(lambda: server.get("/health").json, lambda it: it["status"] == "ok")
    assert after["log_lines_dropped"] >= health["log_lines_dropped"] > 0
    assert server.stop() == 0
    reader.join(timeout=10)
    assert not reader.is_alive()


def test_a_server_whose_output_nobody_reads_stops_in_time(server: Server) -> None:
    server.start()
    print_much(server)
    assert server.stop(seconds=10) == 0


def test_a_server_whose_reader_has_gone_goes_on(server: Server, pipe: tuple[int, int]) -> None:
    server.start()
    os.close(pipe[0])
    print_much(server)
    wait_for(lambda: server.get("/health").json["log_lines_dropped"])
    assert server.stop() == 0


def test_no_client_gets_the_log_of_a_server_that_was_started_without_outputs(server: Server) -> None:
    closing = ("sh", "-c", 'exec "$0" "$@" 0<&- 1>&- 2>&-', str(DECOUPLED))
    server.program = closing
    server.start()
    print_much(server)
    assert server.stop() == 0


def test_what_a_workload_writes_is_in_the_log(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", "--workloads", "hazards")
    try:
        server.start()
        (message_id,) = server.accept("/hazards", {"act": "print"})
        server.wait_until("processed", f"/hazards/{message_id}")
        printed = wait_for(lambda: [line for line in server.log_lines() if line["logger"] == "stdout"])
        assert [(line["message"], line["message_id"]) for line in printed] == [("to standard output", message_id)]
        wait_for(lambda: "to standard error\n" in server.log.read_text())
        wait_for(lambda: server.log.read_text().count("x") >= 100_000)  # not in one line
        assert max(map(len, server.log.read_text().splitlines())) < 100_000
    finally:
        server.end()


# --- the outlet ---------------------------------------------------------------


def full(fd: int) -> bool:
    """Whether a pipe takes nothing more."""
    return not select.select([], [fd], [], 0)[1]


def test_what_does_not_fit_is_dropped_and_told_of_when_it_is_read(pipe: tuple[int, int]) -> None:
    outlet = Outlet(pipe[1], lambda count: f"{count} dropped\n")
    lines = limits.MAX_LOG_BACKLOG_BYTES // len(LINE)
    for _ in range(lines // 2):
        outlet.put(LINE)
    wait_for(lambda: full(pipe[1]))  # else it may be told of at once
    for _ in range(lines):
        outlet.put(LINE)
    assert not outlet.flush(0.01)
    assert outlet.dropped > 0
    assert isinstance(outlet.trouble(), Trouble)
    read = read_on(pipe[0], b"dropped\n").decode().splitlines()
    assert f"{outlet.dropped} dropped" in read
    wait_for(lambda: outlet.trouble() is None)


def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    outlet = Outlet(fd, lambda count: f"{count} dropped\n")
    for _ in range(3):
        outlet.put(LINE * 2)
        assert outlet.flush(10)
    assert outlet.dropped == 6
    assert outlet.trouble() is not None
    os.close(fd)


def test_a_line_that_was_torn_does_not_spoil_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a disk is full in the middle of a line, and has space again later."""
    write = os.write
    full = threading.Event()
    file = (tmp_path / "log").open("wb", buffering=0)
    outlet = Outlet(file.fileno(), lambda count: f"{count} dropped\n")

    def write_some(fd: int, text: memoryview) -> int:
        if fd != file.fileno():
            return write(fd, text)
        if full.is_set():
            raise OSError
        full.set()
        return write(fd, text[:5])

    monkeypatch.setattr(os, "write", write_some)
    outlet.put(b"a line\n")
    assert outlet.flush(10)
    monkeypatch.undo()
    outlet.put(b"another\n")
    wait_for(lambda: outlet.trouble() is None, seconds=10 * NOTICE_EVERY_S)
    assert (tmp_path / "log").read_bytes().splitlines() in (
        [b"a lin", b"another", b"1 dropped"],
        [b"a lin", b"1 dropped", b"another"],
    )
    file.close()
