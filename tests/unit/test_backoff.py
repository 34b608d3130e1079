"""How long a message waits, in every case."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from decoupled.core import limits
from decoupled.core.backoff import backoff_s, spread_s

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


@given(st.integers(2, 20), st.floats(0, 21_600), st.lists(st.floats(0, 1), min_size=19, max_size=19))
def test_attempts_that_are_spread_take_their_span_at_least_and_twice_that_at_most(
    attempts: int, span_s: float, spreads: list[float]
) -> None:
    waits = [spread_s(failures, attempts, span_s, spreads[failures - 1]) for failures in range(1, attempts)]
    assert span_s * 0.999 <= sum(waits) <= span_s * 2.001
    assert waits == sorted(waits)


@pytest.mark.parametrize("failures", [0, 1, 5, 6, 100])
def test_a_failure_beyond_the_last_attempt_waits_no_longer_than_the_last(failures: int) -> None:
    assert 0 < spread_s(failures, 5, 3_600, 0.5) <= spread_s(4, 5, 3_600, 0.5)
    assert spread_s(failures, 1, 3_600, 0.5) == 0
