"""Times: milliseconds since the epoch inside, RFC 3339 where people and stores read them. Every time that comes from
outside is read here, the system's clocks included."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime

from decoupled.core import limits

_MILLISECONDS = re.compile(r"[0-9]{1,14}")  # until the year 5138, which datetime can still tell


def now_ms() -> int:
    """The system's clock, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def steady_ms() -> int:
    """Milliseconds since some moment, the same for every process until the machine boots again. Nobody can set it, and
    it counts on while the machine sleeps."""
    return time.clock_gettime_ns(_STEADY) // 1_000_000


# Linux's CLOCK_MONOTONIC stands still while the machine sleeps, macOS's does not.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock:
    """The time of day, as timestamps tell it. It counts by the steady clock, and follows the system's so that a
    moment's error of that leaves no trace:

        the system's clock is off by   then
        a second or less               that is made up gradually, and no time is told before an earlier one
        more, for less than a minute   nothing: it was set wrong, and set right again
        more, for longer               this one is set, too; who reads timestamps compares them with other clocks

    What waits does not wait by this one: see `engines/sqlite/queue_clock.py`."""

    def __init__(
        self,
        on_step: Callable[[int], None] = lambda _by_ms: None,
        wall_ms: Callable[[], int] = now_ms,
        steady_ms: Callable[[], int] = steady_ms,
        ahead_ms: int | None = None,
    ) -> None:
        """`on_step` is told by how many milliseconds the clock was set. `ahead_ms` is that of another process's clock,
        which this one is to agree with: it may have left a moment's error of the system's behind."""
        self._on_step = on_step
        self._wall_ms = wall_ms
        self._steady_ms = steady_ms
        self._looked_at = steady_ms()
        self.ahead_ms = wall_ms() - self._looked_at if ahead_ms is None else ahead_ms  # of the steady clock
        self._told = 0
        self._step: tuple[int, int] | None = None  # since when the system's clock is off, and by how much

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        steady = self._steady_ms()
        if steady - self._looked_at >= limits.CLOCK_LOOK_MS:
            self._follow(steady)
        now = steady + self.ahead_ms
        if now > self._told:
            self._told = now
        return self._told

    def _follow(self, steady: int) -> None:
        passed, self._looked_at = steady - self._looked_at, steady
        off = self._wall_ms() - steady - self.ahead_ms
        if abs(off) <= limits.CLOCK_GRADUAL_MS:
            self._step = None
            most = max(1, passed // limits.CLOCK_GRADUAL_PART)
            self.ahead_ms += max(-most, min(most, off))
            return
        if self._step is None or abs(off - self._step[1]) > limits.CLOCK_GRADUAL_MS:
            self._step = (steady, off)
        elif steady - self._step[0] >= limits.CLOCK_BELIEVED_MS:
            self._step, self._told = None, 0
            self.ahead_ms += off
            self._on_step(off)


def parse_ms(text: str) -> int | None:
    """Milliseconds since the epoch from their decimal digits; None for what is no time that can be told."""
    return int(text) if _MILLISECONDS.fullmatch(text) else None


def rfc3339(ms: int) -> str:
    """Milliseconds since the epoch as 2026-11-23T10:15:30.123Z, which sorts as text."""
    return f"{_to_the_second(ms // 1000)}.{ms % 1000:03}Z"


@functools.lru_cache(maxsize=4_096)  # what is asked for together is often of the same time
def _to_the_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).replace(tzinfo=None).isoformat()


def parse_rfc3339(text: str) -> int:
    """The other way round, exactly. Raises ValueError for what is no time."""
    instant = datetime.fromisoformat(text)
    return int(instant.replace(microsecond=0).timestamp()) * 1000 + instant.microsecond // 1000
