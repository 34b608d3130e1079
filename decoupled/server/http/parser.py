"""The reading half of HTTP/1.1: bytes in, whole requests out, or the reason why not. httptools (llhttp, the parser of
Node.js) says what the bytes mean, `rules.py` what a head must say; here stand the limits. No socket, no clock."""

from __future__ import annotations

import functools
from typing import Protocol
from urllib.parse import unquote

import httptools

from decoupled.core import limits
from decoupled.core.problem import Problem
from decoupled.server.http import rules

_UPGRADE = ("connection", "upgrade", "http2-settings")


class Request:
    """One request."""

    __slots__ = ("body", "client", "cookies", "has_head", "headers", "keep_alive", "method", "target", "version")

    def __init__(self) -> None:
        self.client = ""  # its address
        self.method = ""
        self.target = b""
        self.version = ""
        self.headers: dict[str, str] = {}  # names in lower case, repeated ones joined by commas, without cookies
        self.cookies: list[str] = []
        self.has_head = False
        self.body: bytes | bytearray = b""
        self.keep_alive = True

    @property
    def bytes_held(self) -> int:
        """What it counts for in the budget."""
        return limits.REQUEST_BYTES + len(self.body)

    def path_and_query(self) -> tuple[str, str]:
        """The path with its percent-encoding undone, and the query string as it came."""
        path, _, query = self.target.decode("latin-1").partition("?")
        return (unquote(path) if "%" in path else path), query


class Budget:
    """Bytes that all connections hold of requests not yet begun."""

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = 0


class Owner(Protocol):
    """Who is told what was read."""

    def whole(self, request: Request) -> None:
        """A request was read to its end. It counts against the budget until the owner takes it off."""
        ...

    def refused(self, problem: Problem) -> None:
        """A request cannot be read, and nothing after it."""
        ...

    def expects_continue(self) -> None:
        """The client waits for a word before it sends the body."""
        ...


class Reader:
    """Of one connection. `reading` is the request that has begun and is not whole."""

    def __init__(self, owner: Owner, budget: Budget) -> None:
        self.reading: Request | None = None
        self.refusing = False
        self._owner = owner
        self._budget = budget
        self._parser = httptools.HttpRequestParser(self)
        self._bytes = 0  # since the last whole request

    def feed(self, data: bytes) -> None:
        """Parse what came; the owner is told in the meantime."""
        self._bytes += len(data)
        pieces: list[bytes | memoryview] = [data]  # the next one last
        while pieces and not self.refusing:
            piece = pieces.pop()
            try:
                self._parser.feed_data(piece)
            except httptools.HttpParserUpgrade as upgrade:
                pieces += [memoryview(piece)[upgrade.args[0] :], self._without_offer()]
            except httptools.HttpParserError as error:
                self.refuse(rules.unreadable(error))
        request = self.reading
        if request is not None and not request.has_head and self._bytes > limits.MAX_HEAD_BYTES:
            self.refuse(_head_too_large())

    def refuse(self, problem: Problem) -> None:
        """Read no further."""
        if not self.refusing:
            self.refusing = True
            self.drop()
            self._owner.refused(problem)

    def drop(self) -> None:
        """Forget the request that is not whole."""
        if self.reading is not None:
            self._budget.used -= self.reading.bytes_held
            self.reading = None

    def close(self) -> None:
        """The parser holds methods of this object; both would only go with the garbage."""
        self.drop()
        del self._parser

    # --- what the parser finds; it calls these by their names -----------------

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if not self.refusing:
            self.reading = Request()
            self._count(limits.REQUEST_BYTES)

    def on_url(self, part: bytes) -> None:
        """The request's target, or a part of it."""
        if self.reading is not None:
            self.reading.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which is ignored."""
        request = self.reading
        if request is None or request.has_head:
            return
        key, text = _lower(name), value.rstrip(b" \t").decode("latin-1")
        if key == "cookie":
            request.cookies += [cookie.strip() for cookie in text.split(";")]
        elif key in request.headers:
            if key == "host":
                self.refuse(Problem(400, "There is more than one Host."))
            request.headers[key] += f",{text}"
        else:
            request.headers[key] = text

    def on_headers_complete(self) -> None:
        """Refuse before the body is read what will be refused."""
        request = self.reading
        if request is None:
            return
        request.method = self._parser.get_method().decode("latin-1")
        request.version = self._parser.get_http_version()
        if self._parser.should_upgrade():
            return  # it comes again without the offer
        request.has_head = True
        if self._bytes > limits.MAX_HEAD_BYTES and _head_bytes(request) > limits.MAX_HEAD_BYTES:
            self.refuse(_head_too_large())
            return
        try:
            rules.check(request)
            waits = "expect" in request.headers and rules.expects_continue(request)
        except Problem as problem:
            self.refuse(problem)
            return
        if int(request.headers.get("content-length", 0)) > limits.MAX_REQUEST_BYTES:
            self.refuse(_body_too_large())
        elif waits:
            self._owner.expects_continue()

    def on_body(self, part: bytes) -> None:
        """The body, or a part of it."""
        request = self.reading
        if request is None:
            return
        if not request.body:
            request.body = part
        else:
            if isinstance(request.body, bytes):
                request.body = bytearray(request.body)  # grows without being copied each time
            request.body += part
        self._count(len(part))
        if len(request.body) > limits.MAX_REQUEST_BYTES:
            self.refuse(_body_too_large())

    def on_message_complete(self) -> None:
        """The request is whole."""
        request = self.reading
        if request is not None and request.has_head:
            self.reading = None
            self._bytes = 0
            request.keep_alive = self._parser.should_keep_alive()
            if request.version == "1.0" and rules.asks_to_close(request):
                request.keep_alive = False
            self._owner.whole(request)

    def _count(self, size: int) -> None:
        self._budget.used += size
        if self._budget.used > limits.MAX_BUFFERED_BYTES:
            self.refuse(Problem(503, "Too much is being sent at once.", resend="safe", retry_after_s=1))

    def _without_offer(self) -> bytes:
        """The head of a request that offers another protocol, as if it did not, for a new parser. Clients that offer
        HTTP/2 in their first request (Java's does) must get an answer to it, and the parser has left the body alone."""
        request = self.reading
        if request is None:
            return b""
        if request.method == "CONNECT":
            self.refuse(Problem(501, "This is no proxy."))
            return b""
        headers = {name: value for name, value in request.headers.items() if name not in _UPGRADE}
        if "close" in request.headers.get("connection", "").lower():
            headers["connection"] = "close"
        if request.cookies:
            headers["cookie"] = "; ".join(request.cookies)
        lines = [f"{request.method} {request.target.decode('latin-1')} HTTP/{request.version}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.drop()
        self._parser = httptools.HttpRequestParser(self)
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


@functools.lru_cache(maxsize=256)  # clients send the same names again and again
def _lower(name: bytes) -> str:
    return name.decode("latin-1").lower()


def _head_bytes(request: Request) -> int:
    fields = sum(len(name) + len(value) for name, value in request.headers.items())
    return len(request.target) + fields + sum(len(cookie) + len("; ") for cookie in request.cookies)


def _head_too_large() -> Problem:
    return Problem(431, f"The request line and headers are over {limits.MAX_HEAD_BYTES} bytes.")


def _body_too_large() -> Problem:
    return Problem(413, f"The body is over {limits.MAX_REQUEST_BYTES} bytes.")
