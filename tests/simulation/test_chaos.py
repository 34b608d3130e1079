"""What `make chaos` says and returns, with parts that hold and parts that do not."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import click
import pytest

from tests.support.chaos import __main__ as chaos
from tests.support.chaos.__main__ import Command, Part

WITHIN_S = 60.0


@pytest.fixture(autouse=True)
def _kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos, "KEPT", tmp_path)


def until() -> float:
    return time.monotonic() + WITHIN_S


def holds(directory: Path, seed: int) -> Counter[str]:
    (directory / "data").touch()
    return Counter({"things broken": 2})


def breaks(directory: Path, seed: int) -> Counter[str]:
    (directory / "data").touch()
    if seed == 18:
        raise AssertionError("1 of 3 accepted are lost")
    return Counter({"things broken": 1})


def test_parts_that_hold_say_what_was_done_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chaos.run([Part("first", 0.5, holds), Part("second", 0.5, holds)], 17, until(), rounds=3)
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(" rounds")[0] for line in said] == ["first: held in 3", "second: held in 3"]
    assert said[0].endswith("6 things broken")
    assert list(tmp_path.iterdir()) == []


def test_the_first_broken_promise_ends_it_and_says_how_to_see_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not chaos.run([Part("shaky", 0.5, breaks), Part("never", 0.5, breaks)], 17, until(), rounds=9)
    said = capsys.readouterr().out
    assert "1 of 3 accepted are lost" in said
    assert "shaky: BROKEN with seed 18" in said
    assert "make chaos ARGS='--only shaky --seed 18 --rounds 1'" in said
    assert (tmp_path / "shaky-18" / "data").exists()
    assert "never" not in said


def test_no_round_begins_that_would_not_end_in_time(capsys: pytest.CaptureFixture[str]) -> None:
    def slow(directory: Path, seed: int) -> Counter[str]:
        time.sleep(0.05)
        return Counter()

    assert chaos.run([Part("slow", 1.0, slow)], 17, time.monotonic() + 0.01)
    assert "held in 1 rounds" in capsys.readouterr().out


def test_a_program_that_fails_is_shown_with_what_it_said(capsys: pytest.CaptureFixture[str]) -> None:
    code = "print('the client waited'); raise SystemExit(3)"
    assert not chaos.run([Command("attack", ("-c", code), most_s=WITHIN_S / 2)], 17, until())
    said = capsys.readouterr().out
    assert "the client waited" in said
    assert "attack: BROKEN, exit status 3" in said


def test_a_program_that_hangs_is_ended(capsys: pytest.CaptureFixture[str]) -> None:
    assert not chaos.run([Command("fuzz", ("-c", "import time; time.sleep(600)"), most_s=0.5)], 17, until())
    assert "fuzz: BROKEN, it did not end within 0.5 s" in capsys.readouterr().out


def test_a_part_that_is_not_there_is_named() -> None:
    with pytest.raises(click.UsageError, match="no part 'wal'; there are first"):
        chaos.run([Part("first", 1.0, holds)], 17, until(), only="wal")
