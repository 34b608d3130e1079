"""Prefer: wait=N, as RFC 7240 writes preferences."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoupled.core import limits
from decoupled.pipeline.prefer import wait_s


@pytest.mark.parametrize(
    "header",
    [
        "wait=10",
        "Wait = 10",
        'wait="10"',
        "respond-async, wait=10",
        "respond-async,,wait=10 ,handling=lenient",
        'note="a, wait=3", wait=10',
        r'note="\", wait=3", wait=10',
        "wait=10; foo=bar",
        "wait=10, wait=20",
        "wait==3, wait=10",
        "priority=5; wait=3, wait=10",
        "wait=010",
    ],
)
def test_a_client_prefers_to_wait(header: str) -> None:
    assert wait_s(header) == 10


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        ",",
        "respond-async",
        "wait",
        "wait=",
        'wait=""',
        "wait=soon",
        "wait=-1",
        "wait=1.5",
        "wait=10 s",
        "wait=\u0663",  # a digit, but none of ASCII's
        "await=10",
        "wait;x=10",
        "wait=soon, wait=10",  # the first one counts
        'note="wait=10',
    ],
)
def test_what_is_no_such_preference_is_passed_by(header: str | None) -> None:
    assert wait_s(header) is None


def test_nobody_waits_longer_than_the_limit() -> None:
    assert wait_s(f"wait={limits.MAX_WAIT_S + 1}") == limits.MAX_WAIT_S
    assert wait_s("wait=9999999999") == limits.MAX_WAIT_S
    assert wait_s("wait=" + "9" * 10_000) is None


@given(st.text(alphabet='wait=1",; \\\tx', max_size=60))
def test_any_header_is_a_wait_within_the_limit_or_none(header: str) -> None:
    seconds = wait_s(header)
    assert seconds is None or 0 <= seconds <= limits.MAX_WAIT_S


@given(st.text(alphabet='"\\,=;wait1 ', max_size=30), st.integers(0, limits.MAX_WAIT_S))
def test_another_preference_changes_nothing(value: str, seconds: int) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    assert wait_s(f'note="{quoted}", wait={seconds}') == seconds
