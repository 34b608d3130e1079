"""One client's HTTP/1.1 connection: requests to the handler one at a time, answers in their order, and an end that
takes no answer away.

    bytes ─▶ Intake ─▶ Request ─▶ handler ─ ─ ─ ▶ Response ─▶ bytes
                └ refused: answered as the last, and nothing more is read

A request has no task and no coroutine: the handler gets a function to answer with, and the group commit calls it."""

from __future__ import annotations

import asyncio
import math
from typing import cast

from decoupled.core import limits
from decoupled.core.problem import Problem, Response
from decoupled.server.http.answers import encode, encode_head
from decoupled.server.http.exchange import Server, Stream
from decoupled.server.http.intake import Intake
from decoupled.server.http.outflow import Outflow
from decoupled.server.http.request import Request
from decoupled.server.http.shares import client_at, too_much


class Connection(asyncio.Protocol):
    """Every wait for the client has an end: the server calls `expire` when `deadline` has passed. All that is kept for
    the client counts as its share."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._intake = Intake(self._proceed)
        self._transport: asyncio.Transport | None = None
        self._client = ""
        self.address = ""  # the client's, as it counts for the shares
        self.kept = 0  # bytes, as the shares were told
        self._answering: Request | None = None
        self._stream: Stream | None = None  # that it is answered with
        self._answering_bytes = 0  # of a large one: a small one is kept for a moment, and one is not many
        self._unsent = 0  # bytes of answers; until the client takes them, no more are made for it
        self._unread = False  # nothing is read, because a request waits, or a large body for room
        self._awaits_room = False  # the body waits
        self._half_closed = False  # the client sends no more
        self._leaving = False  # its place is wanted
        self._stopped = False  # no further request is taken
        self._in_turn = False  # to go on
        self._wait(limits.KEEP_ALIVE_S)

    def _wait(self, seconds: float) -> None:
        self.since = self._server.now
        self._patience_s = seconds

    @property
    def deadline(self) -> float:
        """When it has waited long enough."""
        return self.since + self._patience_s

    @property
    def is_idle(self) -> bool:
        """Between two requests."""
        return not (self._answering or self._unsent or self._intake.is_busy)

    # --- the socket -----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0)  # so that `pause_writing` tells of every byte that is not sent
        self._client, self.address = client_at(transport.get_extra_info("peername"))
        self._server.joined(self)

    def data_received(self, data: bytes) -> None:
        intake = self._intake
        if not intake.receive(data):
            self.abort()
            return
        if intake.reader.reading is not None and intake.went_on() and self._answering is None and not self._unsent:
            self._wait(limits.REQUEST_PART_S)
        self._begin_next()

    def eof_received(self) -> bool:
        """The client sends no more; it may still listen."""
        self._half_closed = True
        if self._intake.reader.reading is not None:
            self._refuse(Problem(400, "The request ended before it was complete.", resend="safe"))
        if (request := self._answering) is not None and request.held is not None and not request.brief:
            request.held.end()  # most that do this have left
        return self._answering is not None or bool(self._intake.waiting)

    def connection_lost(self, _error: Exception | None) -> None:
        """It has ended. What was sent whole is handled all the same, and its answer dropped; what waited behind it was
        not begun."""
        self._transport, self._stream, self._unsent, self._awaits_room = None, None, 0, False
        self._intake.close()
        if self._answering is not None and self._answering.held is not None:
            self._answering.held.forget()
        self._count()
        self._server.left(self)

    def pause_writing(self) -> None:
        """The client takes no answers: no more are made for it."""
        if self._transport is not None:
            self._unsent = self._transport.get_write_buffer_size()
            self._wait(limits.UNSENT_S)

    def resume_writing(self) -> None:
        """It does again."""
        self._unsent = 0
        if self._intake.reader.refusing:
            self._wait(limits.LINGER_S)
        elif self._stream is not None:
            self._wait(math.inf)
            self._stream.go_on()
        elif self._answering is None:
            self._await_more()
        self._begin_next()

    def _proceed(self) -> None:
        if self._answering is None and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # --- one after the other --------------------------------------------------

    def go_on(self) -> None:
        """It is its turn again."""
        self._in_turn = False
        self._begin_next()

    def _begin_next(self) -> None:
        """One request, and the one after it when the loop has turned: others have their turn."""
        transport = self._transport
        if transport is None:
            return
        if self._answering is None and not self._unsent and (request := self._intake.next()) is not None:
            if isinstance(request, Request):
                self._begin(request)
            elif not transport.is_closing():
                self._server.requests.refused(request.status)
                opened = "" if self._server.opened is None else self._server.opened(self._intake.reader.origin)
                transport.write(encode(request.response(), None, True, self._server.date, opened))
                self._close(transport)
        self._regulate(transport)
        self._count()

    def _regulate(self, transport: asyncio.Transport) -> None:
        unread = self._awaits_room or bool(self._intake.waiting or self._intake.rest)
        if unread != self._unread:
            self._unread = unread
            (transport.pause_reading if unread else transport.resume_reading)()

    def _begin(self, request: Request) -> None:
        request.client = self._client
        self._answering = request
        self._wait(limits.ANSWER_S)
        server = self._server
        if server.opened is not None:
            request.opened = server.opened(request.headers.get("origin"))
        if request.kept > limits.SMALL_REQUEST_BYTES:
            self._answering_bytes = request.kept
            if server.shares.used > server.shares.most:
                self._answer(too_much().response())
                return
        server.handle(request, self._answer)

    def _answer(self, response: Response | Stream) -> None:
        request, transport = self._answering, self._transport
        self._answering, self._answering_bytes = None, 0
        if request is None or transport is None or transport.is_closing():
            if not isinstance(response, Response):
                response.forget()
            self._count()  # the client has left
        elif isinstance(response, Response):
            if response.status >= 400:
                self._server.requests.refused(response.status)
            last = self._is_last(request)
            transport.write(encode(response, request, last, self._server.date, request.opened))
            self._answered(transport, last)
        else:
            self._answering = request
            self._begin_stream(response, request, transport)

    def _is_last(self, request: Request) -> bool:
        # A request that has begun to come is still taken, where the server only wants no new ones.
        ends = self._half_closed or self._stopped or (self._server.stopping and self._intake.reader.reading is None)
        return not request.keep_alive or (ends and not self._intake.has_more)

    def _answered(self, transport: asyncio.Transport, last: bool) -> None:
        if last:
            self._close(transport)
        elif not self._unsent:
            self._await_more()
            if self._intake.has_more and not self._in_turn:
                self._in_turn = True
                self._server.go_on_soon(self)
        self._count()

    def _begin_stream(self, stream: Stream, request: Request, transport: asyncio.Transport) -> None:
        request.keep_alive = not self._is_last(request)
        transport.write(encode_head(stream.head, request, not request.keep_alive, self._server.date))
        self._stream, request.held = stream, stream
        if not self._unsent:
            self._wait(math.inf)
        stream.begin(Outflow(transport, request, lambda: not self._unsent, self._finished))

    def _finished(self, transport: asyncio.Transport, request: Request) -> None:
        self._answering, self._stream = None, None
        self._answered(transport, request.version == "1.0" or self._is_last(request))

    def _await_more(self) -> None:
        self._wait(limits.KEEP_ALIVE_S if self._intake.reader.reading is None else limits.REQUEST_PART_S)

    # --- what the shares ask and say ------------------------------------------

    def _count(self) -> None:
        """Tell the shares when there is more or less than they know of."""
        kept = self._intake.kept + self._unsent + self._answering_bytes
        if kept != self.kept:
            self._server.shares.count(self, kept)

    @property
    def spare(self) -> int:
        return self.kept - self._answering_bytes

    @property
    def sends_much(self) -> bool:
        return self._intake.reader.kept > limits.LARGE_BODY_BYTES

    @property
    def may_leave(self) -> bool:
        more = self._intake.has_more and not self._intake.reader.refusing
        return self._answering is None or self._answering.held is not None or self._unsent > 0 or more

    def stop_reading(self) -> None:
        self._awaits_room = True
        self._wait(limits.ROOM_WAIT_S)
        self._begin_next()

    def read_on(self) -> None:
        self._awaits_room = False
        self._wait(limits.REQUEST_PART_S)
        self._begin_next()

    def give_way(self, problem: Problem, at_once: bool) -> None:
        """As the shares say. A request that is being answered gets its answer; those that wait behind it get none."""
        self._leaving |= at_once
        if self._unsent or self._intake.reader.refusing:
            self.abort()
        elif self.is_idle and self._transport is not None:
            self._transport.close()
        else:
            self._intake.forget()
            if self._answering is not None and self._answering.held is not None:
                self._stopped = True
                self._answering.held.end()
            else:
                self._refuse(problem)

    # --- ends -----------------------------------------------------------------

    def abort(self) -> None:
        """Close it at once, whatever is unsent."""
        if self._transport is not None:
            self._unsent = 0
            self._intake.forget()
            self._transport.abort()
            self._count()

    def _refuse(self, problem: Problem) -> None:
        """Read no more. Answers that come first are still given."""
        self._awaits_room = False
        self._intake.refuse(problem)
        self._begin_next()

    def _close(self, transport: asyncio.Transport) -> None:
        """After the last answer. What still comes is ignored."""
        self._intake.end()
        self._wait(limits.UNSENT_S if self._unsent else limits.LINGER_S)
        if self._half_closed or self._leaving:
            transport.close()
        else:  # to close with something unread would take the answer away from the client
            transport.write_eof()
            self._regulate(transport)

    def expire(self) -> None:
        """The deadline has passed."""
        reader = self._intake.reader
        if self._awaits_room:
            self._refuse(too_much())
        elif reader.reading is not None and self._answering is None and not self._unsent:
            self._refuse(Problem(408, f"The request did not go on for {limits.REQUEST_PART_S} s.", resend="safe"))
        elif self.is_idle and self._transport is not None and not self._transport.is_closing():
            self._transport.close()
        elif self._unsent or self._answering is None or self._answering.held is None:
            self.abort()  # also what was closed and still waits for the client to take the last answer

    def stop(self) -> None:
        """Take no further request. One that is whole is still answered."""
        self._stopped = True
        if self._intake.reader.reading is not None:
            self._refuse(Problem(503, "The server stops.", resend="safe", retry_after_s=1))
        elif self.is_idle and self._transport is not None:
            self._transport.close()
