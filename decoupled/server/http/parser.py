"""The reading half of HTTP/1.1: bytes in, whole requests out, or the reason why not. httptools (llhttp, the parser of
Node.js) says what the bytes mean, `rules.py` what a head must say; here stand the limits. No socket, no clock."""

from __future__ import annotations

import functools
from typing import Protocol

import httptools

from decoupled.core import limits
from decoupled.core.problem import Problem
from decoupled.server.http import rules
from decoupled.server.http.request import Request

_UPGRADE = ("connection", "upgrade", "http2-settings")


class Owner(Protocol):
    """Who is told what was read."""

    def whole(self, request: Request) -> None:
        """A request was read to its end."""
        ...

    def refused(self, problem: Problem) -> None:
        """A request cannot be read, and nothing after it."""
        ...

    def expects_continue(self) -> None:
        """The client waits for a word before it sends the body."""
        ...


class Reader:
    """Of one connection. `reading` is the request that has begun and is not whole, `kept` the bytes that it takes in
    memory. What a piece brings is there before it is found to be too much: pieces must be small."""

    def __init__(self, owner: Owner) -> None:
        self.reading: Request | None = None
        self.kept = 0
        self.refusing = False
        self.origin: str | None = None  # of the page that sent what is refused, as far as that is known
        self._owner = owner
        self._parser = httptools.HttpRequestParser(self)
        self._bytes = 0  # since the last whole request
        self._bodiless = 0  # since the last piece with bytes of a body
        self._body = 0  # bytes of it by then
        self._repeated = 0  # headers that were there already

    def feed(self, data: bytes | memoryview) -> None:
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
        if self.reading is None:
            self.kept = 0
        else:
            self._limit(self.reading, len(data))

    def _limit(self, request: Request, size: int) -> None:
        """What is not whole has its limits too, those parts of it included that the parser keeps to itself."""
        body = len(request.body)
        around = self._bytes - body  # the head, and what is between and behind chunks
        self._bodiless = self._bodiless + size if request.has_head and body == self._body else size
        self._body = body
        if not request.has_head and around > limits.MAX_HEAD_BYTES:
            self.refuse(_head_too_large())
        elif self._bodiless > limits.MAX_HEAD_BYTES or around > 2 * limits.MAX_HEAD_BYTES + body * limits.CHUNK_BYTES:
            self.refuse(_too_much_around())
        else:
            kept = min(around, limits.MAX_HEAD_BYTES + self._bodiless) + body + (body >> 3)  # a body has room to grow
            fields = len(request.headers) + len(request.cookies)
            self.kept = limits.REQUEST_BYTES + fields * limits.FIELD_BYTES + kept

    def refuse(self, problem: Problem) -> None:
        """Read no further."""
        if not self.refusing:
            self.refusing = True
            self.origin = None if self.reading is None else self.reading.headers.get("origin")
            self.drop()
            self._owner.refused(problem)

    def drop(self) -> None:
        """Forget the request that is not whole."""
        self.reading = None
        self.kept = 0

    def close(self) -> None:
        """It reads no more. Parser and owner refer to it as it does to them: all would only go with the garbage."""
        self.drop()
        del self._parser, self._owner

    # --- what the parser finds; it calls these by their names -----------------

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if not self.refusing:
            self.reading = Request()
            self._bodiless = self._body = self._repeated = 0

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
            if len(request.cookies) + text.count(";") >= limits.MAX_FIELDS:
                self.refuse(_too_many_fields())
            else:
                request.cookies += [cookie.strip() for cookie in text.split(";")]
        elif key in request.headers:
            self._repeated += 1
            if key == "host":
                self.refuse(Problem(400, "There is more than one Host."))
            elif self._repeated >= limits.MAX_FIELDS:
                self.refuse(_too_many_fields())
            else:
                request.headers[key] += f",{text}"
        elif len(request.headers) < limits.MAX_FIELDS:
            request.headers[key] = text
        else:
            self.refuse(_too_many_fields())

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
        if len(request.body) > limits.MAX_REQUEST_BYTES:
            self.refuse(_body_too_large())

    def on_message_complete(self) -> None:
        """The request is whole."""
        request = self.reading
        if request is not None and request.has_head:
            self.reading = None
            objects = limits.REQUEST_BYTES + (len(request.headers) + len(request.cookies)) * limits.FIELD_BYTES
            request.kept = objects + self._bytes
            self._bytes = 0
            request.keep_alive = self._parser.should_keep_alive()
            if request.version == "1.0" and rules.asks_to_close(request):
                request.keep_alive = False
            self._owner.whole(request)

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


def _too_many_fields() -> Problem:
    return Problem(431, f"There are more than {limits.MAX_FIELDS} headers, or cookies.")


def _too_much_around() -> Problem:
    return Problem(431, f"Around the chunks of the body, or behind it, are over {limits.MAX_HEAD_BYTES} bytes.")


def _body_too_large() -> Problem:
    return Problem(413, f"The body is over {limits.MAX_REQUEST_BYTES} bytes.")
