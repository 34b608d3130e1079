"""Which request goes where: the routes of the API. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from decoupled.core.problem import Problem

DOCUMENT, DOCS, RENDERER = "/openapi.json", "/docs", "/docs/rapidoc-9.3.8.js"
OWN = frozenset({"/health", DOCUMENT, DOCS, RENDERER})
"""What the server answers about itself. No workload has such a name, and nobody needs a key for it."""


def route(method: str, path: str) -> list[str]:
    """The parts of the path: none of what is the server's own, one for `POST /{workload}` and for GET of its events,
    two for `GET /{workload}/{id}`, and three for `GET /{workload}/{id}/events` or
    `GET /{workload}/{collection}/{key}`. Raises Problem 404 or 405."""
    parts = path.split("/")[1:]
    if path in OWN:
        parts.clear()
    elif not 1 <= len(parts) <= 3 or not all(parts):
        detail = "There is nothing here. POST /{workload} sends; GET /{workload}/{id} asks what became of it."
        raise Problem(404, detail)
    if len(parts) == 1:
        if method not in ("POST", "GET", "HEAD"):
            raise _not_allowed(method, "POST, or GET of events", "GET, HEAD, POST")
    elif method not in ("GET", "HEAD"):  # the connection leaves out the body for HEAD
        raise _not_allowed(method, "GET", "GET, HEAD")
    return parts


def plain(workloads: Iterable[str]) -> Mapping[bytes, Sequence[str]]:
    """Targets as nearly all clients write them, with what `route` makes of a POST to them."""
    return {f"/{name}".encode(): (name,) for name in workloads}


def _not_allowed(method: str, wanted: str, allow: str) -> Problem:
    return Problem(405, f"This takes {wanted}, not {method[:20]}.", headers={"allow": allow})
