"""How long a message waits before it is tried again. Pure but for the clock; the random number is passed in."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from decoupled.core import limits


def backoff_s(tries: int, spread: float, retry_after_s: float | None = None) -> float:
    """Seconds to wait after `tries` tries (1 or more): exponential from BACKOFF_FIRST_S, capped at BACKOFF_CAP_S.

    `spread` (0..1, random) takes off up to half, so that messages that failed together do not come back together. A
    backend that asked for `retry_after_s` gets at least that, within the twelve hours that SQS can hide a message."""
    delay = doubled_s(tries, spread, limits.BACKOFF_FIRST_S, limits.BACKOFF_CAP_S)
    if retry_after_s is not None:
        delay = max(delay, min(retry_after_s, limits.MAX_RETRY_AFTER_S))
    return min(delay, limits.MAX_VISIBILITY_TIMEOUT_S)


def spread_s(failures: int, attempts: int, span_s: float, spread: float) -> float:
    """Seconds to wait after so many failures of a message that has so many attempts, so that these take `span_s` at
    least and twice as long at most: after each failure four times as long as after the one before."""
    pauses = attempts - 1
    nth = min(max(failures, 1), max(pauses, 1))
    part = 4 ** (nth - 1) * 3 / (4**pauses - 1) if pauses > 0 else 0.0
    return 2 * span_s * part * (1 - spread / 2)


def asked_to_wait_s(retry_after: str | None) -> float | None:
    """Seconds to wait, from the seconds or the HTTP date of a Retry-After header; None if it says neither."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdecimal():
        return min(float(text), limits.MAX_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def doubled_s(tries: int, spread: float, first_s: float, cap_s: float) -> float:
    """`first_s` after one try, twice that after each further one, never more than `cap_s`; less up to half of it."""
    ceiling: float = min(cap_s, first_s * 2 ** min(tries - 1, 30))
    return ceiling * (1 - spread / 2)
