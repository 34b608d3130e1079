"""API Gateway for one machine: a request in, the same call that an HTTP API's event would be on Lambda, an answer out.
What a call means is decided in `pipeline/`; only the turns of what is large and the wait for the disk stand here."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from time import perf_counter
from typing import Any, TypeVar, TypeVarTuple

from decoupled.core import limits, tracing
from decoupled.core.outcomes import Together, of_each
from decoupled.core.problem import Problem, Response
from decoupled.core.times import now_ms
from decoupled.core.workload import Workloads
from decoupled.engines.protocols import Ends, Table
from decoupled.pipeline import prefer, receiver, status
from decoupled.pipeline.call import Call
from decoupled.pipeline.receiver import Admission
from decoupled.server.callers.callers import Caller, Callers
from decoupled.server.counting import Requests
from decoupled.server.http import routes, traced
from decoupled.server.http.dashboard import MAY_BEGIN, Page
from decoupled.server.http.exchange import Reply
from decoupled.server.http.hearing import Hearing, Wait
from decoupled.server.http.pages import pages
from decoupled.server.http.reads import Reads
from decoupled.server.http.request import Request
from decoupled.server.http.streams import Streams
from decoupled.server.http.turns import Turns
from decoupled.server.http.watching import Watcher, Watching

log = logging.getLogger("decoupled.gateway")

Begun = Response | Iterator[Response | None] | None
"""The response, or None if it comes later; or steps, of which the last one gives that, and all others None."""


Read = Callable[[Call, Request, Reply], Response | None]
"""Gives the response, or replies itself, now or later. Raises Problem."""


class Gateway:
    """The handler of every request."""

    def __init__(
        self,
        sender: Watcher,
        table: Table,
        ends: Ends,
        workloads: Workloads,
        health: Callable[[Reply], None],
        loop: asyncio.AbstractEventLoop,
        clock_ms: Callable[[], int] = now_ms,
        snapshot: Callable[[], AbstractContextManager[None]] = nullcontext,
        callers: Callers | None = None,
        of: int = 1,
        page: Page | None = None,
        requests: Requests | None = None,
    ) -> None:
        """`health` replies to a request for it, now or later. What is read of the table in one `snapshot` costs less;
        it begins with the first of these reads. Without `callers`, nobody is asked who it is. One `of` so many that
        have clients."""
        self.sender = sender
        self.table = table
        self.workloads = workloads
        self.health = health
        self.clock_ms = clock_ms
        self.callers = callers
        self._page = page
        self.requests = requests or Requests()
        self.scheme = "http"  # that its clients speak
        self._pages = pages(workloads, () if callers is None else callers.kinds)
        self._plain = routes.plain(workloads)
        self._random_hex = _random_hex(18).__next__
        self._turns = Turns(loop)
        self._reads = Reads(loop, snapshot)
        self.watching = Watching(sender, loop)
        self.hearing = Hearing(self.watching, self._reads, table, workloads, loop, of)
        self._streams = Streams(self.hearing, ends, partial(call_of, callers=callers))

    def handle(self, request: Request, reply: Reply) -> None:
        """Reply to one request: at once, or when its messages are on the disk. A large one is taken in steps, so that
        others have their turn in between."""
        if request.target not in self._plain and request.target[1:2] in MAY_BEGIN and self._page is not None:
            taken = _safely(request, self._page.handle, request, reply)
            if isinstance(taken, Response):
                reply(taken)
            if taken:
                return
        request.began = perf_counter()
        if tracing.active is not None and request.method == "POST":
            reply = traced.begin(request, self.scheme, reply)
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
        if self.callers is None and request.method == "POST" and (plain := self._plain.get(request.target)):
            call = Call(plain, "", request.headers, request.body)
        else:
            call = call_of(request, self.callers)
            if not call.path:
                return self._own(request, reply)
            if request.method != "POST":
                self._reads.take(partial(self._read, self._reader(call), call, request, reply))
                return None
        admission = receiver.begin(call, self.workloads, self.clock_ms(), self._random_hex)
        if admission.indexes is not None:
            return self._admit(admission, request, reply)
        if "prefer" in call.headers and (seconds := prefer.wait_s(call.headers["prefer"])):
            wait = self.hearing.wait_for_sent(call, seconds, request, reply)
            return self._send(admission, request, reply, wait)
        return self._send(admission, request, reply)

    def _own(self, request: Request, reply: Reply) -> Response | None:
        path, _ = request.path_and_query()
        if path in self._pages:
            return self._pages[path]
        self.health(reply)
        return None

    def _reader(self, call: Call) -> Read:
        """What answers it."""
        path = call.path
        if len(path) == 1:
            return self._streams.of_caller
        workload = self.workloads.get(path[0])
        if len(path) == 2:
            if "prefer" in call.headers and (workload is None or path[1] not in workload.listed):
                return self._wait_and_read
        elif path[2] == "events" and (workload is None or path[1] not in workload.readable):
            return self._streams.of_record
        return self._read_at_once

    def _read(self, read: Read, call: Call, request: Request, reply: Reply) -> None:
        response = _safely(request, read, call, request, reply)
        if response is not None:
            reply(response)

    def _read_at_once(self, call: Call, _request: Request, _reply: Reply) -> Response:
        return status.read(call, self.table, self.workloads)

    def _wait_and_read(self, call: Call, request: Request, reply: Reply) -> Response | None:
        seconds = prefer.wait_s(call.headers["prefer"])
        if not seconds:
            return self._read_at_once(call, request, reply)
        self.hearing.get(call, seconds, request, reply)
        return None

    def _admit(self, admission: Admission, request: Request, reply: Reply) -> Iterator[Response | None]:
        yield from admission.rest
        yield self._send(admission, request, reply)

    def _send(self, admission: Admission, request: Request, reply: Reply, wait: Wait | None = None) -> Response | None:
        messages = admission.messages
        if not messages:
            return receiver.respond(admission, [])
        if request.traced is not None:
            messages = list(request.traced.sending(messages))

        if wait is None:
            self.sender.send(messages, lambda outcome: reply(self._responded(admission, request, outcome)))
        else:
            known = admission.resend == "safe"  # its id is that of a key
            wait.send(messages[0], known, partial(self._responded, admission, request))
        return None

    def _responded(self, admission: Admission, request: Request, outcome: Together) -> Response:
        if request.traced is not None:
            request.traced.sent(outcome)
        response = _safely(request, receiver.respond, admission, of_each(outcome, len(admission.messages)))
        if response.status == 202:
            self.requests.accepted(admission.messages[0].workload, perf_counter() - request.began)
        return response


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
