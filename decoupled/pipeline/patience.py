"""How fast a long piece of work goes, and how long it bears trouble of the sides that it works with. Beside the clock,
which is passed in, it knows nothing of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from decoupled.core.upkeep_limits import MOVE_LONGEST_PAUSE_S, MOVE_PATIENCE_S, MOVE_PAUSE_S
from decoupled.core.workload import Unavailable

T = TypeVar("T")

Tell = Callable[[str, int, int], None]
"""Hears how far it is: what is being done, how many of them, of how many (0: nobody knows)."""

_LESS, _MORE = 0.5, 1.05
_LEAST_WRITES_S = 1.0


class Patience:
    """Up to `most_writes_s`; half as many after each trouble, and then more by and by: a table that is throttled grows
    while it is written, if it is let."""

    def __init__(
        self, most_writes_s: float, tell: Tell, monotonic: Callable[[], float], pause: Callable[[float], None]
    ) -> None:
        self.most_writes_s = self.writes_s = most_writes_s
        self._tell = tell
        self._monotonic = monotonic
        self._pause = pause
        self._next_at = 0.0

    def wait_for(self, writes: int) -> None:
        """Until there may be so many more."""
        now = self._monotonic()
        if self._next_at > now:
            self._pause(self._next_at - now)
        self._next_at = max(now, self._next_at) + writes / self.writes_s

    def __call__(self, do: Callable[[], T]) -> T:
        """Do it, and again, ever more slowly, while it is Unavailable; for MOVE_PATIENCE_S at most."""
        began, pause_s = self._monotonic(), MOVE_PAUSE_S
        while True:
            try:
                done = do()
            except Unavailable as error:
                if self._monotonic() - began > MOVE_PATIENCE_S:
                    raise
                self.writes_s = max(self.writes_s * _LESS, _LEAST_WRITES_S)
                self._tell(f"waiting: {error}", 0, 0)
                self._pause(min(max(pause_s, error.retry_after_s or 0), MOVE_LONGEST_PAUSE_S))
                pause_s *= 2
            else:
                self.writes_s = min(self.writes_s * _MORE, self.most_writes_s)
                return done
