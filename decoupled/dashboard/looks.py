"""Looks at the whole for every page that is open, in one process: one a second at most, and never much of its time.
Keeps what was counted a moment and a minute ago."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection

import msgspec

from decoupled.core import limits
from decoupled.core.metrics import Numbers
from decoupled.core.overview import Look, Overview, with_rates
from decoupled.dashboard.live import Window, live
from decoupled.dashboard.shapes import Live
from decoupled.dashboard.sources import Sources

STALE_S = 60.0  # more than a window may be, where looks take long


class Looks:
    """Used by one thread."""

    def __init__(
        self,
        forms: Collection[str] = (),
        every_s: float = limits.LIVE_EVERY_S,
        clock_s: Callable[[], float] = time.monotonic,
        worked_s: Callable[[], float] = time.thread_time,
    ) -> None:
        """`forms`: workloads that can be tried at this server. `every_s`: between two looks, at least. `worked_s`: what
        this thread has had of a processor."""
        self._forms = forms
        self._every_s = every_s
        self._clock_s = clock_s
        self._worked_s = worked_s
        self._counted: deque[tuple[float, Numbers]] = deque()  # the eldest first
        self._before: Overview | None = None
        self._last: tuple[Look, Live] | None = None
        self._good_until = 0.0

    def live(self, sources: Sources) -> Live:
        """As the page has it. Raises what a source raises."""
        return self._now(sources)[1]

    def look(self, sources: Sources) -> Look:
        """As it is. Raises what a source raises."""
        return self._now(sources)[0]

    def _now(self, sources: Sources) -> tuple[Look, Live]:
        """The last one, while it is good: one that was much work is kept for longer. One that had to wait, for a writer
        that hangs, is not for long: whoever looks wants to see the end of that."""
        began = self._clock_s()
        if self._last is None or began >= self._good_until:
            worked = self._worked_s()
            look = sources.look()
            self._last = look, self._shown(look, began)
            took, worked = self._clock_s() - began, self._worked_s() - worked
            self._good_until = began + max(self._every_s, limits.LIVE_WAITS * took, limits.LIVE_PART * worked)
        return self._last

    def _shown(self, look: Look, now: float) -> Live:
        before, self._before = self._before, look.overview
        if look.numbers is None:
            self._counted.clear()
        else:
            self._keep(now, look.numbers)
        rates = look.recent or self._window(now, limits.RATE_S)
        lately = look.recent or self._window(now, limits.LATENCY_WINDOW_S)
        if rates is None and before is not None and look.engine == "sqlite":
            look = msgspec.structs.replace(look, overview=with_rates(look.overview, before))
        grows = before is not None and _waiting(look.overview) > _waiting(before)
        return live(look, rates, lately, grows, self._forms)

    def _keep(self, now: float, numbers: Numbers) -> None:
        self._counted.append((now, numbers))
        while self._counted[0][0] < now - limits.LATENCY_WINDOW_S - limits.RATE_S and len(self._counted) > 2:
            self._counted.popleft()

    def _window(self, now: float, seconds: float) -> Window | None:
        """Since the last time that is so long ago, or else the first that there is."""
        if len(self._counted) < 2:
            return None
        long_ago = (kept for kept in reversed(self._counted) if kept[0] <= now - seconds)
        at, before = next(long_ago, self._counted[0])
        if now - at > seconds + STALE_S:  # nobody has looked for a while
            return None
        return self._counted[-1][1].since(before), now - at


def _waiting(overview: Overview) -> int:
    return overview.queued + overview.delayed
