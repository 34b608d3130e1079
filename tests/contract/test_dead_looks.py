"""Bounded looks at dead letters, one contract on both engines: some from a position on, and how many of each error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from decoupled.core import limits
from decoupled.core.dead_letters import DeadLetter, Wanted
from decoupled.core.identifiers import derived_id
from decoupled.engines.aws import dead_letter_looks
from decoupled.engines.protocols import DeadLetters
from decoupled.engines.sqlite import dead_looks, looking
from decoupled.engines.sqlite.dead_letters import SqliteDeadLetters
from tests.support import engines
from tests.support.dead_letters import dead_letters, let_sqs_move, letters_of, message

T0 = 1_700_000_000_000


@pytest.fixture(params=["embedded", "moto"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> engines.Engine:
    """Both kinds, empty."""
    if request.param == "embedded":
        return engines.embedded(tmp_path)
    new: Callable[[], engines.Engine] = request.getfixturevalue("new_moto_engine")
    return new()


@pytest.fixture
def letters(engine: engines.Engine) -> Iterator[DeadLetters]:
    store = letters_of(engine)
    yield store
    store.close()


def parts(letters: DeadLetters, wanted: Wanted, most: int) -> Iterator[list[DeadLetter]]:
    after = None
    for _ in range(1_000):
        some = letters.some(wanted, after, most)
        assert len(some.letters) <= most
        yield some.letters
        if (after := some.after) is None:
            return
    raise AssertionError("there is no end of it")


def ids(letters: DeadLetters, most: int = 10, **wanted: Any) -> list[str]:
    return [letter.id for some in parts(letters, Wanted(**wanted), most) for letter in some]


def stocked(letters: DeadLetters, count: int = 30) -> list[DeadLetter]:
    """Some that died at the same moments, of two workloads, and whose ids are in no order."""
    made = [
        msgspec.structs.replace(
            letter, id=derived_id(letter.id), dead_at=T0 + n // 4, workload=("orders", "payments")[n % 5 == 0]
        )
        for n, letter in enumerate(dead_letters(count))
    ]
    assert all(outcome.done for outcome in letters.restore(made))
    return made


@pytest.mark.parametrize("most", [1, 7, 30, 100])
def test_part_after_part_has_each_once_and_the_oldest_first(letters: DeadLetters, most: int) -> None:
    made = stocked(letters)
    found = [letter for some in parts(letters, Wanted(), most) for letter in some]
    assert sorted(letter.id for letter in found) == sorted(letter.id for letter in made)
    assert [letter.dead_at for letter in found] == sorted(letter.dead_at for letter in made)
    assert {letter.body for letter in found} <= {None, made[0].body}


def test_some_are_those_that_find_finds_for_whatever_is_wanted(
    letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOOK_S", 60.0)  # on AWS; how far a look gets says what else the machine does
    made, random = stocked(letters), Random(3)
    some = {letter.id: letter for letter in letters.find(Wanted())}
    groups = list(letters.groups(Wanted()).groups.values())
    for number in range(40):
        may: dict[str, Any] = {
            "workload": random.choice(("orders", "payments", "nothing")),
            "error": random.choice(("KeyError", "NO SUCH", "1000007", "'sku-", "100%", "_")),
            "alike": random.choice(groups).alike,
            "dead_after": random.choice(made).dead_at,
            "dead_before": random.choice(made).dead_at,
        }
        wanted = {name: value for name, value in may.items() if random.random() < 0.4}
        expected = sorted(it.id for it in letters.find(Wanted(**wanted)))
        assert sorted(ids(letters, **wanted)) == expected, f"{number}: {wanted}"
        counted = letters.groups(Wanted(**wanted))
        assert (counted.total, counted.whole) == (len(expected), True), f"{number}: {wanted}"
        assert sum(group.count for group in counted.groups.values()) == len(expected)
    assert len(some) == len(made)


def test_errors_are_counted_by_what_they_have_in_common(letters: DeadLetters) -> None:
    made = stocked(letters)
    counted = letters.groups(Wanted(workload="orders"))
    assert {(group.error_type, group.alike): group.count for group in counted.groups.values()} == {
        ("KeyError", "KeyError: no such product: '…'"): 8,
        ("ValueError", "ValueError: order # of …@… is over its limit of #"): 8,
        ("ConnectionError", "ConnectionError: https://bank.example/… answered after # ms"): 8,
    }
    by_id = {letter.id: letter for letter in made}
    for group in counted.groups.values():
        assert by_id[group.sample_id].error_type == group.error_type
        assert group.error in {letter.error for letter in made}
        theirs = [it.dead_at for it in made if it.workload == "orders" and it.error_type == group.error_type]
        assert (group.oldest_at, group.newest_at) == (min(theirs), max(theirs))


def test_what_is_redriven_in_between_leaves_out_none_of_the_others(letters: DeadLetters) -> None:
    """The one that the position names has gone by then."""
    made = stocked(letters)
    seen, after = list[str](), None
    for _ in range(100):
        some = letters.some(Wanted(), after, 3)
        seen += [letter.id for letter in some.letters]
        letters.redrive(some.letters)
        if (after := some.after) is None:
            break
    assert sorted(seen) == sorted(letter.id for letter in made)
    assert list(letters.find(Wanted())) == []


@pytest.mark.parametrize("after", ["", "x", "1", "-", "1.2.3;", "r.1", "z.1.2", "9" * 90])
def test_a_position_of_something_else_is_refused(letters: DeadLetters, after: str) -> None:
    with pytest.raises(ValueError, match="no position in the dead letters"):
        letters.some(Wanted(), after, 10)


def test_what_sqs_moved_comes_after_what_has_a_record(moto_engine: engines.AwsEngine) -> None:
    store = letters_of(moto_engine)
    made = stocked(store, 5)
    moved = [message() for _ in range(3)]
    for sent in moved:
        let_sqs_move(moto_engine, sent)
    found = ids(store, most=2)
    assert set(found[:5]) == {letter.id for letter in made}
    assert set(found[5:]) == {sent.id for sent in moved}
    assert store.groups(Wanted()).total == 8
    store.close()


# --- in time


def test_a_look_that_takes_too_long_on_one_machine_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOOK_FIRST_ROWS", 4)
    monkeypatch.setattr(limits, "LOOK_MOST_ROWS", 4)
    store = SqliteDeadLetters(engines.embedded(tmp_path).table.database)
    made = stocked(store)
    ticks = iter(range(10**6))
    monkeypatch.setattr(dead_looks, "Look", lambda database: looking.Look(database, 2.0, lambda: next(ticks)))
    sizes = [len(some) for some in parts(store, Wanted(error="ValueError"), 100)]
    assert sum(sizes) == sum(letter.error_type == "ValueError" for letter in made)
    assert len(sizes) > 1
    counted = store.groups(Wanted())
    assert not counted.whole
    assert 0 < counted.counted < len(made)
    assert counted.total == len(made)  # as the index tells
    assert store.groups(Wanted(dead_before=made[7].dead_at)).total == 8
    assert store.groups(Wanted(workload="orders")).total < 24


def test_a_look_that_sees_nothing_in_time_begins_there_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOOK_STEPS", 10)
    store = SqliteDeadLetters(engines.embedded(tmp_path).table.database)
    made = stocked(store)
    with monkeypatch.context() as slow:
        slow.setattr(dead_looks, "Look", lambda database: looking.Look(database, 0))
        some = store.some(Wanted(), None, 100)
        assert (some.letters, store.groups(Wanted()).counted) == ([], 0)
        assert store.groups(Wanted()).total == len(made)
    assert some.after is not None
    assert len(store.some(Wanted(), some.after, 100).letters) == len(made)


def test_a_look_that_takes_too_long_on_aws_is_gone_on_with() -> None:
    made = dead_letters(30)
    ticks = iter(range(10**6))
    monotonic, after, sizes = (lambda: next(ticks) / 10), None, list[int]()
    for _ in range(100):
        wanted = Wanted(error="ValueError")
        some = dead_letter_looks.some(
            lambda it: [x for x in made if x.dead_at >= (it.dead_after or 0)], list, wanted, after, 99, monotonic
        )
        sizes.append(len(some.letters))
        if (after := some.after) is None:
            break
    assert (sum(sizes), len(sizes) > 1) == (10, True)
    counted = dead_letter_looks.groups(iter(made), monotonic)
    assert not counted.whole
    assert 0 < counted.total < 30


def test_those_that_died_at_the_same_moment_are_found_once_each_in_whatever_order_an_index_has_them() -> None:
    made = [msgspec.structs.replace(it, id=derived_id(it.id), dead_at=T0) for it in dead_letters(9)]
    random, after, found = Random(5), None, list[str]()
    for _ in range(20):
        random.shuffle(made)
        some = dead_letter_looks.some(lambda _: list(made), list, Wanted(), after, 2)
        found += [letter.id for letter in some.letters]
        if (after := some.after) is None:
            break
    assert sorted(found) == sorted(letter.id for letter in made)
