"""What becomes of the orders over time: the queue as a fluid, in small pieces of time. Orders come, become visible, are
tried in the order in which they became visible, and end; or their try fails, and they wait out the real backoff.

    coming ──▶ visible ──▶ tried ──▶ ended
                  ▲          │ the backend is away
                  └─ delayed ◀┘  backoff_s(tries), anywhere between half of it and all

Nothing is random here: of a million orders that back off, as many come back in each second as chance would have it on
average. How long single orders wait is followed in `waits.py`."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from decoupled.core.backoff import backoff_s
from decoupled.plan import bounds
from decoupled.plan.arrivals import Arrivals
from decoupled.plan.pace import Back, Moment, Pace

MOST_TRIES = next(n for n in range(1, 40) if backoff_s(n, 0.0) == backoff_s(n + 1, 0.0))  # beyond, it grows no more
SHORTEST_BIN_S, LONGEST_BIN_S = 0.005, 600.0
PIECES = 4_000  # until the last order has come and the last outage is over, if they are neither too short nor too long
OVER = 0.5  # orders that may be left when all is over: less than one


@dataclass(slots=True)
class Course:
    """Series with a value for each piece of time: at its end, or during it. Rates are a second's."""

    bin_s: float
    coming: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    visible: list[float] = field(default_factory=list)
    delayed: list[float] = field(default_factory=list)
    deciding: list[float] = field(default_factory=list)  # with a processor
    hidden: list[float] = field(default_factory=list)  # in flight, as SQS says it: with a processor, or delayed
    tries: list[float] = field(default_factory=list)
    paces: list[Pace] = field(default_factory=list)
    shown: list[float] = field(default_factory=lambda: [0.0])  # orders that became visible so far, those again included
    taken: list[float] = field(default_factory=lambda: [0.0])  # tries so far
    failed: float = 0.0  # tries that failed, in all
    invocations: float = 0.0  # batches,
    busy_s: float = 0.0  # and the time that they took
    drained: bool = False  # before we stopped looking

    @property
    def depth(self) -> list[float]:
        """Orders that have not ended."""
        return [sum(each) for each in zip(self.visible, self.delayed, self.deciding, strict=True)]

    def depth_at(self, place: int) -> float:
        """The same of one piece of time."""
        return self.visible[place] + self.delayed[place] + self.deciding[place]

    @property
    def seconds(self) -> float:
        """That were looked at."""
        return len(self.coming) * self.bin_s


class _Delayed:
    """What waits out a backoff, by how often it was tried: so much comes back a piece of time, from here to there."""

    def __init__(self, bin_s: float) -> None:
        self.bin_s = bin_s
        self.orders = 0.0
        self._changes: dict[int, list[float]] = {}
        self._rates = [0.0] * (MOST_TRIES + 1)

    def add(self, now: int, after_s: float, tries: int, orders: float) -> None:
        """They have been tried so often, the last time at `now`, which took `after_s`."""
        first = now + max(1, round((after_s + backoff_s(tries, 1.0)) / self.bin_s))
        last = max(first + 1, now + round((after_s + backoff_s(tries, 0.0)) / self.bin_s))
        each = orders / (last - first)
        self._change(first, tries, each)
        self._change(last, tries, -each)
        self.orders += orders

    def _change(self, at: int, tries: int, by: float) -> None:
        self._changes.setdefault(at, [0.0] * (MOST_TRIES + 1))[tries] += by

    def due(self, now: int) -> list[float]:
        """What comes back in this piece, by its tries."""
        for tries, by in enumerate(self._changes.pop(now, ())):
            self._rates[tries] += by
        due = [rate if rate > 1e-9 else 0.0 for rate in self._rates]
        self.orders = max(0.0, self.orders - sum(due))
        return due

    @property
    def empty(self) -> bool:
        """Whether nothing comes back any more."""
        return not self._changes


class Run:
    """One simulation: `Run(arrivals, back).go()`."""

    def __init__(self, arrivals: Arrivals, back: Back, share: float = 1.0, bin_s: float | None = None) -> None:
        self.arrivals, self.back, self.share = arrivals, back, share
        self._end_s = max([arrivals.span_s, *[until for _, until, _ in back.troubles]])
        if self._end_s > bounds.MAX_SPAN_S:
            raise ValueError(f"that is more than {bounds.MAX_SPAN_S / 86_400:.0f} days; plan a part of them")
        self.course = Course(bin_s or self._bin_s())
        self._delayed = _Delayed(self.course.bin_s)
        self._line: deque[tuple[int, float]] = deque()  # visible, in their order: (tries so far, how many)
        self._visible = 0.0

    def _bin_s(self) -> float:
        return min(max(self._end_s / PIECES, SHORTEST_BIN_S), LONGEST_BIN_S)

    def go(self) -> Course:
        """Until all has ended, or for as many pieces as are allowed."""
        course = self.course
        for now in range(bounds.MAX_BINS):
            self._piece(now)
            over = (now + 1) * course.bin_s >= self._end_s and self._delayed.empty
            if over and course.visible[-1] + course.deciding[-1] < OVER:
                course.drained = True
                break
        return course

    def _piece(self, now: int) -> None:
        course, dt = self.course, self.course.bin_s
        came = self.share * (self.arrivals.by((now + 1) * dt) - self.arrivals.by(now * dt))
        due = self._delayed.due(now)
        pace = self.back.pace(Moment(now * dt, dt, came / dt, self._visible))
        shown = self._show(came, due)
        away, shut = self._trouble(now * dt, (now + 1) * dt)
        room = max(0.0, self.back.in_flight_most - self._delayed.orders - self._held(pace))
        failed = self._take(now, min(pace.away * dt * away, room), pace.away_batch_s)
        ended = self._take(now, min(pace.well * dt * (1 - away - shut), room), None)
        self.back.wrote(now * dt, ended / dt)
        course.coming.append(came / dt)
        course.ended.append(ended / dt)
        course.tries.append((failed + ended) / dt)
        course.visible.append(self._visible)
        course.delayed.append(self._delayed.orders)
        course.deciding.append(self._deciding(pace, ended / dt))
        course.hidden.append(self._delayed.orders + max(course.deciding[-1], self._held(pace)))
        course.paces.append(pace)
        course.shown.append(course.shown[-1] + shown)
        course.taken.append(course.taken[-1] + failed + ended)
        course.failed += failed
        course.invocations += (failed + ended) / pace.batch
        course.busy_s += (failed * pace.away_batch_s + ended * pace.batch_s) / pace.batch

    def _show(self, came: float, due: list[float]) -> float:
        """What becomes visible, as those behind all that was before it."""
        for tries, orders in [(0, came), *enumerate(due)]:
            if orders > 0:
                self._line.append((tries, orders))
        shown = came + sum(due)
        self._visible += shown
        return shown

    def _trouble(self, since: float, until: float) -> tuple[float, float]:
        """The parts of that time in which tries fail, and in which there are none."""
        parts = {"sick": 0.0, "shut": 0.0}
        for first, last, kind in self.back.troubles:
            parts[kind] += max(0.0, min(until, last) - max(since, first)) / (until - since)
        sick = min(parts["sick"], 1.0)
        return sick, min(parts["shut"], 1.0 - sick)

    def _take(self, now: int, most: float, away_batch_s: float | None) -> float:
        """Try the first ones; those that fail, with the time that it takes them, wait. How many were tried."""
        taken = 0.0
        while self._line and most - taken > 1e-12:
            tries, orders = self._line.popleft()
            some = min(orders, most - taken)
            if some < orders:
                self._line.appendleft((tries, orders - some))
            taken += some
            if away_batch_s is not None:
                self._delayed.add(now, away_batch_s, min(tries + 1, MOST_TRIES), some)
        self._visible = max(0.0, self._visible - taken) if self._line else 0.0
        return taken

    def _held(self, pace: Pace) -> float:
        """Orders that processors have, who are at it all the time while orders wait."""
        return min(self._visible, pace.processors * pace.batch) if math.isfinite(self.back.in_flight_most) else 0.0

    def _deciding(self, pace: Pace, ended: float) -> float:
        """Those whose end was counted when they were taken, and is still to come."""
        recent = self.course.ended[-max(1, math.ceil(pace.batch_s / self.course.bin_s)) :]
        average = (sum(recent[1:]) + ended) / max(len(recent), 1) if len(recent) > 1 else ended
        with_one = min(average * pace.batch_s, pace.processors * pace.batch * self._at_once(pace))
        return with_one + average * pace.gather_s / 2

    @staticmethod
    def _at_once(pace: Pace) -> float:
        """What a processor has at a time, where that is more than its batch: its pace says so."""
        return max(1.0, pace.well * pace.batch_s / max(pace.processors * pace.batch, 1e-9))
