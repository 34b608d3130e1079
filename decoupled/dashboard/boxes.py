"""The colours of the picture: of each part the rules by which it is bad, or to be warned of, and why; the first that
holds counts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from decoupled.core import limits
from decoupled.core.overview import TABLE_REFUSES, Look
from decoupled.dashboard.shapes import Box


@dataclass(frozen=True, slots=True)
class _View:
    """What the rules look at."""

    look: Look
    status: str
    grows: bool  # more waits than a moment ago

    @property
    def sick(self) -> Mapping[str, Mapping[str, Any]]:
        """Workloads that are not closed."""
        breakers = self.look.overview.breakers or {}
        return {name: breaker for name, breaker in breakers.items() if breaker["state"] != "closed"}

    @property
    def is_known(self) -> bool:
        """Whether anybody says how the server is."""
        return self.look.engine == "aws" or self.look.health is not None

    @property
    def has_no_worker(self) -> bool:
        return self.look.engine == "sqlite" and not (self.look.health or {}).get("workers")


Rule = tuple[Literal["bad", "warn", "unknown"], Callable[[_View], str]]
"""Gives why, or nothing where it does not hold."""


def boxes(look: Look, status: str, grows: bool) -> dict[str, Box]:
    """Of each part of the picture."""
    view = _View(look, status, grows)
    return {name: _box(rules, view) for name, rules in RULES.items()}


def _box(rules: Sequence[Rule], view: _View) -> Box:
    for colour, rule in rules:
        if why := rule(view):
            return Box(colour, why)
    return Box("ok")


# --- the rules ----------------------------------------------------------------


def _not_running(view: _View) -> str:
    return "the server does not run" if view.status == "not running" else ""


def _unavailable(view: _View) -> str:
    if view.status != "unavailable":
        return ""
    return (view.look.health or {}).get("detail") or "the server does not answer"


def _callers_refused(view: _View) -> str:
    callers = (view.look.overview.limited or {}).get("callers", 0)
    return f"{_count(callers, 'caller')} sent more than allowed lately" if callers else ""


def _very_old(view: _View) -> str:
    return _old(view, limits.QUEUE_BAD_S)


def _rather_old(view: _View) -> str:
    return _old(view, limits.QUEUE_WARN_S)


def _old(view: _View, seconds: float) -> str:
    age = view.look.overview.oldest_age_s
    return f"the oldest message has waited for {duration(age)}" if age is not None and age > seconds else ""


def _grows_alone(view: _View) -> str:
    return "it grows, and no worker takes from it" if view.grows and view.has_no_worker else ""


def _stopped(view: _View) -> str:
    """Workloads that are open or held."""
    if not view.sick:
        return ""
    name, breaker = next(iter(view.sick.items()))
    more = f", and {_count(len(view.sick) - 1, 'other')}" if len(view.sick) > 1 else ""
    return f"{name} is {breaker['state']}{more}: {breaker['why']}"


def _alarms(part: str) -> Callable[[_View], str]:
    return lambda view: "; ".join(why for about, why in view.look.alarms if about == part)


def _no_worker(view: _View) -> str:
    return "no worker is ready" if view.is_known and view.has_no_worker else ""


def _sick_groups(view: _View) -> str:
    breakers = view.look.overview.breakers or {}
    groups = sum(breaker.get("sick_groups", 0) for breaker in breakers.values())
    return f"{_count(groups, 'group')} not well" if groups else ""


def _table_refuses(view: _View) -> str:
    return TABLE_REFUSES if any(breaker["why"] == TABLE_REFUSES for breaker in view.sick.values()) else ""


def _unheard(view: _View) -> str:
    return "" if view.is_known else "nobody says so"


def _died(view: _View) -> str:
    count = view.look.overview.dead if view.look.dead_lately is None else view.look.dead_lately
    when = "" if view.look.dead_lately is None else " in the last hour"
    return f"{_count(count, 'message')} died{when}" if count else ""


RULES: Mapping[str, Sequence[Rule]] = {
    "clients": [("unknown", _not_running), ("warn", _callers_refused)],
    "front": [("bad", _not_running), ("bad", _unavailable), ("bad", _alarms("front"))],
    "queue": [("bad", _very_old), ("bad", _grows_alone), ("bad", _alarms("queue")), ("warn", _rather_old)],
    "processor": [
        ("bad", _not_running),
        ("bad", _stopped),
        ("bad", _no_worker),
        ("bad", _alarms("processor")),
        ("warn", _sick_groups),
        ("unknown", _unheard),
    ],
    "table": [("bad", _table_refuses), ("bad", _alarms("table")), ("unknown", _unheard)],
    "dead": [("warn", _died), ("warn", _alarms("dead"))],
}


def duration(seconds: float) -> str:
    """For people: 45 s, 12 min, 3 h, 2 days."""
    for unit, each in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * each:
            return f"{seconds / each:.0f} {unit}"
    return f"{seconds:.0f} s"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
