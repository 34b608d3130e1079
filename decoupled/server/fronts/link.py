"""A front's end of the socket to the writer: hands over admitted messages, as many as the writer may have ahead of it,
and hears what became of them. What waits here has a bounded time.

    requests ── send ──▶ credit? ──▶ one frame, while the sockets bring more ──▶ writer ──▶ 202
                            │ none for WRITER_BUSY_S                              │ silent for WRITER_SILENT_S
                            └▶ 503: safe to send again                            └▶ 503: only with the same key
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import assert_never, cast

from decoupled.core import limits
from decoupled.core.frames import MAX_FRAME_BYTES, Frames, frame
from decoupled.core.metrics import Numbers
from decoupled.core.outcomes import NotSent, Together
from decoupled.core.problem import Response, answer
from decoupled.core.workload import Message
from decoupled.server.door import Sent
from decoupled.server.fronts.protocol import (
    AskHealth,
    Ended,
    Health,
    Leave,
    Sends,
    State,
    Told,
    Unwatch,
    Watch,
    Watched,
    encode,
    from_writer,
    size_of,
)
from decoupled.server.health import Trouble
from decoupled.server.http.watching import Watching
from decoupled.server.watches import Topic

log = logging.getLogger("decoupled.fronts")

ENOUGH = 32  # requests in a frame: with more of them, none costs much less
LOOK_S = 0.25  # between two looks at who has waited for too long
BUSY = NotSent("the queue cannot be written: too much waits to be written")
SILENT = NotSent("the queue cannot be written: the writer does not answer", unknown=True)


@dataclass(slots=True)
class _Request:
    messages: Sequence[Message]
    sent: Sent | None  # None once it was told that nobody knows
    size: int  # bytes, as the credit counts them
    give_up_at: float
    watched: bool  # its one message


class Link(asyncio.Protocol):
    """Implements the gateway's Sender, and its Watcher."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_leave: Callable[[bool], None]) -> None:
        """`on_leave` is called when the front should end, with whether at once."""
        self._loop = loop
        self._on_leave = on_leave
        self._received = Frames(MAX_FRAME_BYTES)
        self._numbers = itertools.count()
        self._used = 0  # bytes of what the writer has, unanswered
        self._waiting: deque[_Request] = deque()  # for credit
        self._unwritten: list[tuple[int, Sequence[Message]]] = []
        self._unwritten_watched: list[str] = []  # ids of some of these
        self._seen = 0  # of these, at the end of the last turn of the loop
        self._with_writer: dict[int, _Request] = {}  # the eldest first
        self._asking: deque[tuple[Callable[[Response], None], float]] = deque()  # for health, and until when
        self._now = loop.time()
        self._transport: asyncio.Transport
        self.watching: Watching  # set before the first message is sent

    # --- to the writer --------------------------------------------------------

    def send(self, messages: Sequence[Message], sent: Sent, watched: bool = False) -> None:
        """Have them put on the queue, all or none."""
        size = size_of(messages, limits.REQUEST_BYTES)
        request = _Request(messages, sent, size, self._now + limits.WRITER_BUSY_S, watched)
        if self._waiting or not self._has_credit(request):
            self._waiting.append(request)
        else:
            self._hand_over(request)

    def _has_credit(self, request: _Request) -> bool:
        """One is always taken, however large."""
        return not self._used or self._used + request.size <= limits.FRONT_WINDOW_BYTES

    def _hand_over(self, request: _Request) -> None:
        number = next(self._numbers)
        request.give_up_at = self._now + limits.WRITER_SILENT_S
        self._with_writer[number] = request
        self._used += request.size
        if not self._unwritten:
            self._loop.call_soon(self._write)
        self._unwritten.append((number, request.messages))
        if request.watched:
            self._unwritten_watched.append(request.messages[0].id)

    def _write(self) -> None:
        """When there is enough for a frame, or a turn of the loop has brought nothing more: a transaction of few costs
        the writer more for each of them, and those who have just been answered ask again in a moment."""
        if self._seen < len(self._unwritten) < ENOUGH:
            self._seen = len(self._unwritten)
            self._loop.call_soon(self._write)
            return
        self._seen = 0
        unwritten, self._unwritten = self._unwritten, []
        watched, self._unwritten_watched = self._unwritten_watched, []
        self._transport.write(frame(encode(Sends(unwritten, watched))))

    def send_watched(self, message: Message, sent: Sent) -> None:
        """Of Watcher."""
        self.send([message], sent, watched=True)

    def watch(self, topic: Topic) -> None:
        """Of Watcher."""
        self._transport.write(frame(encode(Watch(topic))))

    def unwatch(self, topic: Topic) -> None:
        """Of Watcher."""
        self._transport.write(frame(encode(Unwatch(topic))))

    def ask_health(self, reply: Callable[[Response], None]) -> None:
        """Answer with what the writer's process knows; or that it does not answer. Who asks while it is asked hears the
        same: it has better to do, and what it is sent while it does not read must not become ever more."""
        if not self._asking:
            self._transport.write(frame(encode(AskHealth())))
        self._asking.append((reply, self._now + limits.HEALTH_WAIT_S))

    def report(self, troubles: Iterable[Trouble], numbers: Numbers | None = None) -> None:
        """A sign of life; the first one says that this front is ready. With what was counted since the last one."""
        told = [(trouble.detail, trouble.refuses) for trouble in troubles]
        self._transport.write(frame(encode(State(told, numbers))))

    # --- from the writer ------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _error: Exception | None) -> None:
        """The writer is gone: no request can be accepted any more, and what waits for an answer gets none."""
        os._exit(0)

    def data_received(self, data: bytes) -> None:
        """What became of requests, mostly."""
        for payload in self._received.feed(data):
            match from_writer(payload):
                case Told(numbers, outcome):
                    self._told(numbers, outcome)
                case Health(status, body):
                    self._tell_health(status, body)
                case Leave(at_once):
                    self._on_leave(at_once)
                case Watched(topic, refused):
                    self.watching.watched(topic, refused)
                case Ended(topics):
                    self.watching.ended(topics)
                case never:
                    assert_never(never)
        while self._waiting and self._has_credit(self._waiting[0]):
            self._hand_over(self._waiting.popleft())

    def _told(self, numbers: Sequence[int], outcome: Together) -> None:
        for number in numbers:
            request = self._with_writer.pop(number)
            self._used -= request.size
            if request.sent is not None:
                self._tell(request.sent, outcome)

    def _tell(self, sent: Sent, outcome: Together) -> None:
        try:
            sent(outcome)
        except Exception:  # one client's trouble must not keep the answer from the others
            log.exception("an answer could not be given")

    def _tell_health(self, status: int, body: str) -> None:
        asking, self._asking = self._asking, deque()
        for reply, _ in asking:
            reply(Response(status, {"content-type": "application/json"}, body.encode()))

    # --- for how long ---------------------------------------------------------

    def look(self) -> None:
        """From now on again and again: who has waited for too long is told so."""
        self._loop.call_later(LOOK_S, self.look)
        self._now = now = self._loop.time()
        while self._waiting and self._waiting[0].give_up_at <= now:
            if (sent := self._waiting.popleft().sent) is not None:
                self._tell(sent, BUSY)
        for request in self._with_writer.values():
            if request.give_up_at > now:
                break
            if request.sent is not None:
                sent, request.sent = request.sent, None
                self._tell(sent, SILENT)
        while self._asking and self._asking[0][1] <= now:
            reply, _ = self._asking.popleft()
            reply(answer(503, {"status": "unavailable", "detail": "the writer does not answer"}))
