"""A front with a fault, as `launch.py` has one started: FRONT_LIMITS has other limits, as JSON; FRONT_UNCOUNTED counts
nothing; FRONT_FAULT is a file. The front that first comes to the point that is named in there takes the file away, and
ends itself with SIGKILL."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Any

from decoupled.core import limits
from decoupled.server.counting import Requests
from decoupled.server.fronts import process
from decoupled.server.fronts.link import Link
from decoupled.server.http.connection import Connection


def main() -> None:
    """A front's, once the faults are there."""
    for name, value in json.loads(os.environ.get("FRONT_LIMITS", "{}")).items():
        setattr(limits, name, value)
    if "FRONT_UNCOUNTED" in os.environ:
        Requests.accepted = Requests.refused = lambda *_: None  # type: ignore[assignment,method-assign]
    if file := os.environ.get("FRONT_FAULT"):
        _arm(Path(file))
    process.main()


def _arm(file: Path) -> None:
    def reached(point: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            if file.read_text() == point:
                file.unlink()  # only one front does
                os.kill(os.getpid(), signal.SIGKILL)

    write, told, answer = Link._write, Link._told, Connection._answer

    def write_watched(self: Link) -> None:
        reached("before_a_frame")
        transport = self._transport
        self._transport = _InHalves(transport, reached)  # type: ignore[assignment]
        write(self)
        self._transport = transport
        self._loop.call_soon(reached, "after_a_frame")  # the loop writes when it turns

    def told_watched(self: Link, numbers: Any, outcome: Any) -> None:
        reached("before_the_answers")
        told(self, numbers, outcome)
        self._loop.call_soon(reached, "after_the_answers")

    def answer_watched(self: Connection, response: Any) -> None:
        answer(self, response)
        reached("between_two_answers")

    Link._write, Link._told = write_watched, told_watched  # type: ignore[method-assign]
    Connection._answer = answer_watched  # type: ignore[method-assign]


class _InHalves:
    """Writes the first half of a frame before the point is reached."""

    def __init__(self, transport: Any, reached: Any) -> None:
        self._transport = transport
        self._reached = reached

    def write(self, data: bytes) -> None:
        if self._transport.get_write_buffer_size() == 0:
            half = len(data) // 2
            sent = os.write(self._transport.get_extra_info("socket").fileno(), data[:half])
            self._reached("halfway_in_a_frame")
            data = data[sent:]
        self._transport.write(data)


if __name__ == "__main__":
    main()
