"""What RFC 9110 and 9112 ask of a request's head beyond what llhttp sees to: one host, a framing that all on the way
read alike, a target in one form. What is doubtful is refused, as the last request of its connection. Pure."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

import httptools

from decoupled.core.problem import Problem

if TYPE_CHECKING:
    from decoupled.server.http.request import Request

# A name, an IPv4 or a bracketed IPv6 address, and maybe a port. RFC 3986 lets a comma stand in a name, but no name that
# there is has one: it is what joins two Host lines on the way.
_NAMES = r"[A-Za-z0-9._~!$&'()*+;=-]*"
_HOST = re.compile(rf"(?:{_NAMES}(?:%[0-9A-Fa-f]{{2}}{_NAMES})*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{0,5}})?")
_ABSOLUTE = re.compile(r"https?://([^/?]+)(/?)(.*)", re.IGNORECASE)


def unreadable(error: httptools.HttpParserError) -> Problem:
    """The answer to what llhttp cannot read."""
    if isinstance(error, httptools.HttpParserInvalidMethodError):
        return Problem(501, "There is no such method, or this is not HTTP.")
    if str(error) == "Invalid HTTP version":  # well formed, and neither 1.1 nor 1.0
        return Problem(505, "This server speaks HTTP/1.1.")
    return Problem(400, f"This is not HTTP/1.1: {error}.")


def check(request: Request) -> None:
    """Raises Problem 400, 501 or 505. What passes has its target in origin form, and its host in the header."""
    if request.version != "1.1":
        _check_version(request.version)
    host = request.headers.get("host")
    if host is None:
        if request.version == "1.1":
            raise Problem(400, "The Host header is missing.")
    elif not _is_host(host):
        raise Problem(400, f"This is no Host: {host[:80]!r}.")
    if "transfer-encoding" in request.headers:
        _check_framing(request.version, request.headers["transfer-encoding"])
    if b"#" in request.target or not request.target.startswith(b"/"):
        _check_target(request)


def expects_continue(request: Request) -> bool:
    """Whether a client with an Expect header waits for a word before it sends the body. Raises Problem 417 when it
    waits for another one. A client of HTTP/1.0 waits for none (RFC 9110 10.1.1)."""
    expectation = request.headers["expect"]
    if request.version == "1.0":
        return False
    members = {member.strip(" \t").lower() for member in expectation.split(",")} - {""}
    if members - {"100-continue"}:
        raise Problem(417, f"Only 100-continue can be expected here, not {expectation[:80]!r}.")
    return bool(members)


def asks_to_close(request: Request) -> bool:
    """Whether a client of HTTP/1.0 says close, if only beside keep-alive: close counts (RFC 9112 9.3), to llhttp it
    does not."""
    return "close" in request.headers.get("connection", "").lower()


@functools.lru_cache(maxsize=128)  # clients send the same one again and again
def _is_host(text: str) -> bool:
    return _HOST.fullmatch(text) is not None


def _check_version(version: str) -> None:
    if version == "0.9":
        raise Problem(400, "The request line has no version of HTTP, or 0.9.")
    if version != "1.0":
        raise Problem(505, f"This server speaks HTTP/1.1, not {version}.")


def _check_framing(version: str, codings: str) -> None:
    if version == "1.0":  # RFC 9112 6.1: something on the way may have read another length
        raise Problem(400, "HTTP/1.0 has no Transfer-Encoding.")
    names = [name.strip(" \t").lower() for name in codings.split(",")]
    if names == ["chunked"]:
        return
    if "" in names or "chunked" in names[:-1]:
        raise Problem(400, f"A body comes in chunks once, and last; this says {codings[:80]!r}.")
    raise Problem(501, f"A body is taken as it is or in chunks, not in {codings[:80]!r}.")


def _check_target(request: Request) -> None:
    target = request.target.decode("latin-1")
    if "#" in target:
        raise Problem(400, "A fragment is the client's own: it is not sent.")
    if target == "*" and request.method == "OPTIONS":
        return
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or absolute[1].startswith(":") or not _is_host(absolute[1]):
        raise Problem(400, "The target is a path, or http://, a host without a user, and a path.")
    request.headers["host"] = absolute[1]  # counts instead of what the header said (RFC 9112 3.2.2)
    request.target = f"/{absolute[3]}".encode("latin-1")
