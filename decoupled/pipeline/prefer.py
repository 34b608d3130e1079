"""What a client prefers (RFC 7240): how long it would wait for what its message comes to. Pure."""

from __future__ import annotations

import re

from decoupled.core import limits
from decoupled.core.problem import Response

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  RFC 9110's, and no secret
_PART = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*"?)+')  # of a list; a comma within quotes ends none
_PREFERENCE = re.compile(rf'[ \t]*({_TOKEN})[ \t]*(?:=[ \t]*({_TOKEN}|"[^"]*")?)?[ \t]*(?:;.*)?')
_SECONDS = re.compile("[0-9]{1,10}")


def wait_s(header: str | None) -> int | None:
    """The seconds of `Prefer: wait=N`, at most MAX_WAIT_S; None where there is no such preference. Repeated headers
    come joined by commas. Of a preference that is said twice the first one counts; what is malformed, and every other
    preference, is passed by, since a preference is no demand."""
    if header is None:
        return None
    for part in _PART.findall(header):
        preference = _PREFERENCE.fullmatch(part)
        if preference is not None and preference[1].lower() == "wait":
            seconds = (preference[2] or "").strip('"')
            return min(int(seconds), limits.MAX_WAIT_S) if _SECONDS.fullmatch(seconds) else None
    return None


def applied(response: Response, seconds: int) -> Response:
    """The answer of who would have waited so long for it, saying so."""
    said = {"preference-applied": f"wait={seconds}"}
    return Response(response.status, {**response.headers, **said}, response.body)
