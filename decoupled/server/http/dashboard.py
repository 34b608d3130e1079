"""The way in to the page for people on call, and to the metrics: which requests are theirs, and what they say. They are
answered aside, so that no request of a client waits for a look at the queue."""

from __future__ import annotations

from typing import Protocol

from decoupled.core.problem import Problem
from decoupled.dashboard.shapes import PREFIX
from decoupled.pipeline.call import Call
from decoupled.server.callers.callers import Callers
from decoupled.server.health import Trouble
from decoupled.server.http.exchange import Reply
from decoupled.server.http.request import Request

MAY_BEGIN = frozenset({b"", b"?", b"-", b"m"})
"""What follows the first slash of such a request, and of few others."""

_OWN = f"/{PREFIX}/".encode()
_METRICS = b"/metrics"


class Asks(Protocol):
    """Who answers: `Aside`."""

    def ask(self, method: str, call: Call, request: Request, reply: Reply) -> None:
        """Reply, now or later."""
        ...

    def trouble(self) -> Trouble | None:
        """Why nobody is answered."""
        ...

    def close(self) -> None:
        """Answer no more."""
        ...


class Page:
    """Of one process."""

    def __init__(self, aside: Asks, shown: bool, callers: Callers | None = None) -> None:
        """`shown`: there is more than the metrics. `callers`: who is asked whose proof a request brings."""
        self._aside = aside
        self._shown = shown
        self._callers = callers

    def handle(self, request: Request, reply: Reply) -> bool:
        """Whether it was for the page; then it will be replied to."""
        if not is_metrics(request.target) and not (self._shown and is_page(request)):
            return False
        request.opened = ""  # pages of other origins have no business here, whoever else they may call
        try:
            call = self._call(request)
        except Problem as problem:
            reply(problem.response())
        else:
            self._aside.ask(request.method, call, request, reply)
        return True

    def _call(self, request: Request) -> Call:
        """Raises Problem 401, or 503 while nothing can be proved."""
        path, query = request.path_and_query()
        parts, headers = path.split("/")[1:], request.headers
        caller = None
        if self._callers is not None and ("authorization" in headers or "x-api-key" in headers):
            caller = self._callers.of(headers, parts, request.body)
        if request.cookies:
            headers = {**headers, "cookie": "; ".join(request.cookies)}
        if caller is None:
            return Call(parts, query, headers, request.body)
        everywhere = caller.operator and caller.workloads is None
        return Call(parts, query, headers, request.body, caller.name, everywhere)

    def trouble(self) -> Trouble | None:
        """Why nobody who looks at it is answered."""
        return self._aside.trouble()

    def close(self) -> None:
        """Answer no more."""
        self._aside.close()


def is_metrics(target: bytes) -> bool:
    """Whether a request for this asks for the metrics."""
    return target.partition(b"?")[0] == _METRICS


def is_page(request: Request) -> bool:
    """Whether it is for the page: at the root it is for browsers only."""
    target = request.target
    if target.startswith(_OWN):
        return True
    return (target == b"/" or target.startswith(b"/?")) and "text/html" in request.headers.get("accept", "")
