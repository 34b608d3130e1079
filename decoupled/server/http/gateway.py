"""API Gateway for one machine: a request in, the same event 2.0 that an HTTP API sends to Lambda, a response out. What
a request means is decided in `functions/`; only the wait for the disk stands here."""

from __future__ import annotations

import asyncio
import base64
import itertools
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar
from urllib.parse import parse_qsl

from decoupled.core import limits
from decoupled.core.outcomes import NotSent
from decoupled.core.problem import Problem, Response
from decoupled.core.times import now_ms
from decoupled.core.workload import Message, Workloads
from decoupled.engines.protocols import Table
from decoupled.pipeline import receiver, status
from decoupled.server.http import routes
from decoupled.server.http.parser import Request
from decoupled.server.http.turns import Turns

log = logging.getLogger("decoupled.gateway")

_LATER: Any = object()  # the response, when it is not there yet


class Sender(Protocol):
    """Who puts messages on the queue: the writer, or a link to it."""

    def send(self, messages: Sequence[Message], sent: Callable[[NotSent | None], None]) -> None:
        """All or none; `sent` hears of it once, when they are on the disk or known not to be."""
        ...


class Gateway:
    """The handler of every request."""

    def __init__(
        self,
        sender: Sender,
        table: Table,
        workloads: Workloads,
        health: Callable[[Callable[[Response], None]], None],
        loop: asyncio.AbstractEventLoop,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        """`health` replies to a request for it, now or later."""
        self.sender = sender
        self.table = table
        self.workloads = workloads
        self.health = health
        self.clock_ms = clock_ms
        self._random_hex = _random_hex(18).__next__
        self._turns = Turns(loop)

    def handle(self, request: Request, reply: Callable[[Response], None]) -> None:
        """Reply to one request: at once, or when its messages are on the disk. A large one is taken in steps, so that
        others have their turn in between."""
        steps = self._steps(request, reply)
        if len(request.body) <= limits.AT_ONCE_BYTES:
            for _ in range(limits.AT_ONCE_ENTRIES):
                if not self._step(steps, request, reply):
                    return
        self._turns.take(lambda: self._step(steps, request, reply))

    def _step(self, steps: Iterator[Response | None], request: Request, reply: Callable[[Response], None]) -> bool:
        """Whether there is another one."""
        response = _response(request, next, steps, _LATER)
        if response is None:
            return True
        if response is not _LATER:
            reply(response)
        return False

    def _steps(self, request: Request, reply: Callable[[Response], None]) -> Iterator[Response | None]:
        """None after each step but the last, and then the response; nothing if it comes later."""
        path, query = request.path_and_query()
        route, path_parameters = routes.route(request.method, path)
        if route == "GET /health":
            self.health(reply)
            return
        now_ms = self.clock_ms()
        event = to_event(request, route, path, query, path_parameters, now_ms)
        if route != "POST /{workload}":
            yield status.read(event, self.table, self.workloads)
            return
        admission = receiver.begin(event, self.workloads, now_ms, self._random_hex)
        yield from admission.rest
        if not admission.messages:
            yield receiver.respond(admission, [])
            return

        def settled(outcome: NotSent | None) -> None:
            reply(_response(request, receiver.respond, admission, [outcome] * len(admission.messages)))

        self.sender.send(admission.messages, settled)


P = ParamSpec("P")
R = TypeVar("R")


def _response(request: Request, make: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | Response:
    """The edge: no request may take the server down, and no internals may leave it."""
    try:
        return make(*args, **kwargs)
    except Problem as problem:
        return problem.response()
    except Exception:
        log.exception("request failed", extra={"target": request.target.decode("latin-1")})
        return Problem(500, "An internal error.", resend="with_idempotency_key").response()


def _random_hex(digits: int) -> Iterator[str]:
    """Random hexadecimal numbers, asked of the system hundreds at a time: a system call each would cost as much as
    validating an order."""
    while True:
        block = secrets.token_hex(digits * 256)
        for start in range(0, len(block), digits):
            yield block[start : start + digits]


# --- the event ----------------------------------------------------------------

# API Gateway hands over these as text, and everything else as base64.
_TEXT = re.compile(r"(?:text/|application/(?:json|xml|javascript)\s*(?:;|$))")


def to_event(
    request: Request, route: str, path: str, query: str, path_parameters: dict[str, str], now_ms: int
) -> dict[str, Any]:
    """The request as payload format 2.0. Optional keys that have no value are absent, not null."""
    headers = request.headers
    domain = headers.get("host", "")
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route,
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "embedded",
            "domainName": domain,
            "domainPrefix": domain.partition(".")[0],
            "http": {
                "method": request.method,
                "path": path,
                "protocol": f"HTTP/{request.version}",
                "sourceIp": request.client,
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": f"{now_ms:x}-{next(_request_numbers):x}",
            "routeKey": route,
            "stage": "$default",
            "time": _clf_time(now_ms // 1000),
            "timeEpoch": now_ms,
        },
        "isBase64Encoded": False,
    }
    if request.body:
        event["body"], event["isBase64Encoded"] = _body_text(request.body, headers.get("content-type", ""))
    if request.cookies:
        event["cookies"] = request.cookies
    if query:
        event["queryStringParameters"] = _joined(parse_qsl(query, keep_blank_values=True))
    if path_parameters:
        event["pathParameters"] = path_parameters
    return event


def _body_text(body: bytes | bytearray, content_type: str) -> tuple[str, bool]:
    if _TEXT.match(content_type):
        try:
            return body.decode(), False
        except UnicodeDecodeError:
            pass  # not the text it says it is: handed over as bytes, and refused by the receiver
    return base64.b64encode(body).decode(), True


def _joined(pairs: list[tuple[str, str]]) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return {name: ",".join(those) for name, those in values.items()}


_request_numbers = itertools.count(1)
_last_time = (0, "")


def _clf_time(second: int) -> str:
    """12/Mar/2020:19:03:58 +0000, made once a second."""
    global _last_time
    if _last_time[0] != second:
        _last_time = (second, time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(second)))
    return _last_time[1]
