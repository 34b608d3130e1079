"""The writing half of HTTP/1.1: the bytes of an answer. Pure."""

from __future__ import annotations

from http import HTTPStatus

from decoupled.core.problem import Response
from decoupled.server.http.parser import Request

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


def encode(response: Response, request: Request | None, last: bool, date: str, opened: str = "") -> bytes:
    """The answer's bytes. Without a request: one that was not understood. `opened`: header lines, of `Cors`."""
    head, body = _STATUS_LINES[response.status], response.body
    for name, value in response.headers.items():
        head += f"{name}: {value}\r\n"
    if last:
        head += "connection: close\r\n"
    elif request is not None and request.version == "1.0":
        head += "connection: keep-alive\r\n"
    if response.status != 204:  # which has no body, and must not say how long it is
        head += f"content-length: {len(body)}\r\n"
    head += f"{opened}date: {date}\r\n\r\n"
    return head.encode("latin-1") + (b"" if request is not None and request.method == "HEAD" else body)
