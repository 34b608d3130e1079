"""The writing half of HTTP/1.1: the bytes of an answer. Pure."""

from __future__ import annotations

from http import HTTPStatus

from decoupled.core.problem import Response
from decoupled.server.http.request import Request

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


LAST_CHUNK = b"0\r\n\r\n"


def encode(response: Response, request: Request | None, last: bool, date: str, opened: str = "") -> bytes:
    """The answer's bytes. Without a request: one that was not understood. `opened`: header lines, of `Cors`."""
    head, body = _head(response, request, last), response.body
    to_head = request is not None and request.method == "HEAD"
    if body or not (response.status in (204, 304) or to_head):  # of nothing it is not said how long it is: RFC 9110 8.6
        head += f"content-length: {len(body)}\r\n"
    head += f"{opened}date: {date}\r\n\r\n"
    return head.encode("latin-1") + (b"" if to_head else body)


def encode_head(response: Response, request: Request, last: bool, date: str) -> bytes:
    """Those of one whose body comes in parts. For HTTP/1.0 it goes on until the connection ends."""
    if request.version == "1.0":
        head = _head(response, None, last=True)
    else:
        head = _head(response, request, last) + "transfer-encoding: chunked\r\n"
    return f"{head}{request.opened}date: {date}\r\n\r\n".encode("latin-1")


def chunk(part: bytes, request: Request) -> bytes:
    """A part of such a body."""
    return part if request.version == "1.0" else b"%x\r\n%b\r\n" % (len(part), part)


def _head(response: Response, request: Request | None, last: bool) -> str:
    head = _STATUS_LINES[response.status]
    for name, value in response.headers.items():
        head += f"{name}: {value}\r\n"
    if last:
        head += "connection: close\r\n"
    elif request is not None and request.version == "1.0":
        head += "connection: keep-alive\r\n"
    return head
