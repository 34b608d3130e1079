"""How many orders come, over time: a steady rate, a day's curve, a spike, or the times of a real day. All that the
simulation asks is how many have come by a moment."""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from decoupled.plan import bounds

DAY_S = 86_400.0
NIGHT = 0.1  # of the rate at a day's peak, that is left at night
PEAK_HOUR = 16.0


class Arrivals(Protocol):
    """`span_s` seconds from the first to the last order, and how many came by then."""

    @property
    def span_s(self) -> float: ...

    @property
    def goes_on(self) -> bool:
        """Whether a month is full of it; else it takes place once."""
        ...

    def by(self, t: float) -> float:
        """Orders that have come by then, in seconds since the beginning."""
        ...


@dataclass(frozen=True, slots=True)
class Steady:
    """So many a second."""

    rate: float
    span_s: float = DAY_S
    goes_on: bool = True

    def by(self, t: float) -> float:
        """As in Arrivals."""
        return self.rate * min(max(t, 0.0), self.span_s)


@dataclass(frozen=True, slots=True)
class Day:
    """Days from midnight, whose rate goes up and down as a cosine: `peak` a second at 16:00, a tenth of it at 4:00."""

    peak: float
    span_s: float = DAY_S
    goes_on: bool = True

    def by(self, t: float) -> float:
        """As in Arrivals."""
        t = min(max(t, 0.0), self.span_s)
        mean, swing = (1 + NIGHT) / 2, (1 - NIGHT) / 2
        turn = 2 * math.pi / DAY_S
        shift = PEAK_HOUR * 3_600
        return self.peak * (mean * t + swing / turn * (math.sin(turn * (t - shift)) + math.sin(turn * shift)))


@dataclass(frozen=True, slots=True)
class Recorded:
    """At the times at which they once came: seconds since the first one, in order."""

    times: tuple[float, ...]
    goes_on: bool = False

    @property
    def span_s(self) -> float:
        """From the first to the last."""
        return self.times[-1]

    def by(self, t: float) -> float:
        """As in Arrivals."""
        return bisect.bisect_right(self.times, t)


def spike(orders: float, within_s: float) -> Steady:
    """So many in that time, evenly, and then none."""
    return Steady(orders / within_s, within_s, goes_on=False)


# --- from a file -------------------------------------------------------------------

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?: ?(?:Z|[+-]\d\d:?\d\d))?")
_ACCESS_LOG = re.compile(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}")
_EPOCH = re.compile(r"(?<![\d.\w])\d{10}(?:\d{3})?(?:\.\d+)?(?![\d.\w])")


def recorded(lines: Iterable[str]) -> Recorded:
    """Of a CSV, an export or an access log: the first time in each line. Lines without one are passed by. Raises
    ValueError if fewer than two have one."""
    times: list[float] = []
    for line in lines:
        if (found := time_in(line)) is not None:
            times.append(found)
            if len(times) > bounds.MAX_TIMES:
                raise ValueError(f"more than {bounds.MAX_TIMES:,} times; plan a part of them")
    if len(times) < 2:
        raise ValueError("it has fewer than two times: RFC 3339, an access log's, or seconds since 1970")
    times.sort()
    return Recorded(tuple(time - times[0] for time in times))


def time_in(line: str) -> float | None:
    """The first time in a line, in seconds since 1970. One without a zone is UTC, which changes no distance; one that
    there never is (a month 13) is none."""
    try:
        return _time_in(line)
    except (ValueError, OverflowError):
        return None


def _time_in(line: str) -> float | None:
    if found := _RFC3339.search(line):
        text = re.sub(r" (?=[Z+-])", "", found[0]).replace(",", ".").replace("Z", "+00:00")
        fraction = re.search(r"\.\d+", text)
        whole = text.replace(fraction[0], "", 1) if fraction else text
        return _stamp(datetime.fromisoformat(whole)) + (float(fraction[0]) if fraction else 0.0)
    if found := _ACCESS_LOG.search(line):
        return datetime.strptime(found[0], "%d/%b/%Y:%H:%M:%S %z").timestamp()
    if found := _EPOCH.search(line):
        value = float(found[0])
        return value / 1000 if value >= 10**11 else value
    return None


def _stamp(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
