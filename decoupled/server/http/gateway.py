"""API Gateway for one machine: a request in, the same call that an HTTP API's event would be on Lambda, an answer out.
What a call means is decided in `pipeline/`; only the turns of what is large and the wait for the disk stand here."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeVar, TypeVarTuple

from decoupled.core import limits
from decoupled.core.outcomes import Together, of_each
from decoupled.core.problem import Problem, Response
from decoupled.core.times import now_ms
from decoupled.core.workload import Workloads
from decoupled.engines.protocols import Table
from decoupled.pipeline import receiver, status
from decoupled.pipeline.call import Call
from decoupled.pipeline.receiver import Admission
from decoupled.server.door import Sender
from decoupled.server.http import routes
from decoupled.server.http.callers import Caller, Callers
from decoupled.server.http.pages import pages
from decoupled.server.http.parser import Request
from decoupled.server.http.turns import TURN_S, Turns

log = logging.getLogger("decoupled.gateway")

Reply = Callable[[Response], None]
Begun = Response | Iterator[Response | None] | None
"""The response, or None if it comes later; or steps, of which the last one gives that, and all others None."""


class Gateway:
    """The handler of every request."""

    def __init__(
        self,
        sender: Sender,
        table: Table,
        workloads: Workloads,
        health: Callable[[Reply], None],
        loop: asyncio.AbstractEventLoop,
        clock_ms: Callable[[], int] = now_ms,
        snapshot: Callable[[], AbstractContextManager[None]] = nullcontext,
        callers: Callers | None = None,
    ) -> None:
        """`health` replies to a request for it, now or later. What is read of the table in one `snapshot` costs less;
        it begins with the first of these reads. Without `callers`, nobody is asked who it is."""
        self.sender = sender
        self.table = table
        self.workloads = workloads
        self.health = health
        self.clock_ms = clock_ms
        self.snapshot = snapshot
        self.callers = callers
        self._pages = pages(workloads, () if callers is None else callers.kinds)
        self._random_hex = _random_hex(18).__next__
        self._loop = loop
        self._turns = Turns(loop)
        self._reads: deque[tuple[Call, Request, Reply]] = deque()  # that have come and have had no turn

    def handle(self, request: Request, reply: Reply) -> None:
        """Reply to one request: at once, or when its messages are on the disk. A large one is taken in steps, so that
        others have their turn in between."""
        if len(request.body) > limits.AT_ONCE_BYTES:
            self._turns.take(partial(_step, self._all(request, reply), request, reply))
            return
        begun = _safely(request, self._begin, request, reply)
        if isinstance(begun, Response):
            reply(begun)
        elif begun is not None:
            for _ in range(limits.AT_ONCE_ENTRIES):
                if not _step(begun, request, reply):
                    return
            self._turns.take(partial(_step, begun, request, reply))

    def _all(self, request: Request, reply: Reply) -> Iterator[Response | None]:
        begun = self._begin(request, reply)
        if begun is None or isinstance(begun, Response):
            yield begun
        else:
            yield from begun

    def _begin(self, request: Request, reply: Reply) -> Begun:
        """Raises Problem."""
        call = call_of(request, self.callers)
        if not call.path:
            return self._own(request, reply)
        if len(call.path) > 1:
            self._read(call, request, reply)
            return None
        admission = receiver.begin(call, self.workloads, self.clock_ms(), self._random_hex)
        if admission.indexes is None:
            return self._send(admission, request, reply)
        return self._admit(admission, request, reply)

    def _own(self, request: Request, reply: Reply) -> Response | None:
        path, _ = request.path_and_query()
        if path in self._pages:
            return self._pages[path]
        self.health(reply)
        return None

    def _read(self, call: Call, request: Request, reply: Reply) -> None:
        """When all that this turn of the loop brings is there: whoever was told of a commit and then asked, sees it."""
        if not self._reads:
            self._loop.call_soon(self._read_all)
        self._reads.append((call, request, reply))

    def _read_all(self) -> None:
        """For a turn's time: a page of a listing takes milliseconds, and a megabyte until the loop has sent it."""
        until = time.perf_counter() + TURN_S
        with self.snapshot():
            while self._reads and time.perf_counter() < until:
                call, request, reply = self._reads.popleft()
                response = _safely(request, status.read, call, self.table, self.workloads)
                try:
                    reply(response)
                except Exception:  # one client's trouble must not keep the answer from the others
                    log.exception("an answer could not be given")
        if self._reads:
            self._loop.call_soon(self._read_all)

    def _admit(self, admission: Admission, request: Request, reply: Reply) -> Iterator[Response | None]:
        yield from admission.rest
        yield self._send(admission, request, reply)

    def _send(self, admission: Admission, request: Request, reply: Reply) -> Response | None:
        messages = admission.messages
        if not messages:
            return receiver.respond(admission, [])

        def settled(outcome: Together) -> None:
            reply(_safely(request, receiver.respond, admission, of_each(outcome, len(messages))))

        self.sender.send(messages, settled)
        return None


def call_of(request: Request, callers: Callers | None = None) -> Call:
    """What the request says, as API Gateway would have it. Raises Problem 401, 403, 404, 405 or 503."""
    path, query = request.path_and_query()
    if callers is None or path in routes.OWN:
        return Call(routes.route(request.method, path), query, request.headers, request.body)
    caller = callers.of(request.headers, path.split("/")[1:], request.body)  # before it is told what there is
    parts = routes.route(request.method, path)
    caller.admit(parts)
    if caller.event:
        return _webhook(request, parts, caller)
    return Call(parts, query, request.headers, request.body, caller.name, caller.operator)


def _webhook(request: Request, parts: Sequence[str], caller: Caller) -> Call:
    """Of one that its sender has signed. Of its headers only those count that say how the body is written: nobody has
    signed the others, and whoever has seen it may send it again with a Delay. Raises Problem 403."""
    if request.method != "POST":
        raise Problem(403, "A sender of webhooks may only POST.")
    headers = {name: request.headers[name] for name in _OF_BODIES if name in request.headers}
    return Call(parts, "", headers, request.body, caller.name, event=caller.event)


_OF_BODIES = ("content-type", "content-encoding")


def _step(steps: Iterator[Response | None], request: Request, reply: Reply) -> bool:
    """Whether there is another one."""
    response = _safely(request, next, steps, _END)
    if response is None:
        return True
    if response is not _END:
        reply(response)
    return False


_END: Any = object()

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


def _safely(request: Request, make: Callable[[*Ts], R], *args: *Ts) -> R | Response:
    """The edge: no request may take the server down, and no internals may leave it."""
    try:
        return make(*args)
    except Problem as problem:
        return problem.response()
    except BaseException:  # also a SystemExit that a schema's own checks raise: the loop would end for it
        log.exception("request failed", extra={"target": request.target.decode("latin-1")})
        return Problem(500, "An internal error.", resend="with_idempotency_key").response()


def _random_hex(digits: int) -> Iterator[str]:
    """Random hexadecimal numbers, asked of the system hundreds at a time: a system call each would cost as much as
    validating an order."""
    while True:
        block = secrets.token_hex(digits * 256)
        for start in range(0, len(block), digits):
            yield block[start : start + digits]
