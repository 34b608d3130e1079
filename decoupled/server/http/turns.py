"""Turns for work that would hold up the event loop: it is done in steps, and only for a few milliseconds at a time does
the loop wait for them. Knows not what the work is."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

TURN_S = 0.005  # after which the loop sees to everybody else; the step that has begun is finished first

Step = Callable[[], bool]
"""Works for some milliseconds at most; returns whether there is more to do."""


class Turns:
    """First come, first served, so that only one piece of work is half done, and holds the memory that this takes.
    Those who wait are as many as have connections, and what is kept for them has its limit."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.perf_counter) -> None:
        self._loop = loop
        self._clock = clock
        self._waiting: deque[Step] = deque()
        self._soon: asyncio.Handle | None = None

    def take(self, step: Step) -> None:
        """Do this step as often as there is more to do. Never at once: the caller goes first."""
        self._waiting.append(step)
        self._schedule()

    def _schedule(self) -> None:
        if self._soon is None and self._waiting:
            self._soon = self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._soon = None
        until = self._clock() + TURN_S
        try:
            while self._waiting and self._clock() < until:
                step = self._waiting.popleft()
                if step():
                    self._waiting.appendleft(step)
        finally:
            self._schedule()  # also past a step that should not have raised
