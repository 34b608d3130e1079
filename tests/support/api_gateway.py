"""What API Gateway makes of a request: the event of payload format 2.0 that an HTTP API hands to Lambda. The gateway of
one machine builds no event; its calls are held to what this one says. And a server that hands events to functions."""

from __future__ import annotations

import base64
import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote

from decoupled.pipeline.call import EventResponse
from decoupled.server.http.request import Request

# API Gateway hands over these as text, and everything else as base64.
_TEXT = re.compile(r"(?:text/|application/(?:json|xml|javascript)\s*(?:;|$))")
_PARAMETERS = {1: ("workload",), 2: ("workload", "id"), 3: ("workload", "collection", "key")}
_request_numbers = itertools.count(1)


def to_event(request: Request, now_ms: int = 1583348638390) -> dict[str, Any]:
    """A request of one of our routes as payload format 2.0. Optional keys that have no value are absent, not null."""
    target, _, query = request.target.decode("latin-1").partition("?")
    path, headers = unquote(target), request.headers
    parts = path.split("/")[1:]
    names = _PARAMETERS[len(parts)]
    route = f"{'POST' if len(parts) == 1 else 'GET'} /{'/'.join(f'{{{name}}}' for name in names)}"
    domain = headers.get("host", "")
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route,
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "pathParameters": dict(zip(names, parts, strict=True)),
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
            "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now_ms // 1000)),
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


Function = Callable[[Any, Any], EventResponse]


class Context:
    """Lambda's, as far as functions look."""

    def __init__(self, remaining_ms: int = 29_000) -> None:
        self._remaining_ms = remaining_ms

    def get_remaining_time_in_millis(self) -> int:
        """The same however long it takes."""
        return self._remaining_ms


@contextmanager
def serving(receiver: Function, status: Function) -> Iterator[str]:
    """The template's routes over HTTP: POST goes to one function, GET to the other, which have no time to wait for what
    a message comes to. Where it listens."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # an answer goes out as one

        def do_GET(self) -> None:
            request = Request()
            request.method, request.target, request.version = self.command, self.path.encode("latin-1"), "1.1"
            for name, value in self.headers.items():
                before = request.headers.get(name.lower())
                request.headers[name.lower()] = value if before is None else f"{before},{value}"
            request.body = self.rfile.read(int(self.headers.get("content-length", 0)))
            parts = self.path.partition("?")[0].split("/")[1:]
            routed = all(parts) and len(parts) in _LENGTHS.get(self.command, ())
            function = receiver if self.command == "POST" else status
            self._answer(function(to_event(request), Context(3_000)) if routed else _NOT_FOUND)

        def __getattr__(self, name: str) -> Any:
            """Every other method is handled by the same."""
            if name.startswith("do_"):
                return self.do_GET
            raise AttributeError(name)

        def _answer(self, response: EventResponse) -> None:
            body = response["body"].encode()
            self.send_response(response["statusCode"])
            for name, value in [*response["headers"].items(), ("content-length", str(len(body)))]:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


_LENGTHS = {"POST": (1,), "GET": (2, 3)}  # of the routes' paths
_NOT_FOUND: EventResponse = {
    "statusCode": 404,
    "headers": {"content-type": "application/json"},
    "body": '{"message":"Not Found"}',
}
