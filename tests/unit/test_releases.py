"""Which release serves, what comes after it, and by which steps."""

from __future__ import annotations

import pytest

from decoupled.core import stack_limits
from decoupled.core.releases import Serving, Shift, Step, is_of, name_of


def test_what_serves_is_the_same_when_it_is_read_back_from_the_parameters() -> None:
    for serving in (Serving("b"), Serving("b", "a"), Serving("b", "a", 90), Serving("b", "a", 1)):
        assert Serving.of(serving.parameters()) == serving


def test_a_stack_from_before_there_were_releases_has_none() -> None:
    assert Serving.of({"CodeKey": "shop/1.zip"}) is None


def test_a_shift_goes_back_to_the_release_that_it_began_from() -> None:
    assert Serving("b", "a", 90).stable == "a"
    assert Serving("b", "a").stable == "b"


def test_a_canary_is_one_step_and_then_the_rest() -> None:
    assert Shift(percent=10, every_s=300).steps(60) == [Step(90, 300), Step(0, 60)]


def test_a_linear_shift_ends_with_all_of_the_requests() -> None:
    steps = Shift(linear=True, percent=30, every_s=60).steps(0)
    assert [step.percent_before for step in steps] == [70, 40, 10, 0]
    assert [step.watch_s for step in steps] == [60, 60, 60, 0]


def test_all_at_once_is_one_step() -> None:
    assert Shift().steps(300) == [Step(0, 300)]


def test_a_shift_that_was_interrupted_goes_on_from_where_it_was() -> None:
    steps = Shift(linear=True, percent=30, every_s=60).steps(0, percent_before=40)
    assert [step.percent_before for step in steps] == [10, 0]


@pytest.mark.parametrize(("kind", "percent"), [("blue", "10"), ("canary", "0"), ("canary", "100"), ("linear", "x")])
def test_what_is_no_shift_is_refused(kind: str, percent: str) -> None:
    with pytest.raises(ValueError, match="canary:PERCENT:TIME"):
        Shift.parse(kind, percent, 60)


def test_what_would_be_watched_for_longer_than_deploy_waits_is_refused() -> None:
    with pytest.raises(ValueError, match="45 minutes"):
        Shift.parse("canary", "10", stack_limits.MAX_WATCH_S + 1)
    with pytest.raises(ValueError, match="45 minutes"):
        Shift().steps(stack_limits.MAX_WATCH_S + 1)


def test_a_release_is_named_by_its_time_and_by_what_it_is_made_of() -> None:
    name = name_of("0123456789abcdef", 1_795_996_800_000)
    assert name == "20261130000000x0123456789"
    assert name.isalnum()
    assert is_of(name, "0123456789abcdef")
    assert not is_of(name, "1123456789abcdef")
