"""Timestamps follow the system's clock, and not its errors; what waits is moved by neither."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from decoupled.core import limits
from decoupled.core.times import Clock, now_ms, steady_ms
from decoupled.engines.sqlite import queue_clock
from decoupled.engines.sqlite.queue_clock import QueueClock
from tests.support.model_engine import ManualClock

HOUR_MS, DAY_MS, MINUTE_MS = 3_600_000, 86_400_000, 60_000
EPOCH_MS = 1_795_000_000_000


class Machine:
    """Its steady clock, and the system's, which can be set."""

    def __init__(self) -> None:
        self.steady = ManualClock(5_000)
        self.set_by_ms = 0
        self.steps: list[int] = []
        self.clock = Clock(self.steps.append, self.wall_ms, self.steady)

    def wall_ms(self) -> int:
        return EPOCH_MS + self.steady() + self.set_by_ms

    def off_ms(self) -> int:
        """By how much what the clock tells differs from the system's."""
        return self.clock.now_ms() - self.wall_ms()

    def pass_ms(self, ms: int, looks: int = 10) -> None:
        for _ in range(looks):
            self.steady.advance(ms / looks / 1000)
            self.clock.now_ms()


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_it_tells_the_time_of_the_system(machine: Machine) -> None:
    assert machine.off_ms() == 0
    machine.pass_ms(DAY_MS)
    assert machine.off_ms() == 0


@pytest.mark.parametrize("step_ms", [DAY_MS, -HOUR_MS, 5_000])
def test_a_clock_that_is_set_wrong_for_a_moment_leaves_no_trace(machine: Machine, step_ms: int) -> None:
    machine.set_by_ms = step_ms
    machine.pass_ms(limits.CLOCK_BELIEVED_MS - 1_000, looks=100)
    assert machine.off_ms() == -step_ms
    machine.set_by_ms = 0
    machine.pass_ms(10 * MINUTE_MS)
    assert machine.off_ms() == 0
    assert machine.steps == []


@pytest.mark.parametrize("step_ms", [DAY_MS, -HOUR_MS, 5_000])
def test_a_clock_that_stays_as_it_was_set_is_followed_after_a_minute(machine: Machine, step_ms: int) -> None:
    machine.pass_ms(MINUTE_MS)
    machine.set_by_ms = step_ms
    machine.pass_ms(limits.CLOCK_BELIEVED_MS + 2_000, looks=100)
    assert machine.off_ms() == 0
    assert machine.steps == [step_ms]


def test_two_moments_far_apart_are_no_minute(machine: Machine) -> None:
    for _ in range(3):
        machine.set_by_ms = HOUR_MS
        machine.pass_ms(2_000)
        machine.set_by_ms = 0
        machine.pass_ms(5 * MINUTE_MS)
    assert machine.steps == []
    assert machine.off_ms() == 0


@pytest.mark.parametrize("leap_ms", [-1_000, 1_000, 128])
def test_a_second_is_made_up_gradually(machine: Machine, leap_ms: int) -> None:
    machine.set_by_ms = leap_ms
    machine.pass_ms(MINUTE_MS, looks=1_000)
    assert 0 < abs(machine.off_ms()) < abs(leap_ms)
    machine.pass_ms(HOUR_MS)
    assert machine.off_ms() == 0
    assert machine.steps == []


def test_it_goes_back_for_nothing_but_a_clock_that_stays_set_back(machine: Machine) -> None:
    rng = random.Random(1)
    told = machine.clock.now_ms()
    for _ in range(20_000):
        machine.set_by_ms += rng.choice((0, 0, 0, -300, 300, -1_000, 1_000))
        machine.steady.advance(rng.choice((0, 0.001, 0.4, 3.0)))
        before, told = told, machine.clock.now_ms()
        assert told >= before or machine.steps
        if machine.steps:
            assert machine.steps.pop() < 0 or told >= before
            assert abs(machine.off_ms()) <= limits.CLOCK_GRADUAL_MS


# --- the queue's clock ---------------------------------------------------------------


def test_the_next_server_and_the_tools_go_on_with_the_clock_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = QueueClock.keep(tmp_path)
    monkeypatch.setattr(queue_clock, "now_ms", lambda: 0)  # whatever the system's clock says now
    assert QueueClock.of(tmp_path).ahead_ms == first.ahead_ms
    assert QueueClock.keep(tmp_path).ahead_ms == first.ahead_ms
    assert (tmp_path / "clock").stat().st_mode & 0o077 == 0


def test_after_a_start_of_the_machine_the_clock_is_set_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clock").write_text("another-start-of-the-machine 12345\n")
    monkeypatch.setattr(queue_clock, "now_ms", lambda: EPOCH_MS)
    for clock in (QueueClock.of(tmp_path), QueueClock.keep(tmp_path), QueueClock.of(tmp_path)):
        assert clock.ahead_ms == pytest.approx(EPOCH_MS - steady_ms(), abs=60_000)


def test_where_a_start_of_the_machine_has_no_id_a_server_sets_the_clock_and_tools_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_clock, "_BOOT_ID", tmp_path / "not-there")
    first = QueueClock.keep(tmp_path)
    monkeypatch.setattr(queue_clock, "now_ms", lambda: EPOCH_MS)
    assert QueueClock.of(tmp_path).ahead_ms == first.ahead_ms
    assert QueueClock.keep(tmp_path).ahead_ms == pytest.approx(EPOCH_MS - steady_ms(), abs=60_000)


@pytest.mark.parametrize("text", ["", "x", "a b c\n", "\xff" * 200, "9" * 90])
def test_a_file_that_is_no_clock_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "clock").write_text(text)
    assert QueueClock.of(tmp_path)() == pytest.approx(now_ms(), abs=60_000)
