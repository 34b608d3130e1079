"""Requests that may take their time, answered in a thread of their own beside the event loop: the page's, and the
metrics'. What waits for the thread is bounded in number and in time; nothing is begun for a client that has gone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Protocol

from decoupled.core import limits
from decoupled.core.problem import Problem, Response
from decoupled.core.workload import Unavailable
from decoupled.pipeline.call import Call
from decoupled.server.health import Trouble
from decoupled.server.http.exchange import Reply
from decoupled.server.http.request import Request

log = logging.getLogger("decoupled.page")


class Answers(Protocol):
    """What is asked, in that thread."""

    def answer(self, method: str, call: Call, client: str) -> Response:
        """`client`: its address. Raises Problem, or Unavailable, or ValueError for what cannot be asked."""
        ...

    def close(self) -> None:
        """Let go of what it has open."""
        ...


class Aside:
    """Begins its thread when it is first asked."""

    def __init__(self, make: Callable[[], Answers], loop: asyncio.AbstractEventLoop) -> None:
        """`make` is called in the thread; it may be slow, and may raise what Answers may."""
        self._make = make
        self._loop = loop
        self._waiting: queue.Queue[_Asked | None] = queue.Queue(limits.MAX_PAGE_WAITING)
        self._thread: threading.Thread | None = None
        self._answers: Answers | None = None
        self._since: float | None = None  # when the thread began the one that it is at

    def ask(self, method: str, call: Call, request: Request, reply: Reply) -> None:
        """Reply later: when it is its turn, or when that takes too long."""
        if len(call.body) > limits.MAX_PAGE_BODY_BYTES:
            reply(Problem(413, f"This takes {limits.MAX_PAGE_BODY_BYTES:,} bytes at most.").response())
            return
        asked = _Asked(method, call, request.client, reply)
        try:
            self._waiting.put_nowait(asked)
        except queue.Full:
            reply(_busy("too many ask at once").response())
            return
        request.held, request.brief = asked, True
        asked.timer = self._loop.call_later(limits.PAGE_ANSWER_S, self._late, asked)
        if self._thread is None:
            self._begin()

    def trouble(self) -> Trouble | None:
        """The thread hangs, in a disk that does: whoever looks at the page or asks for metrics waits in vain."""
        since = self._since
        if since is None or (seconds := time.monotonic() - since) < limits.PAGE_ANSWER_S:
            return None
        return Trouble(f"the page and the metrics are not answered: a look at the file has taken {seconds:.0f} s")

    def _late(self, asked: _Asked) -> None:
        """The thread may hang, in a disk that does: a person is to know."""
        log.warning("the page is not answered in time", extra={"path": "/".join(asked.call.path)[:80]})
        asked.end()

    def _begin(self) -> None:
        thread = threading.Thread(target=self._answer_all, name="page", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no threads left; the next one tries again
            self._end_waiting(f"{error}")
        else:
            self._thread = thread

    def close(self) -> None:
        """Answer no more, and let go of everything: whoever folds the log at the end has to be the last one."""
        if self._thread is not None:
            self._end_waiting("the server stops")
            self._waiting.put_nowait(None)
            self._thread.join(limits.PAGE_END_S)

    def _end_waiting(self, why: str) -> None:
        """Those whose turn has not come get no other answer."""
        with contextlib.suppress(queue.Empty):
            while (asked := self._waiting.get_nowait()) is not None:
                asked.answered(_busy(why).response())

    # --- in the thread --------------------------------------------------------

    def _answer_all(self) -> None:
        while (asked := self._waiting.get()) is not None:
            if not asked.over:
                self._since = time.monotonic()
                response = self._safely(asked)
                self._since = None
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    self._loop.call_soon_threadsafe(asked.answered, response)
        if self._answers is not None:
            self._answers.close()

    def _safely(self, asked: _Asked) -> Response:
        """The edge, as the gateway's: no request may take the thread down."""
        try:
            return self._answer(asked)
        except BaseException:
            log.exception("the page cannot be answered", extra={"path": "/".join(asked.call.path)})
            return Problem(500, "An internal error.", resend="safe").response()

    def _answer(self, asked: _Asked) -> Response:
        try:
            if self._answers is None:
                self._answers = self._make()
            return self._answers.answer(asked.method, asked.call, asked.client)
        except Problem as problem:
            return problem.response()
        except ValueError as error:
            return Problem(422, str(error)).response()
        except Unavailable as error:
            return _busy(str(error)).response()


class _Asked:
    """One request. Implements Held."""

    def __init__(self, method: str, call: Call, client: str, reply: Reply) -> None:
        self.method = method
        self.call = call
        self.client = client
        self.timer: asyncio.TimerHandle | None = None
        self.over = False  # it was answered, or its client has gone
        self._reply = reply

    def answered(self, response: Response) -> None:
        """In the loop."""
        if not self.over:
            self.forget()
            self._reply(response)

    def end(self) -> None:
        """Of Held: it takes too long, or its place is wanted."""
        self.answered(_busy("it takes too long").response())

    def forget(self) -> None:
        """Of Held: its client has gone."""
        self.over = True
        if self.timer is not None:
            self.timer.cancel()


def _busy(why: str) -> Problem:
    return Problem(503, f"The page cannot be answered now: {why}.", resend="safe", retry_after_s=2)
