"""Turns: whoever has much to do lets the loop see to others in between. With a loop that goes round when the test says
so, and a clock that goes on with each step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from decoupled.server.http.turns import TURN_S, Turns


class Loop:
    """An event loop's list of what comes next. A turn has room for four steps, the last of which may end late."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[Callable[[], object]] = []
        self.done: list[str] = []
        self.turns = Turns(self, lambda: self.now)  # type: ignore[arg-type]  # all of a loop that it needs

    def call_soon(self, call: Callable[[], object]) -> Any:
        self.calls.append(call)
        return call

    def work(self, name: str, steps: int) -> None:
        """Somebody with so many steps to do."""
        left = iter(range(steps - 1, -1, -1))

        def step() -> bool:
            self.now += 0.3 * TURN_S
            self.done.append(name)
            return next(left) > 0

        self.turns.take(step)

    def go_round(self) -> str:
        """What is done in one round."""
        self.done.clear()
        calls, self.calls = self.calls, []
        for call in calls:
            call()
        return "".join(self.done)


def test_nobody_works_for_longer_than_a_turn_and_who_came_first_is_done_first() -> None:
    loop = Loop()
    loop.work("a", 6)
    loop.work("b", 1)
    loop.work("c", 9)
    assert [loop.go_round() for _ in range(5)] == ["aaaa", "aabc", "cccc", "cccc", ""]
    assert loop.calls == []


def test_a_long_step_is_the_only_one_of_its_turn() -> None:
    loop = Loop()

    def long_step() -> bool:
        loop.now += 10 * TURN_S
        loop.done.append("l")
        return False

    loop.turns.take(long_step)
    loop.work("a", 2)
    assert [loop.go_round() for _ in range(3)] == ["l", "aa", ""]


def test_who_comes_while_others_work_has_its_turn_and_there_is_one_round_for_all() -> None:
    loop = Loop()

    def step() -> bool:
        loop.work("b", 1)
        loop.done.append("a")
        return False

    loop.turns.take(step)
    assert loop.go_round() == "ab"
    loop.work("c", 1)
    assert len(loop.calls) == 1
    assert loop.go_round() == "c"


def test_a_step_that_fails_takes_nobody_elses_turn_away() -> None:
    loop = Loop()

    def step() -> bool:
        raise RuntimeError("no step should")

    loop.turns.take(step)
    loop.work("a", 1)
    with pytest.raises(RuntimeError):
        loop.go_round()
    assert loop.go_round() == "a"
