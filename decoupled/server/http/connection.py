"""One client's HTTP/1.1 connection: requests to the handler one at a time, answers in their order, and an end that
takes no answer away.

    bytes ─▶ Reader ─▶ Request ─▶ handler ─ ─ ─ ▶ Response ─▶ bytes
                └ refused: answered as the last, and nothing more is read

A request has no task and no coroutine: the handler gets a function to answer with, and the group commit calls it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol, cast

from decoupled.core import limits
from decoupled.core.problem import Problem, Response
from decoupled.server.http.parser import Budget, Reader, Request

log = logging.getLogger("decoupled.http_server")

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}

Handler = Callable[[Request, Callable[[Response], None]], None]
"""Takes a request and the function to answer it with, which it calls once, now or later. Never raises."""


class Server(Protocol):
    """What a connection needs of its server."""

    loop: asyncio.AbstractEventLoop
    handle: Handler
    budget: Budget
    now: float  # seconds, at most a second old
    date: str  # of the header
    stopping: bool

    def joined(self, connection: Connection) -> None:
        """The connection is there."""
        ...

    def left(self, connection: Connection) -> None:
        """The connection has ended."""
        ...


class Connection(asyncio.Protocol):
    """Every wait for the client has an end: the server calls `expire` when `deadline` has passed."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._reader = Reader(self, server.budget)
        self._transport: asyncio.Transport | None = None
        self._client = ""
        self._answering: Request | None = None
        self._waiting: deque[Request | Problem] = deque()  # pipelined: what one read brought
        self._paused = False  # nothing more is read until those are answered
        self._clogged = False  # the client does not take its answers
        self._half_closed = False  # it sends no more
        self._ignored_bytes = 0
        self.deadline = server.now + limits.KEEP_ALIVE_S

    @property
    def is_idle(self) -> bool:
        """Between two requests."""
        reader = self._reader
        return not (self._answering or self._waiting or reader.reading or reader.refusing or self._clogged)

    # --- the socket -----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._client = str(peer[0]) if peer else ""
        self._server.joined(self)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        reader = self._reader
        if reader.refusing:
            self._ignore(data)
            return
        before = reader.reading
        reader.feed(data)
        if reader.reading is not before and reader.reading is not None and self._answering is None:
            self.deadline = self._server.now + limits.REQUEST_READ_S

    def _ignore(self, data: bytes) -> None:
        """Most clients look for an answer only when they have sent everything; if that is not too much, they may."""
        self._ignored_bytes += len(data)
        if self._ignored_bytes > limits.MAX_DISCARDED_BYTES and self._transport is not None:
            self._transport.abort()

    def eof_received(self) -> bool:
        """The client sends no more; it may still listen."""
        self._half_closed = True
        if self._reader.reading is not None:
            self._reader.refuse(Problem(400, "The request ended before it was complete.", resend="safe"))
        return self._answering is not None or bool(self._waiting)

    def connection_lost(self, _error: Exception | None) -> None:
        """It has ended. What was sent whole is handled all the same, and its answer dropped; what waited behind it was
        not begun."""
        self._transport = None
        self._server.budget.used -= sum(it.bytes_held for it in self._waiting if isinstance(it, Request))
        self._waiting.clear()
        self._reader.close()
        self._server.left(self)

    def pause_writing(self) -> None:
        """The client takes no answers: no more are made for it."""
        self._clogged = True

    def resume_writing(self) -> None:
        """It does again."""
        self._clogged = False
        self._go_on()

    # --- what the reader finds ------------------------------------------------

    def whole(self, request: Request) -> None:
        request.client = self._client
        self._take(request)

    def refused(self, problem: Problem) -> None:
        self._take(problem)

    def expects_continue(self) -> None:
        """As the reader says. Not before the answers that come first: then it sends the body anyway, a little later."""
        if self._answering is None and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # --- one after the other --------------------------------------------------

    def _take(self, request: Request | Problem) -> None:
        if self._answering is None and not self._waiting and not self._clogged:
            self._begin(request)
            return
        self._waiting.append(request)
        if self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _begin(self, request: Request | Problem) -> None:
        if isinstance(request, Problem):
            self._end_with(request)
            return
        self._answering = request
        self.deadline = self._server.now + limits.ANSWER_S
        self._server.handle(request, self._answer)

    def _answer(self, response: Response) -> None:
        request, self._answering = self._answering, None
        transport = self._transport
        if request is not None:
            self._server.budget.used -= request.bytes_held
        if request is None or transport is None or transport.is_closing():
            return  # the client has left
        last = not request.keep_alive or (not self._waiting and (self._half_closed or self._server.stopping))
        transport.write(_encode(response, request, last, self._server.date))
        if last:
            self._close(transport)
        elif self._paused:
            # Not from here: a thousand would be a deep stack.
            self._server.loop.call_soon(lambda: self.alone(self._go_on))
        else:
            self._await_more()

    def _go_on(self) -> None:
        if self._answering is not None or self._clogged or self._transport is None:
            return
        if self._waiting:
            self._begin(self._waiting.popleft())
        elif not self._reader.refusing:
            self._resume()
            self._await_more()

    def _resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def _await_more(self) -> None:
        wait_s = limits.KEEP_ALIVE_S if self._reader.reading is None else limits.REQUEST_READ_S
        self.deadline = self._server.now + wait_s

    # --- ends -----------------------------------------------------------------

    def alone(self, step: Callable[[], None]) -> None:
        """Take a step of this connection. If it fails, that is the end of the connection, and of nothing else."""
        try:
            step()
        except Exception:
            log.exception("a connection failed, and is closed")
            self.abort()

    def abort(self) -> None:
        """Close it at once, whatever is unsent."""
        if self._transport is not None:
            self._transport.abort()

    def _end_with(self, problem: Problem) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(_encode(problem.response(), None, True, self._server.date))
        self._close(transport)

    def _close(self, transport: asyncio.Transport) -> None:
        """After the last answer. What still comes is ignored."""
        self._reader.refusing = True
        self.deadline = self._server.now + (limits.ANSWER_S if transport.get_write_buffer_size() else limits.LINGER_S)
        if self._half_closed:
            transport.close()
        else:  # to close with something unread would take the answer away from the client
            transport.write_eof()
            self._resume()

    def expire(self) -> None:
        """The deadline has passed."""
        if self._transport is None:
            return
        if self._reader.reading is not None and self._answering is None and not self._clogged:
            why = f"The request was not complete within {limits.REQUEST_READ_S} s."
            self._reader.refuse(Problem(408, why, resend="safe"))
        elif self.is_idle and not self._transport.is_closing():
            self._transport.close()
        else:  # also what was closed and still waits for the client to take the last answer
            self._transport.abort()

    def stop(self) -> None:
        """Take no further request. One that is whole is still answered."""
        if self._reader.reading is not None:
            self._reader.refuse(Problem(503, "The server stops.", resend="safe", retry_after_s=1))
        elif self.is_idle and self._transport is not None:
            self._transport.close()


def _encode(response: Response, request: Request | None, last: bool, date: str) -> bytes:
    """The answer's bytes. Without a request: one that was not understood."""
    body = response["body"].encode()
    headers = "".join(f"{name}: {value}\r\n" for name, value in response["headers"].items())
    if last:
        headers += "connection: close\r\n"
    elif request is not None and request.version == "1.0":
        headers += "connection: keep-alive\r\n"
    head = f"{_STATUS_LINES[response['statusCode']]}{headers}content-length: {len(body)}\r\ndate: {date}\r\n\r\n"
    return head.encode("latin-1") + (b"" if request is not None and request.method == "HEAD" else body)
