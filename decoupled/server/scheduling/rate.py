"""How fast messages may be processed: a token bucket that holds a second's worth. Pure but for the clock, which is
passed in."""

from __future__ import annotations

from collections.abc import Callable


class Rate:
    """`rate`: messages a second at most, or None for no ceiling. `tokens`: how many may go at the very first."""

    def __init__(self, rate: float | None, clock: Callable[[], float], tokens: float = 0.0) -> None:
        self.rate = rate
        self._clock = clock
        self._tokens = tokens
        self._since = clock()

    def may(self, wanted: int) -> int:
        """How many of the wanted messages may go now."""
        if self.rate is None:
            return wanted
        now = self._clock()
        self._tokens = min(max(self.rate, 1.0), self._tokens + (now - self._since) * self.rate)
        self._since = now
        return min(wanted, int(self._tokens))

    def went(self, messages: int) -> None:
        """They did."""
        if self.rate is not None:
            self._tokens -= messages
