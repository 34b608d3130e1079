"""How long a message waits before it is tried again. Pure; the random number is passed in."""

from __future__ import annotations

from decoupled.core import limits


def backoff_s(tries: int, spread: float, retry_after_s: float | None = None) -> float:
    """Seconds to wait after `tries` tries (1 or more): exponential from BACKOFF_FIRST_S, capped at BACKOFF_CAP_S.

    `spread` (0..1, random) takes off up to half, so that messages that failed together do not come back together. A
    backend that asked for `retry_after_s` gets at least that, within the twelve hours that SQS can hide a message."""
    ceiling: float = min(limits.BACKOFF_CAP_S, limits.BACKOFF_FIRST_S * 2 ** min(tries - 1, 30))
    delay = ceiling * (1 - spread / 2)
    if retry_after_s is not None:
        delay = max(delay, min(retry_after_s, limits.MAX_RETRY_AFTER_S))
    return min(delay, limits.MAX_VISIBILITY_TIMEOUT_S)
