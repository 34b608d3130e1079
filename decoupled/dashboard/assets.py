"""The page's files: its HTML, scripts and styles, as a browser is to take them. They are read again each time, which
costs less than a look at the queue; what a browser has already, it is not sent again."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from decoupled.core.problem import Problem, Response
from decoupled.pipeline.call import Call

DIRECTORY = Path(__file__).parent / "page"
# The page runs our files and no other script, asks this server only, and stands in nobody's frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "cache-control": "no-cache",
    "x-content-type-options": "nosniff",
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def asset(name: str, call: Call) -> Response:
    """One of its files. Raises Problem 404."""
    path = DIRECTORY / name
    if not _NAME.fullmatch(name) or path.suffix not in _TYPES or not path.is_file():
        raise Problem(404, "The page has no such file.")
    body = path.read_bytes()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {**HEADERS, "content-type": _TYPES[path.suffix], "etag": etag}
    if etag in call.headers.get("if-none-match", ""):
        return Response(304, headers, b"")
    return Response(200, headers, body)
