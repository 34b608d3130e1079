"""Which route goes to which handler: the page itself, and what it asks for. Blocking: whoever calls this has a thread
for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from decoupled.core.problem import Problem, Response, answer
from decoupled.dashboard import assets, live
from decoupled.dashboard.shapes import PREFIX
from decoupled.dashboard.sources import Sources
from decoupled.pipeline.call import Call

Handle = Callable[[Call, Sources], Any]
"""Gives what shapes.py says. Its call's path is the whole of it in parts: `["-", "messages", ID]`. Raises Problem."""

ROUTES: Mapping[tuple[str, ...], Mapping[str, Handle]] = {
    ("live",): {"GET": live.look},
}
"""By what follows `/-/`; `*` is any one part."""


class Dashboard:
    """Answers what is asked of the page. Used by one thread."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def answer(self, method: str, call: Call) -> Response:
        """Raises Problem, or what a source raises."""
        path = tuple(call.path)
        if path == ("",):
            _check(method, ("GET",))
            return assets.page(call)
        if path[:2] == (PREFIX, "assets") and len(path) == 3:
            _check(method, ("GET",))
            return assets.asset(path[2], call)
        handles = _found(path[1:]) if path[0] == PREFIX else None
        if handles is None:
            raise Problem(404, "The page has no such part.")
        _check(method, handles)
        told = handles["GET" if method == "HEAD" else method](call, self._sources)
        return told if isinstance(told, Response) else answer(200, told, {"cache-control": "no-store"})

    def close(self) -> None:
        """Let go of its sources."""
        self._sources.close()


def _found(path: tuple[str, ...]) -> Mapping[str, Handle] | None:
    for route, handles in ROUTES.items():
        if len(route) == len(path) and all(part in ("*", given) for part, given in zip(route, path, strict=True)):
            return handles
    return None


def _check(method: str, handles: Mapping[str, Handle] | tuple[str, ...]) -> None:
    allowed = [*handles, *(["HEAD"] if "GET" in handles else [])]
    if method not in allowed:
        raise Problem(405, f"This takes {', '.join(allowed)}.", headers={"allow": ", ".join(allowed)})
