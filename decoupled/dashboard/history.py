"""GET /-/history: how the system did lately, for the page's charts."""

from __future__ import annotations

from decoupled.core import limits
from decoupled.core.overview import History
from decoupled.dashboard import asked
from decoupled.dashboard.sources import Sources
from decoupled.pipeline.call import Call


def history(call: Call, sources: Sources) -> History:
    """Of the last `seconds`. Raises Problem 400."""
    seconds = asked.number(asked.parameters(call, "seconds"), "seconds", 1, limits.HISTORY_S, limits.HISTORY_S)
    return sources.past.history(seconds)
