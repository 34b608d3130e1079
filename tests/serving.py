"""A real `decoupled serve` in a process of its own, on a free port and a data directory of the test's."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
DECOUPLED = Path(sys.executable).with_name("decoupled")
STARTS = 3  # another process may take the free port before the server does
LISTENS_WITHIN_S = 10
STOP_WITHIN_S = 20


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that listens."""

    url: str
    pid: int


@contextmanager
def serving(data: Path, *options: str) -> Iterator[Serving]:
    """Start a server. It is stopped as an operator stops it, and must then end by itself. Logs: serve.log."""
    process, port = _start(data, options)
    try:
        yield Serving(f"http://127.0.0.1:{port}", process.pid)
    finally:
        process.terminate()
        try:
            assert process.wait(STOP_WITHIN_S) == 0
        finally:
            process.kill()


def _start(data: Path, options: tuple[str, ...]) -> tuple[subprocess.Popen[str], int]:
    log = data.parent / "serve.log"
    for _ in range(STARTS):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        command = [str(DECOUPLED), "serve", "--port", str(port), "--data", str(data), *options]
        with log.open("ab") as errors:
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None
        if f"http://127.0.0.1:{port}" in process.stdout.readline() and _listens(port):
            return process, port
        process.kill()
        process.wait()
    raise AssertionError(f"it did not start: {log.read_text()}")


def _listens(port: int) -> bool:
    """It is announced a few milliseconds before it listens."""
    deadline = time.monotonic() + LISTENS_WITHIN_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.01)
    return False
