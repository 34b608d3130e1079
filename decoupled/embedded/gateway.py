"""API Gateway for one machine: HTTP in, the same event 2.0 that an HTTP API sends to Lambda, HTTP out. A bare RSGI
application: what a request means is decided in `functions/`, and only the wait for the disk stands here."""

from __future__ import annotations

import base64
import itertools
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import parse_qsl

from granian.rsgi import ProtocolClosed  # type: ignore[attr-defined]  # named there without __all__

from decoupled import limits
from decoupled.embedded.table import SqliteTable
from decoupled.embedded.writer import Writer
from decoupled.http import Event, Problem, Response, answer
from decoupled.workload import Workloads
from functions import receiver, status

log = logging.getLogger("decoupled.gateway")


class Scope(Protocol):
    """A request, as granian's RSGI hands it over."""

    method: str
    path: str
    query_string: str
    http_version: str
    client: str

    @property
    def headers(self) -> Any:
        """With `items()`: pairs of lower-case name and value, repeated ones included."""


class Exchange(Protocol):
    """The other half of a request: its body, and the way back."""

    async def __call__(self) -> bytes:
        """The whole body."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The body in pieces."""
        ...

    def response_str(self, status: int, headers: list[tuple[str, str]], body: str) -> None:
        """Answer."""
        ...


class Gateway:
    """The RSGI application."""

    def __init__(
        self,
        writer: Writer,
        table: SqliteTable,
        workloads: Workloads,
        health: Callable[[], Mapping[str, Any]],
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.writer = writer
        self.table = table
        self.workloads = workloads
        self.health = health
        self.clock_ms = clock_ms
        self._random_hex = _random_hex(18).__next__
        self.buffered_bytes = 0  # of bodies being read: bounded, whatever the number of clients

    async def __rsgi__(self, scope: Scope, exchange: Exchange) -> None:
        """One request."""
        try:
            response = await self._respond(scope, exchange)
        except Problem as problem:
            response = problem.response()
        except Exception:  # the edge: no request may take the server down, and no internals may leave it
            log.exception("request failed", extra={"path": scope.path})
            response = Problem(500, "An internal error.", resend="with_idempotency_key").response()
        exchange.response_str(response["statusCode"], list(response["headers"].items()), response["body"])

    async def _respond(self, scope: Scope, exchange: Exchange) -> Response:
        route, path = _route(scope.method, scope.path)
        if route == "GET /health":
            health = self.health()
            return answer(200 if health["status"] == "ok" else 503, health)
        now_ms = self.clock_ms()
        event = to_event(scope, route, path, now_ms)
        if body := await self._body(event["headers"], exchange):
            event["body"], event["isBase64Encoded"] = _body_text(body, event["headers"].get("content-type", ""))
        if route == "POST /{workload}":
            return await self._accept(event, now_ms)
        return status.handle(event, self.table, self.workloads)

    async def _accept(self, event: Event, now_ms: int) -> Response:
        admission = receiver.admit(event, self.workloads, now_ms, self._random_hex)
        if not admission.messages:
            return receiver.respond(admission, [])
        outcome = await self.writer.send(admission.messages)
        return receiver.respond(admission, [outcome] * len(admission.messages))

    async def _body(self, headers: Mapping[str, str], exchange: Exchange) -> bytes:
        """The body, within its limit, also when the client does not say how long it is."""
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) <= limits.WHOLE_BODY_BYTES:
            try:
                return await exchange()
            except ProtocolClosed:
                raise _incomplete() from None
        if length.isdecimal() and int(length) > limits.MAX_REQUEST_BYTES:
            if int(length) <= limits.MAX_DISCARDED_BYTES and "expect" not in headers:
                async for _ in exchange:  # most clients look for an answer only when they have sent everything
                    pass
            raise _too_large()
        chunks: list[bytes] = []
        size = 0
        try:
            async for chunk in exchange:
                chunks.append(chunk)
                size += len(chunk)
                self.buffered_bytes += len(chunk)
                if size > limits.MAX_REQUEST_BYTES:
                    raise _too_large()
                if self.buffered_bytes > limits.MAX_BUFFERED_BYTES:
                    raise Problem(503, "Too many large bodies at once.", resend="safe", retry_after_s=1)
        finally:
            self.buffered_bytes -= size
        if length.isdecimal() and size != int(length):  # the pieces just end when the client leaves
            raise _incomplete()
        return b"".join(chunks)


def _too_large() -> Problem:
    return Problem(413, f"The body is over {limits.MAX_REQUEST_BYTES} bytes.")


def _incomplete() -> Problem:
    return Problem(400, "The client left before its body was complete.", resend="safe")


def _random_hex(digits: int) -> Iterator[str]:
    """Random hexadecimal numbers, asked of the system hundreds at a time: a system call each would cost as much as
    validating an order."""
    while True:
        block = secrets.token_hex(digits * 256)
        for start in range(0, len(block), digits):
            yield block[start : start + digits]


# --- routes -------------------------------------------------------------------


def _route(method: str, path: str) -> tuple[str, dict[str, str]]:
    """The route key and the path parameters, as API Gateway gives them. Raises Problem 404 or 405."""
    if path == "/health":
        return _allowed(method, "GET", "GET /health"), {}
    parts = path.split("/")[1:]
    if all(parts):
        if len(parts) == 1:
            return _allowed(method, "POST", "POST /{workload}"), {"workload": parts[0]}
        if len(parts) == 2:
            return _allowed(method, "GET", "GET /{workload}/{id}"), {"workload": parts[0], "id": parts[1]}
        if len(parts) == 3:
            path_parameters = {"workload": parts[0], "collection": parts[1], "key": parts[2]}
            return _allowed(method, "GET", "GET /{workload}/{collection}/{key}"), path_parameters
    raise Problem(404, "There is nothing here. POST /{workload} sends; GET /{workload}/{id} asks what became of it.")


def _allowed(method: str, wanted: str, route: str) -> str:
    if method != wanted:
        raise Problem(405, f"This takes {wanted}, not {method[:20]}.", allow=wanted)
    return route


# --- the event ----------------------------------------------------------------

# API Gateway hands over these as text, and everything else as base64.
_TEXT = re.compile(r"(?:text/|application/(?:json|xml|javascript)\s*(?:;|$))")


def to_event(scope: Scope, route: str, path_parameters: dict[str, str], now_ms: int) -> dict[str, Any]:
    """The request as payload format 2.0, without its body. Optional keys that have no value are absent, not null."""
    headers: dict[str, str] = {}
    cookies: list[str] = []
    for name, value in scope.headers.items():
        if name == "cookie":
            cookies += [cookie.strip() for cookie in value.split(";")]
        elif name in headers:
            headers[name] += f",{value}"
        else:
            headers[name] = value
    path = scope.path
    domain = headers.get("host", "")
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route,
        "rawPath": path,
        "rawQueryString": scope.query_string,
        "headers": headers,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "embedded",
            "domainName": domain,
            "domainPrefix": domain.partition(".")[0],
            "http": {
                "method": scope.method,
                "path": path,
                "protocol": f"HTTP/{scope.http_version}",
                "sourceIp": scope.client.rpartition(":")[0],
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
    if cookies:
        event["cookies"] = cookies
    if scope.query_string:
        event["queryStringParameters"] = _joined(parse_qsl(event["rawQueryString"], keep_blank_values=True))
    if path_parameters:
        event["pathParameters"] = path_parameters
    return event


def _body_text(body: bytes, content_type: str) -> tuple[str, bool]:
    if _TEXT.match(content_type):
        try:
            return body.decode(), False
        except UnicodeDecodeError:
            pass  # not the text it says it is: handed over as bytes, and refused by the receiver
    return base64.b64encode(body).decode(), True


def _joined(pairs: list[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


_request_numbers = itertools.count(1)
_last_time = (0, "")


def _clf_time(second: int) -> str:
    """12/Mar/2020:19:03:58 +0000, made once a second."""
    global _last_time
    if _last_time[0] != second:
        _last_time = (second, time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(second)))
    return _last_time[1]
