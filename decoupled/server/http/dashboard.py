"""The way in to the page for people on call, and to the metrics: which requests are theirs, and what they say. They are
answered aside, so that no request of a client waits for a look at the queue."""

from __future__ import annotations

from typing import Protocol

from decoupled.dashboard.shapes import PREFIX
from decoupled.pipeline.call import Call
from decoupled.server.http.exchange import Reply
from decoupled.server.http.parser import Request

_OWN = f"/{PREFIX}/".encode()
_METRICS = b"/metrics"


class Asks(Protocol):
    """Who answers: `Aside`."""

    def ask(self, method: str, call: Call, request: Request, reply: Reply) -> None:
        """Reply, now or later."""
        ...

    def close(self) -> None:
        """Answer no more."""
        ...


class Page:
    """Of one process."""

    def __init__(self, aside: Asks) -> None:
        self._aside = aside

    def handle(self, request: Request, reply: Reply) -> bool:
        """Whether it was for the page; then it will be replied to."""
        if not _is_own(request):
            return False
        request.opened = ""  # pages of other origins have no business here, whoever else they may call
        path, query = request.path_and_query()
        headers = {**request.headers, "cookie": "; ".join(request.cookies)} if request.cookies else request.headers
        self._aside.ask(request.method, Call(path.split("/")[1:], query, headers, request.body), request, reply)
        return True

    def close(self) -> None:
        """Answer no more."""
        self._aside.close()


MAY_BEGIN = frozenset({b"", b"?", b"-", b"m"})
"""What follows the slash of such a request, and of few others."""


def _is_own(request: Request) -> bool:
    target = request.target
    if target.startswith(_OWN) or target.partition(b"?")[0] == _METRICS:
        return True
    return (target == b"/" or target.startswith(b"/?")) and "text/html" in request.headers.get("accept", "")
