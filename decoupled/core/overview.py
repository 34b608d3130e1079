"""How a system is doing, in numbers that mean the same on both engines; and how fast they change. What each engine
counts stands in its `stats.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from decoupled.core.metrics import Numbers

TABLE_REFUSES = "the table does not answer"  # what opens the breakers of all workloads


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """One look. None stands for what the engine cannot count cheaply.

    accepted = queued + in_flight + delayed + processed + rejected + dead."""

    taken_at: int  # milliseconds since the epoch
    queued: int  # visible: could be received now
    in_flight: int  # with a processor
    delayed: int  # waiting out a backoff, or due later
    dead: int
    processed: int | None = None
    rejected: int | None = None
    oldest_age_s: float | None = None  # of what is not finished
    accepted_per_s: float | None = None
    processed_per_s: float | None = None
    server: str | None = None  # where the server of a data directory listens; None: it does not run
    breakers: dict[str, dict[str, Any]] | None = None  # by workload, as in GET /health
    limited: dict[str, Any] | None = None  # callers who were refused lately, as in GET /health
    alarms: list[str] | None = None  # of a stack, that sound
    queued_by_workload: dict[str, int] | None = None  # unfinished; counted up to MAX_QUEUED_COUNTED each
    notes: list[str] = []

    @property
    def accepted(self) -> int | None:
        """How many there ever were."""
        if self.processed is None or self.rejected is None:
            return None
        return self.queued + self.in_flight + self.delayed + self.dead + self.processed + self.rejected


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """All that can be known of a system at a time, for the page. None stands for what it does not say."""

    system: str  # what is looked at: "data directory /srv/shop", "stack shop"
    engine: Literal["sqlite", "aws"]
    overview: Overview
    health: Mapping[str, Any] | None = None  # of a server that runs, as in GET /health
    numbers: Numbers | None = None  # what a server has counted since it started
    recent: tuple[Numbers, float] | None = None  # what was counted in the last so many seconds, where that is known
    charted: Mapping[str, float] = {}  # the last numbers of CHARTED, where these are all that there is
    dead_lately: int | None = None  # dead letters of the last hour
    alarms: Sequence[tuple[str, str]] = ()  # of a stack, that sound: the part of the picture, and what is wrong with it


def with_rates(now: Overview, before: Overview) -> Overview:
    """The later of two looks, with what happened in between, a second. Redriving makes a message unfinished again, so
    that a rate can be a little low, never below nothing."""
    seconds = (now.taken_at - before.taken_at) / 1000
    if seconds <= 0 or now.accepted is None or before.accepted is None:
        return now
    finished = (now.processed or 0) + (now.rejected or 0) - (before.processed or 0) - (before.rejected or 0)
    return msgspec.structs.replace(
        now,
        accepted_per_s=round(max(0, now.accepted - before.accepted) / seconds, 1),
        processed_per_s=round(max(0, finished) / seconds, 1),
    )


CHARTED = (
    "accepted_per_s",
    "processed_per_s",
    "rejected_per_s",
    "dead_per_s",
    "retried_per_s",
    "queued",
    "in_flight",
    "delayed",
    "dead",
    "oldest_age_s",
    "accept_p50_s",
    "accept_p99_s",
    "waiting_p50_s",
    "waiting_p99_s",
    "processing_p50_s",
    "processing_p99_s",
    "commit_messages",
    "commit_p99_s",
)
"""What a history has, in this order: a mean, a quantile or a depth of each time."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was measured from `span_ms` before `at_ms` to then: of each of CHARTED a number, None where it is not
    known."""

    at_ms: int
    span_ms: int
    values: tuple[float | None, ...]


class History(msgspec.Struct, frozen=True, omit_defaults=True):
    """Samples, oldest first, in columns: `times` in milliseconds since the epoch, and of each of CHARTED that this
    engine knows as many values, None where there is none. Where the server did not run there is a gap."""

    step_s: float
    times: list[int]
    series: dict[str, list[float | None]]
    note: str = ""
