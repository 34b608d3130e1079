"""How long single orders wait: some of them, evenly chosen, go through the course that `course.py` has worked out for
all, each with a backoff drawn from a seeded generator. An order that becomes visible at a moment is tried when as many
tries have been made as orders had become visible before it."""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from decoupled.core import limits
from decoupled.core.backoff import backoff_s
from decoupled.plan import bounds
from decoupled.plan.course import Course
from decoupled.plan.pace import Back
from decoupled.plan.scenario import Service

FOLLOWED, LEAST_FOLLOWED = 2_000, 50  # orders


@dataclass(frozen=True, slots=True)
class Followed:
    """One order: when it came, and how long it took from its 202 to its end; infinite if that was not seen."""

    came_s: float
    took_s: float
    tries: int


def follow(course: Course, back: Back, service: Service, seed: int = 1) -> list[Followed]:
    """Some of all orders, in the order in which they came."""
    rng = random.Random(seed)  # noqa: S311  nothing secret
    sums = [0.0]
    for rate in course.coming:
        sums.append(sums[-1] + rate * course.bin_s)
    if sums[-1] <= 0:
        return []
    some = max(1, min(_most(back), math.ceil(sums[-1])))
    quantiles = [(number + 0.5) / some for number in range(some)]
    rng.shuffle(quantiles)
    return [
        _one(_reached(sums, (number + 0.5) / some * sums[-1], course.bin_s), course, back, service, quantile, rng)
        for number, quantile in enumerate(quantiles)
    ]


def _most(back: Back) -> int:
    """Fewer where each is tried for weeks."""
    sick_s = sum(last - first for first, last, kind in back.troubles if kind == "sick")
    tries = max(1.0, sick_s / (0.75 * limits.BACKOFF_CAP_S))
    return max(LEAST_FOLLOWED, min(FOLLOWED, round(bounds.FOLLOWED_TRIES / tries)))


def _one(came_s: float, course: Course, back: Back, service: Service, quantile: float, rng: random.Random) -> Followed:
    """Through its tries."""
    at, tries = came_s, 0
    while tries < bounds.MAX_TRIES:
        tries += 1
        turn = _reached(course.taken, _value(course.shown, at, course.bin_s), course.bin_s)
        if max(at, turn) < course.seconds:
            at = _queueing(max(at, turn), course, service, rng)
        elif not course.drained:
            break  # else nothing waits any more, and it is tried at once
        pace = course.paces[min(int(at / course.bin_s), len(course.paces) - 1)]
        if not any(first <= at < last for first, last, kind in back.troubles if kind == "sick"):
            alone = service.quantile(quantile) - service.mean_s if service.p99_s else 0.0
            return Followed(came_s, at - came_s + max(pace.batch_s + alone, 0.0), tries)
        at += pace.away_batch_s + backoff_s(tries, rng.random())
    return Followed(came_s, math.inf, tries)


def _queueing(at: float, course: Course, service: Service, rng: random.Random) -> float:
    """Later, by the rest of the time in which a batch is gathered, and by what chance has orders wait for each other
    where none would in an even flow: Sakasegawa's approximation of a queue with many servers, whose waits are about
    exponential."""
    place = int(at / course.bin_s)
    if course.visible[place] > 0:
        return at
    pace = course.paces[place]
    if pace.gather_s:
        at += pace.gather_s * rng.random()
    servers = max(1.0, pace.processors)
    busy = min(course.coming[place] / pace.well if pace.well else 1.0, 0.98)
    uneven = (1 + service.variability) / 2
    mean_s: float = busy ** (math.sqrt(2 * (servers + 1)) - 1) / (servers * (1 - busy)) * pace.batch_s * uneven
    return at - mean_s * math.log(1 - rng.random())


def _value(series: Sequence[float], at: float, bin_s: float) -> float:
    """Of a running sum at that moment, in between if need be."""
    place = min(int(at / bin_s), len(series) - 2)
    part = min(at / bin_s - place, 1.0)
    return series[place] + (series[place + 1] - series[place]) * part


def _reached(series: Sequence[float], value: float, bin_s: float) -> float:
    """When a running sum came to that; infinite if it never did."""
    place = bisect.bisect_left(series, value - 1e-9)
    if place >= len(series):
        return math.inf
    if place == 0:
        return 0.0
    step = series[place] - series[place - 1]
    return (place - 1 + ((value - series[place - 1]) / step if step > 0 else 1.0)) * bin_s


def quantile(values: Sequence[float], part: float) -> float:
    """Of values that are there, the one that so large a part does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(part * len(ordered)) - 1)]
