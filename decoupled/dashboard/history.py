"""GET /-/history: how the system did lately, for the page's charts."""

from __future__ import annotations

from urllib.parse import parse_qs

from decoupled.core import limits
from decoupled.core.overview import History
from decoupled.core.problem import Problem
from decoupled.dashboard.sources import Sources
from decoupled.pipeline.call import Call


def history(call: Call, sources: Sources) -> History:
    """Of the last `seconds`. Raises Problem 422."""
    text = parse_qs(call.query).get("seconds", [str(limits.MAX_HISTORY_S)])[-1]
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:6]) <= limits.MAX_HISTORY_S and len(text) <= 6):
        raise Problem(422, f"seconds is {text[:20]!r}; it can be 1 to {limits.MAX_HISTORY_S:,}.")
    return sources.past.history(int(text))
