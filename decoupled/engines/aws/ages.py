"""The age of a stack's oldest unfinished message, out of two that each know a part: SQS leaves out what was received
three times, and the processor knows of nothing that it has not tried (`signals.py`). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from decoupled.core import limits
from decoupled.engines.aws.cloudwatch import PERIOD_S, Asked, namespace

SEEN = "seen_age_s"
KEPT_S = int(limits.BACKOFF_CAP_S) + PERIOD_S  # in which what waits is tried again, and seen


def asked(stack: str) -> Asked:
    """What the processor saw of the ages of what it put back."""
    return Asked(SEEN, namespace(stack), "oldest_age_seconds", "Maximum", {})


def at(now_ms: int, seen: Mapping[int, float]) -> float | None:
    """How old the oldest that was seen lately is by now, if it waits still: that is known at its next try only."""
    ages = [age + (now_ms - then) / 1000 for then, age in seen.items() if 0 <= now_ms - then <= KEPT_S * 1000]
    return max(ages, default=None)


def joined(
    times: Iterable[int], of_sqs: Mapping[int, float], seen: Mapping[int, float], depth: Mapping[int, float]
) -> dict[int, float]:
    """Of each time that has one, the larger of both ages. `depth`: of the messages that there were. Where that was
    nothing, nothing that was seen before waits still."""
    found = {}
    for then in times:
        if depth.get(then) == 0:
            seen = {when: age for when, age in seen.items() if when > then}
        if known := [age for age in (of_sqs.get(then), at(then, seen)) if age is not None]:
            found[then] = max(known)
    return found
