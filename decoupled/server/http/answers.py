"""The writing half of HTTP/1.1: the bytes of an answer. Pure."""

from __future__ import annotations

from http import HTTPStatus

from decoupled.core.problem import Response
from decoupled.server.http.parser import Request

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


def encode(response: Response, request: Request | None, last: bool, date: str) -> bytes:
    """The answer's bytes. Without a request: one that was not understood."""
    body = response["body"].encode()
    headers = "".join(f"{name}: {value}\r\n" for name, value in response["headers"].items())
    if last:
        headers += "connection: close\r\n"
    elif request is not None and request.version == "1.0":
        headers += "connection: keep-alive\r\n"
    head = f"{_STATUS_LINES[response['statusCode']]}{headers}content-length: {len(body)}\r\ndate: {date}\r\n\r\n"
    return head.encode("latin-1") + (b"" if request is not None and request.method == "HEAD" else body)
