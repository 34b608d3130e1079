"""What `decoupled move` says when it ends before the end."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from decoupled.cli import move as command
from decoupled.cli.move_sides import Sides
from decoupled.core.workload import Unavailable
from tests.support.moving_model import Fate, ModelSource, ModelTarget


@pytest.fixture
def sides(monkeypatch: pytest.MonkeyPatch) -> Sides:
    chance = random.Random(1)
    source = ModelSource(chance)
    for _ in range(60):
        source.live()
    source.fate = Fate(chance, 0, 0)
    made = Sides(source, ModelTarget(chance, source), source)

    @contextlib.contextmanager
    def between(*_: Any) -> Iterator[Sides]:
        yield made

    monkeypatch.setattr(command, "_sides", between)
    monkeypatch.setattr("decoupled.pipeline.moving.MOVE_STILL_S", 0.0)
    return made


def said(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(command.move, ["--to", "there", "--writes", "40000", *arguments])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("end", "again"),
    [(ValueError("m1 does not fit"), False), (KeyboardInterrupt(), True), (Unavailable("away"), True)],
    ids=["never", "interrupted", "away"],
)
def test_who_has_stopped_the_source_is_told_that_it_accepts_nothing(
    sides: Sides, monkeypatch: pytest.MonkeyPatch, end: BaseException, again: bool
) -> None:
    def fail(*_: object) -> None:
        raise end

    monkeypatch.setattr("decoupled.pipeline.patience.MOVE_PATIENCE_S", -1.0)
    monkeypatch.setattr(sides.target, "put_items", fail)
    status, told = said("--cut-over")
    assert status == 1
    assert "here accepts nothing until it has moved, or --back-out has taken that back" in told
    assert ("the same command goes on" in told) == again


def test_nobody_is_told_so_whose_source_goes_on(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides.target, "put", lambda _records: ["m1 is another"])
    status, told = said()
    assert status == 1
    assert "m1 is another" in told
    assert "nothing was changed, and here goes on" in told
    status, told = said("--back-out")
    assert status == 1
    assert "it has not been stopped" in told
    assert "accepts nothing" not in told
