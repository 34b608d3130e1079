"""Which route goes to which handler: the page itself, and what it asks for. Blocking: whoever calls this has a thread
for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from decoupled.core.problem import Problem, Response, answer
from decoupled.dashboard import assets, exposition, history, letters, messages
from decoupled.dashboard.gate import Gate
from decoupled.dashboard.looks import Looks
from decoupled.dashboard.sources import Sources
from decoupled.pipeline.call import Call

Handle = Callable[[Call, Sources], Any]
"""Gives what shapes.py says. Its call's path is the whole of it in parts: `["-", "messages", ID]`. Raises Problem, or
what a source raises."""


class Dashboard:
    """Answers what is asked of the page. Used by one thread."""

    def __init__(self, sources: Sources, gate: Gate, looks: Looks) -> None:
        self.sources = sources
        self.gate = gate
        self.looks = looks

    def answer(self, method: str, call: Call, client: str) -> Response:
        """`client`: the address of whoever asks. Raises Problem, or what a source raises."""
        routes = _found(call.path)
        method = "GET" if method == "HEAD" else method
        if method not in routes:
            allow = ", ".join([*routes, *(["HEAD"] if "GET" in routes else [])])
            raise Problem(405, f"This takes {allow}.", headers={"allow": allow})
        told = routes[method](self, call, client)
        if not isinstance(told, Response):
            told = answer(200, told)
        return Response(told.status, {**_HEADERS, **told.headers}, told.body)

    def close(self) -> None:
        """Let go of its sources."""
        self.sources.close()


# --- the routes ---------------------------------------------------------------


def _page(dashboard: Dashboard, call: Call, _client: str) -> Response:
    dashboard.gate.access_of(call)
    return assets.asset("index.html", call)


def _asset(_dashboard: Dashboard, call: Call, _client: str) -> Response:
    return assets.asset(call.path[2], call)


def _access(dashboard: Dashboard, call: Call, _client: str) -> Any:
    return dashboard.gate.access_of(call)


def _live(dashboard: Dashboard, call: Call, _client: str) -> Any:
    access = dashboard.gate.check_seen(call)
    return msgspec.structs.replace(dashboard.looks.live(dashboard.sources), access=access)


def _metrics(dashboard: Dashboard, call: Call, _client: str) -> Response:
    dashboard.gate.check_seen(call)
    look = dashboard.looks.look(dashboard.sources)
    return exposition.render(look.numbers, look.overview, look.health, call.headers.get("accept", ""))


def _sign_in(dashboard: Dashboard, call: Call, client: str) -> Response:
    return dashboard.gate.sign_in(call, client)


def _sign_out(dashboard: Dashboard, call: Call, _client: str) -> Response:
    return dashboard.gate.sign_out(call)


Route = Callable[[Dashboard, Call, str], Any]


def _seen(handle: Handle) -> Route:
    """For whoever may see the page."""

    def route(dashboard: Dashboard, call: Call, _client: str) -> Any:
        dashboard.gate.check_seen(call)
        return handle(call, dashboard.sources)

    return route


def _changed(handle: Handle) -> Route:
    """For whoever may change something."""

    def route(dashboard: Dashboard, call: Call, _client: str) -> Any:
        dashboard.gate.check_changed(call)
        return handle(call, dashboard.sources)

    return route


ROUTES: Mapping[tuple[str, ...], Mapping[str, Route]] = {
    ("",): {"GET": _page},
    ("-", "assets", "*"): {"GET": _asset},
    ("metrics",): {"GET": _metrics},
    ("-", "access"): {"GET": _access},
    ("-", "live"): {"GET": _live},
    ("-", "history"): {"GET": _seen(history.history)},
    ("-", "messages"): {"GET": _seen(messages.find)},
    ("-", "messages", "*"): {"GET": _seen(messages.story)},
    ("-", "dead"): {"GET": _seen(letters.groups)},
    ("-", "dead", "letters"): {"GET": _seen(letters.listed)},
    ("-", "dead", "redrive"): {"POST": _changed(letters.redrive)},
    ("-", "dead", "purge"): {"POST": _changed(letters.purge)},
    ("-", "sign-in"): {"POST": _sign_in},
    ("-", "sign-out"): {"POST": _sign_out},
}
"""`*` is any one part."""

_HEADERS = {**assets.HEADERS, "cache-control": "no-store"}


def _found(path: Any) -> Mapping[str, Route]:
    for route, methods in ROUTES.items():
        if len(route) == len(path) and all(part in ("*", given) for part, given in zip(route, path, strict=True)):
            return methods
    raise Problem(404, "The page has no such part.")
