"""A server's connections without sockets: bytes go in and out as a test says, and time passes when it says so."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from decoupled.core import limits
from decoupled.core.problem import Problem, Response
from decoupled.server.counting import Requests
from decoupled.server.http.connection import Connection
from decoupled.server.http.exchange import Reply
from decoupled.server.http.parser import Reader
from decoupled.server.http.request import Request
from decoupled.server.http.shares import Shares


class Wire(asyncio.Transport):
    """A transport that keeps what is written to it."""

    def __init__(self, client: str) -> None:
        super().__init__({"peername": (client, 1)})
        self.written = b""
        self.unsent = 0  # bytes that the client does not take
        self.reads = True
        self.ended = ""

    def write(self, data: Any) -> None:
        self.written += data

    def write_eof(self) -> None:
        self.ended = self.ended or "half"

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def is_closing(self) -> bool:
        return self.ended in ("closed", "aborted")

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert (high, low) == (0, None)

    def get_write_buffer_size(self) -> int:
        return self.unsent


class Found:
    """What a Reader reads."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.problems: list[Problem] = []
        self.reader = Reader(self)

    def whole(self, request: Request) -> None:
        self.requests.append(request)

    def refused(self, problem: Problem) -> None:
        self.problems.append(problem)

    def expects_continue(self) -> None: ...


class Clock:
    """A server with a clock of the test's, and a handler that answers when the test says so. It has one client from
    the beginning, and gets more by `connect`."""

    stopping = False
    opened: Callable[[str | None], str] | None = None
    date = "Mon, 23 Nov 2026 10:15:30 GMT"

    def __init__(self) -> None:
        self.now = 1000.0
        self.requests = Requests()
        self.connections: list[Connection] = []
        self.wires: dict[Connection, Wire] = {}
        self.in_turn: deque[Connection] = deque()
        self.looks: deque[Callable[[], None]] = deque()
        self.shares = Shares(self.connections, lambda _, look: self.looks.append(look), limits.MAX_KEPT_BYTES)
        self.at_once: Response | None = None  # the answer to every request, where there is nothing to wait for
        self.replies: list[Reply] = []
        self.handled: list[Request] = []  # with a reply each
        self.wire, self.connection = self.connect()

    def connect(self: Any, client: str = "192.0.2.7") -> tuple[Wire, Connection]:
        """A client."""
        wire, connection = Wire(client), Connection(self)
        self.wires[connection] = wire
        connection.connection_made(wire)
        return wire, connection

    def handle(self, request: Request, reply: Reply) -> None:
        assert request.client.startswith(("192.0.2.", "2001:db8:"))
        if self.at_once is not None:
            reply(self.at_once)
        else:
            self.replies.append(reply)
            self.handled.append(request)

    def joined(self, connection: Connection) -> None:
        self.connections.append(connection)

    def left(self, connection: Connection) -> None:
        self.connections.remove(connection)

    def go_on_soon(self, connection: Connection) -> None:
        self.in_turn.append(connection)

    def turn(self) -> None:
        """The event loop turns: those go on whose turn it is."""
        for _ in range(len(self.in_turn)):
            self.in_turn.popleft().go_on()

    def wait(self, seconds: float) -> str:
        """Let time pass; how the connection ended."""
        self.now += seconds
        if self.now > self.connection.deadline:
            self.connection.expire()
        return self.wire.ended
