"""A request, once it is read: what the parser fills, and the gateway and those behind it look at. Plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import unquote

from decoupled.core.outcomes import Together
from decoupled.core.workload import Message


class Held(Protocol):
    """Who has a request whose client wants to wait for its answer, or to have one that goes on."""

    def end(self) -> None:
        """Answer now, or say no more: the place is wanted."""
        ...

    def forget(self) -> None:
        """The client is gone."""
        ...


class Trace(Protocol):
    """A trace that goes through a request."""

    def sending(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The messages that it is about to send, as they are to be sent."""
        ...

    def sent(self, outcome: Together) -> None:
        """What came of that."""
        ...


class Request:
    """One request."""

    __slots__ = (
        "began",
        "body",
        "brief",
        "client",
        "cookies",
        "has_head",
        "headers",
        "held",
        "keep_alive",
        "kept",
        "method",
        "opened",
        "target",
        "traced",
        "version",
    )

    def __init__(self) -> None:
        self.began = 0.0  # when it was handed over, whole: by the clock of time.perf_counter
        self.client = ""  # its address
        self.method = ""
        self.target = b""
        self.version = ""
        self.headers: dict[str, str] = {}  # names in lower case, repeated ones joined by commas, without cookies
        self.cookies: list[str] = []
        self.has_head = False
        self.body: bytes | bytearray = b""
        self.keep_alive = True
        self.kept = 0  # bytes that it takes in memory, once it is whole
        self.opened = ""  # header lines of its answer, of `Cors`
        self.held: Held | None = None  # who keeps its answer back, or goes on with it
        self.brief = False  # but not for long, nor for the client's sake: also one that sends no more waits for that
        self.traced: Trace | None = None  # the trace that goes through it, where one does

    def path_and_query(self) -> tuple[str, str]:
        """The path with its percent-encoding undone, and the query string as it came."""
        path, _, query = self.target.decode("latin-1").partition("?")
        return (unquote(path) if "%" in path else path), query
