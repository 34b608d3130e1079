"""The course of a move between two systems in memory, interrupted at any call of either."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec
import pytest

from decoupled.core.moving import Carried
from decoupled.core.upkeep_limits import MOVE_PATIENCE_S
from decoupled.core.workload import Unavailable
from decoupled.pipeline.moving import Differs, Move
from tests.support.moving_model import Fate, Killed, ModelSource, ModelTarget

POINTS = 150


class SteadyClock:
    """Which nobody waits for."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


def begin(source: ModelSource, target: ModelTarget, writes_s: float = 1000) -> Move:
    clock = SteadyClock()
    return Move(source, target, source, writes_s, monotonic=clock, pause=clock.pause)


def interrupted(chance: random.Random, source: ModelSource, target: ModelTarget) -> int:
    """Some command, which is killed at some call of its, if it makes so many. Returns how many it made."""
    source.fate = Fate(chance, chance.randrange(1, 40), trouble=0.1)
    try:
        move = begin(source, target)
        what = chance.choice(["copy", "cut over", "cut over", "cut over", "back out"])
        if what == "copy":
            move.copy()
        elif what == "cut over":
            move.cut_over("there", "", drain=False)
        else:
            move.back_out()
    except Killed:
        pass
    except Differs:
        raise
    except ValueError:
        pass  # it is in a state in which this cannot be asked for
    return source.fate.calls


@pytest.mark.parametrize("seed", range(POINTS))
def test_interrupted_anywhere_and_gone_on_with_nothing_is_lost_or_doubled(seed: int) -> None:
    chance = random.Random(seed)
    source = ModelSource(chance)
    target = ModelTarget(chance, source)
    for _ in range(30):
        source.live()
    for _ in range(chance.randrange(1, 8)):
        interrupted(chance, source, target)
    source.fate = Fate(chance, 0, 0.05)
    begin(source, target).cut_over("there", "", drain=False)

    source.fate = Fate(chance, 0, 0)
    accepted = set(source.records)
    assert target.records.keys() == accepted
    left = [it.id for it in source.records.values() if it.status in ("queued", "dead")]
    assert set(target.effects) <= set(left)
    for _ in range(1000):
        target.claim()
        target.settle()
    applied = source.effects + target.effects
    assert len(applied) == len(set(applied))
    processed = {it.id for it in target.records.values() if it.status == "processed"}
    assert set(applied) == processed
    assert target.balance() == len(applied)
    assert {it.status for it in target.records.values()} <= {"processed", "rejected", "dead"}


def still(seed: int = 1) -> tuple[ModelSource, ModelTarget]:
    chance = random.Random(seed)
    source = ModelSource(chance)
    target = ModelTarget(chance, source)
    for _ in range(60):
        source.live()
    return source, target


def test_what_is_backed_out_of_leaves_nothing_on_the_other_side_that_may_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, target = still()
    while source.in_flight:
        source.settle()
    monkeypatch.setattr(source, "live", lambda: None)
    *_, last = (it for it in source.records.values() if it.id in source.queue)
    target.records[last.id] = other = msgspec.structs.replace(last, digest="another")
    with pytest.raises(Differs, match=last.id):
        begin(source, target).cut_over("there", "", drain=False)
    begin(source, target).back_out()
    assert source.its_state == "open"
    assert [it for it in target.records.values() if it.status in ("queued", "dead")] == [other]
    assert target.things == {}


def test_what_cannot_be_drained_is_no_reason_not_to_back_out(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = still()
    source.fate = Fate(source.chance, 0, 0)
    monkeypatch.setattr(source, "busy", lambda: 1)
    with pytest.raises(Unavailable, match="do not come to an end"):
        begin(source, target).cut_over("there", "", drain=True)
    assert source.state() == "stopped"
    begin(source, target).back_out()
    assert source.state() == "open"


def test_what_differs_ends_a_move_before_anything_is_given_over() -> None:
    source, target = still()
    key = next(iter(source.things))
    target.things[key] = source.things[key].__class__(key, '{"n":-1}')
    with pytest.raises(Differs, match=key):
        begin(source, target).cut_over("there", "", drain=False)
    assert source.its_state == "stopped"
    assert target.queue == []
    del target.things[key]
    begin(source, target).cut_over("there", "", drain=False)
    begin(source, target).verify()


def test_what_has_given_over_cannot_be_taken_back() -> None:
    source, target = still()
    begin(source, target).cut_over("there", "", drain=False)
    with pytest.raises(ValueError, match="for good"):
        begin(source, target).back_out()


def test_another_move_is_not_gone_on_with() -> None:
    source, target = still()
    begin(source, target).copy()
    target.name = "elsewhere"
    with pytest.raises(ValueError, match="from here to there has been begun"):
        begin(source, target)


def test_what_was_copied_to_another_of_that_name_is_copied_again() -> None:
    source, target = still()
    begin(source, target).copy()
    anew = ModelTarget(source.chance, source)
    anew.identity = "the second"
    begin(source, anew).cut_over("there", "", drain=False)
    assert anew.records.keys() == source.records.keys()
    with pytest.raises(ValueError, match="another one than the one to which here has moved"):
        begin(source, target)


def test_two_of_one_name_do_not_come_to_one_place() -> None:
    source, target = still()
    begin(source, target).copy()
    source.identity = "the second"
    with pytest.raises(ValueError, match="another one than the one that was copied"):
        begin(source, target)


def test_a_record_that_is_lost_on_the_other_side_is_found() -> None:
    source, target = still()
    begin(source, target).cut_over("there", "", drain=False)
    del target.records[source.ends[0]]
    with pytest.raises(Differs, match=source.ends[0]):
        begin(source, target).verify()


def test_a_side_that_stays_away_ends_the_command_after_a_while_and_not_before() -> None:
    source, target = still()
    clock = SteadyClock()
    source.fate = Fate(source.chance, 0, 1.0)
    with pytest.raises(Unavailable):
        Move(source, target, source, 1000, monotonic=clock, pause=clock.pause)
    assert MOVE_PATIENCE_S < clock.now < 2 * MOVE_PATIENCE_S


def test_no_more_is_written_a_second_than_was_said() -> None:
    source, target = still()
    clock = SteadyClock()
    Move(source, target, source, 2, monotonic=clock, pause=clock.pause).cut_over("there", "", drain=False)
    assert clock.now >= (len(source.records) - 3) / 2


def test_what_was_forgotten_after_it_was_copied_is_put_again_when_all_is_verified() -> None:
    source, target = still()
    source.fate = Fate(source.chance, 0, 0)
    begin(source, target).copy()
    first = source.ends[0]
    source.records[first] = msgspec.structs.replace(source.records[first], caller="", digest="gone")
    asked: list[str] = []
    put = target.put

    def replacing(records: Sequence[Carried]) -> Sequence[str]:
        for it in records:
            if it.id == first:
                asked.append(first)
                target.records[first] = it
        return put(records)

    target.put = replacing  # type: ignore[method-assign]
    begin(source, target).cut_over("there", "", drain=False)
    assert asked == [first]
    assert target.records[first].digest == "gone"
