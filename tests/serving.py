"""A real `decoupled serve` in a process of its own, on a free port and a data directory of the test's."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
DECOUPLED = Path(sys.executable).with_name("decoupled")
STOP_WITHIN_S = 20


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that listens."""

    url: str
    pid: int


@contextmanager
def serving(data: Path, *options: str) -> Iterator[Serving]:
    """Start a server. It is stopped as an operator stops it, and must then end by itself. Logs: serve.log."""
    command = [str(DECOUPLED), "serve", "--port", "0", "--data", str(data), *options]
    with (data.parent / "serve.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        announced = process.stdout.readline()
        found = re.search(r"http://[\d.]+:\d+", announced)
        assert found, f"it did not start: {announced!r} {(data.parent / 'serve.log').read_text()}"
        yield Serving(found[0], process.pid)
    finally:
        process.terminate()
        try:
            assert process.wait(STOP_WITHIN_S) == 0
        finally:
            process.kill()
