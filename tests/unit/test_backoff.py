"""How long a message waits, in every case."""

from __future__ import annotations

import math

from hypothesis import example, given
from hypothesis import strategies as st

from decoupled.core import limits
from decoupled.core.backoff import backoff_s

tries = st.integers(1, 10_000)
spreads = st.floats(0, 1)
asked = st.none() | st.floats(min_value=-1e9, max_value=1e9)


@given(tries, spreads, st.none() | st.floats())
@example(1, 0.0, math.nan)
@example(1, 0.0, math.inf)
@example(10**6, 1.0, -math.inf)
def test_a_wait_is_never_shorter_than_a_moment_nor_longer_than_sqs_allows(
    tries: int, spread: float, retry_after_s: float | None
) -> None:
    assert limits.BACKOFF_FIRST_S / 2 <= backoff_s(tries, spread, retry_after_s) <= limits.MAX_VISIBILITY_TIMEOUT_S


@given(tries, spreads)
def test_without_a_wish_of_the_backend_a_wait_stays_between_half_the_ceiling_and_the_ceiling(
    tries: int, spread: float
) -> None:
    ceiling = min(limits.BACKOFF_CAP_S, limits.BACKOFF_FIRST_S * 2.0 ** min(tries - 1, 100))
    assert ceiling / 2 <= backoff_s(tries, spread) <= ceiling


@given(tries, spreads, st.floats(0, limits.MAX_RETRY_AFTER_S))
def test_a_backend_gets_at_least_the_time_it_asked_for(tries: int, spread: float, retry_after_s: float) -> None:
    assert backoff_s(tries, spread, retry_after_s) >= retry_after_s


@given(tries, spreads, asked)
def test_another_try_never_waits_less(tries: int, spread: float, retry_after_s: float | None) -> None:
    assert backoff_s(tries + 1, spread, retry_after_s) >= backoff_s(tries, spread, retry_after_s)


def test_a_day_of_outage_stays_far_below_the_queues_own_limit_of_receives() -> None:
    receives, waited_s = 0, 0.0
    while waited_s < 86_400:
        receives += 1
        waited_s += backoff_s(receives, spread=1.0)  # the shortest waits there are
    assert receives < limits.MAX_RECEIVE_COUNT / 4
