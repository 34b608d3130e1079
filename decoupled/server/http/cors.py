"""CORS: pages of which origins may call from browsers (the Fetch standard). Answers the question that a browser asks
beforehand, as API Gateway does, before anybody is asked who it is; and says on each answer for whom it is. Without the
option there is none of this. Pure.

What a page may do beside that, is asked of it like of any other client: no cookie of ours says who it is."""

from __future__ import annotations

from collections.abc import Collection

from decoupled.core import limits
from decoupled.core.problem import Response
from decoupled.server.http.dashboard import is_page
from decoupled.server.http.exchange import Handler, Reply
from decoupled.server.http.request import Request

METHODS = "GET, POST"
HEADERS = "authorization, callback-url, content-type, delay, idempotency-key, last-event-id, prefer, traceparent,"
HEADERS += " tracestate, x-api-key"
EXPOSED = "location, preference-applied, ratelimit, ratelimit-policy, retry-after, www-authenticate"


class Cors:
    """For these origins; `*` is any."""

    def __init__(self, origins: Collection[str]) -> None:
        self._any = "*" in origins
        self._origins = frozenset(origins)

    def opened(self, origin: str | None) -> str:
        """The header lines of every answer to a request from there; None: it does not say."""
        if self._any:
            return _lines({"access-control-allow-origin": "*", "access-control-expose-headers": EXPOSED})
        if origin not in self._origins:
            return "vary: origin\r\n"
        return _lines(
            {"access-control-allow-origin": str(origin), "access-control-expose-headers": EXPOSED, "vary": "origin"}
        )

    def around(self, handle: Handler) -> Handler:
        """A handler for which preflights are answered."""

        def handle_others(request: Request, reply: Reply) -> None:
            asked = request.method == "OPTIONS" and "origin" in request.headers and not is_page(request)
            if asked and "access-control-request-method" in request.headers:
                reply(self._preflight(request.headers["origin"]))
            else:
                handle(request, reply)

        return handle_others

    def _preflight(self, origin: str) -> Response:
        """What may be sent is told only to those that may send it; where, to nobody: that is asked with the request."""
        if not (self._any or origin in self._origins):
            return Response(204, {}, b"")
        headers = {
            "access-control-allow-methods": METHODS,
            "access-control-allow-headers": HEADERS,
            "access-control-max-age": str(limits.CORS_MAX_AGE_S),
        }
        return Response(204, headers, b"")


def _lines(headers: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())
