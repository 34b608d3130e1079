"""What a connection, its server and its handler are to each other: a request goes to the handler, which answers it, now
or later, at once or in a stream that goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from decoupled.core.problem import Response
from decoupled.server.counting import Requests
from decoupled.server.http.request import Request
from decoupled.server.http.shares import Shares

if TYPE_CHECKING:
    from decoupled.server.http.connection import Connection


log = logging.getLogger("decoupled.http_server")


class Sink(Protocol):
    """Where a stream goes: the connection."""

    @property
    def takes_more(self) -> bool:
        """Whether the client has taken what it was sent."""
        ...

    def send(self, part: bytes) -> None:
        """Send this, also while it does not take more: that is kept for it."""
        ...

    def finish(self) -> None:
        """The stream ends, and the connection goes on."""
        ...


class Stream(Protocol):
    """An answer that goes on. It is held, see `Request.held`, until it ends."""

    head: Response  # without a body

    def begin(self, sink: Sink) -> None:
        """The head is sent."""
        ...

    def go_on(self) -> None:
        """The client takes more again."""
        ...

    def end(self) -> None:
        """Finish: its place is wanted."""
        ...

    def forget(self) -> None:
        """The client is gone."""
        ...


Reply = Callable[[Response | Stream], None]

Handler = Callable[[Request, Reply], None]
"""Takes a request and the function to answer it with, which it calls once, now or later. Never raises."""


class Server(Protocol):
    """What a connection needs of its server."""

    handle: Handler
    opened: Callable[[str | None], str] | None  # of `Cors`
    requests: Requests  # counts them
    shares: Shares
    now: float  # seconds, at most a second old
    date: str  # of the header
    stopping: bool

    def joined(self, connection: Connection) -> None:
        """The connection is there."""
        ...

    def left(self, connection: Connection) -> None:
        """The connection has ended."""
        ...

    def go_on_soon(self, connection: Connection) -> None:
        """The connection has more to do, when it is its turn."""
        ...


def alone(connection: Connection, step: Callable[[], None]) -> None:
    """Take a step of a connection. If it fails, that is the end of the connection, and of nothing else."""
    try:
        step()
    except Exception:
        log.exception("a connection failed, and is closed")
        connection.abort()
