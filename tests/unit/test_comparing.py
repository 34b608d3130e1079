"""What a message that has ended would come to now, beside what it came to: what is a difference, and what is none."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from decoupled.core.comparing import Compared, Seen, compared, left, same
from decoupled.core.outcomes import Commit, Decision, Failure, Record, Reject
from decoupled.core.workload import Add, Delete, Put, Update, Write

STOCK = "shop/stock/KB-104"


def of(record: Record, decision: Decision, items: dict[str, Any] | None = None) -> Compared:
    return compared(record, decision, (items or {}).get)


def processed(result: str) -> Record:
    return Record("m-1", "shop", "processed", 0, result=result)


def rejected(reason: str) -> Record:
    return Record("m-1", "shop", "rejected", 0, reason=reason)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"a": 1, "b": [1.50, true, null]}', '{"b":[1.5,true,null],"a":1}'),
        ('{"total": 10000000000000000000000000.1}', '{"total": 10000000000000000000000000.10}'),
        ('{"n": 1}', '{"n": 1.0}'),
        ("{}", "{}"),
    ],
)
def test_results_are_compared_by_value(before: str, after: str) -> None:
    assert of(processed(before), Commit(after)).verdict == "unchanged"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"a": 1}', '{"a": true}'),
        ('{"a": 1}', '{"a": "1"}'),
        ('{"a": 1}', '{"a": 1, "b": null}'),
        ('{"a": [1, 2]}', '{"a": [2, 1]}'),
        ('{"total": 10000000000000000000000000.1}', '{"total": 10000000000000000000000000.2}'),
    ],
)
def test_and_what_is_another_value_differs(before: str, after: str) -> None:
    found = of(processed(before), Commit(after))
    assert (found.verdict, found.was, found.now) == ("differs", "processed", "processed")
    assert not same(found.before, found.after)


def test_a_condition_that_this_message_has_made_untrue_itself_makes_no_difference() -> None:
    once = Put("shop/returns/A-17", {"by": "m-1"}, if_absent="it was returned before")
    sold = Add(STOCK, {"left": -1}, floor={"left": 0}, otherwise="sold out")
    items = {"shop/returns/A-17": {"by": "m-1"}, STOCK: {"left": 0}}
    found = of(processed("{}"), Commit("{}", [once, sold]), items)
    assert (found.verdict, found.items) == ("unchanged", ())


def test_what_a_condition_said_no_to_stays_rejected_whatever_the_items_are_now() -> None:
    commit = Commit("{}", [Add(STOCK, {"left": -1}, floor={"left": 0}, otherwise="sold out")])
    assert of(rejected("sold out"), commit, {STOCK: {"left": 9}}).verdict == "unchanged"
    absent = Commit("{}", [Put("shop/a/1", {}, if_absent="taken")])
    assert of(rejected("taken"), absent).verdict == "unchanged"


def test_a_reason_that_no_condition_can_have_given_is_a_difference() -> None:
    found = of(rejected("sold out"), Commit('{"sold": 1}', [Put("shop/a/1", {}, if_absent="taken")]))
    assert (found.verdict, found.was, found.now) == ("differs", "rejected", "processed")
    assert (found.before, found.after) == ("sold out", {"sold": 1})
    unasked = Commit("{}", [Put("shop/a/1", {}, otherwise="sold out")])  # of no condition
    assert of(rejected("sold out"), unasked).verdict == "differs"


def test_rejections_are_compared_by_their_reasons() -> None:
    assert of(rejected("no"), Reject("no")).verdict == "unchanged"
    assert of(rejected("no"), Reject("never")).verdict == "differs"
    assert of(processed("{}"), Reject("no")).verdict == "differs"


def test_an_error_fails_and_a_sick_backend_says_nothing() -> None:
    found = of(processed("{}"), Failure("failed", "KeyError", "'a'", traceback="Traceback"))
    assert (found.verdict, found.now, found.after, found.traceback) == ("fails", "dead", "KeyError: 'a'", "Traceback")
    for kind in ("unavailable", "not_started", "not_yet", "held"):
        assert of(rejected("no"), Failure(kind, "Unavailable", "sick")).verdict == "later"


def test_what_has_not_ended_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="dead"):
        of(Record("m-1", "shop", "dead", 0), Commit("{}"))


@pytest.mark.parametrize(
    ("write", "now", "is_left"),
    [
        (Put("a/b/c", {"n": 1}), {"n": Decimal("1.0")}, True),
        (Put("a/b/c", {"n": 1}), {"n": 1, "more": 2}, False),
        (Put("a/b/c", {}), None, False),
        (Update("a/b/c", {"n": 1}, ["gone"]), {"n": 1, "more": 2}, True),
        (Update("a/b/c", {"n": 1}, ["gone"]), {"n": 1, "gone": 2}, False),
        (Update("a/b/c", {"n": 1}), None, False),
        (Update("a/b/c", {}, if_present="no"), {"n": 1}, None),
        (Add("a/b/c", {"n": 5}), {"n": 2}, None),
        (Add("a/b/c", {"n": 5}), {"m": 2}, False),
        (Add("a/b/c", {"n": 5}), None, False),
        (Delete("a/b/c"), None, True),
        (Delete("a/b/c"), {}, False),
    ],
)
def test_an_item_is_as_a_write_leaves_it_or_not_or_nobody_can_tell(
    write: Write, now: Any, is_left: bool | None
) -> None:
    assert left(write, now) is is_left


def test_an_item_that_is_otherwise_now_is_told_and_is_no_difference() -> None:
    found = of(processed("{}"), Commit("{}", [Put(STOCK, {"left": 1}), Delete("shop/a/1")]), {STOCK: {"left": 2}})
    assert found.verdict == "unchanged"
    assert found.items == (Seen(STOCK, {"left": 1}, {"left": 2}),)
