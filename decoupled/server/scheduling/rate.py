"""How fast messages may be processed: a token bucket that holds a second's worth. Pure but for the clock, which is
passed in."""

from __future__ import annotations

from collections.abc import Callable


class Rate:
    """`rate`: messages a second at most, or None for no ceiling."""

    def __init__(self, rate: float | None, clock: Callable[[], float]) -> None:
        self.rate = rate
        self._clock = clock
        self._tokens = 0.0
        self._since = clock()

    def take(self, wanted: int) -> int:
        """How many of the wanted messages may go now."""
        if self.rate is None:
            return wanted
        now = self._clock()
        self._tokens = min(max(self.rate, 1.0), self._tokens + (now - self._since) * self.rate)
        self._since = now
        taken = min(wanted, int(self._tokens))
        self._tokens -= taken
        return taken

    def give_back(self, unused: int) -> None:
        """These were taken and not needed."""
        self._tokens += unused
