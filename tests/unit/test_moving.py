"""What goes over in a move, and by what the two sides are compared."""

from __future__ import annotations

import msgspec
import pytest

from decoupled.core.fingerprints import canonical, difference, item_difference
from decoupled.core.moving import Carried, CarriedItem, Edit
from decoupled.core.status import STATUSES, Status

PROCESSED = Carried(
    id="a" * 40, workload="orders", status="processed", accepted_at=1, caller="key:shop", result='{"total":1.50}'
)
DEAD = Carried(id="b", workload="orders", status="dead", accepted_at=1, body="{}", error_type="KeyError", error="x")


@pytest.mark.parametrize(
    "same",
    [
        ("1", "1.0"),
        ("100", "1E2"),
        ("0", "-0.00"),
        ('{"a":1,"b":[2,{}]}', '{ "b": [2.0, {}], "a": 1 }'),
        ('"A"', '"\\u0041"'),
        ("123456789012345678901234567890", "1.2345678901234567890123456789E29"),
    ],
)
def test_one_value_has_one_form(same: tuple[str, str]) -> None:
    assert canonical(same[0]) == canonical(same[1])


@pytest.mark.parametrize(
    "other",
    [("1", '"1"'), ("1", "true"), ("0", "false"), ("10", "1"), ("0.1", "0.10000000000000000000001"), ("[1]", '["1"]')],
)
def test_two_values_have_two_forms(other: tuple[str, str]) -> None:
    assert canonical(other[0]) != canonical(other[1])


def test_a_number_is_no_list_that_looks_like_it() -> None:
    assert canonical("5") != canonical('["number",0,"5",0]')


def test_what_says_the_same_is_the_same_on_both_sides() -> None:
    there = msgspec.structs.replace(PROCESSED, result='{ "total": 1.5 }', group="elsewhere", error="")
    assert difference(PROCESSED, there) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"result": '{"total":1.51}'},
        {"caller": "key:other"},
        {"digest": "f"},
        {"finished_at": 2},
        {"accepted_at": 2},
        {"attempts": 1},
        {"status": "rejected"},
    ],
)
def test_a_final_record_that_differs_is_found(changed: dict[str, object]) -> None:
    why = difference(PROCESSED, msgspec.structs.replace(PROCESSED, **changed))
    assert why is not None
    assert PROCESSED.id in why


@pytest.mark.parametrize(
    "changed",
    [{"body": "[]"}, {"error": "y"}, {"traceback": "..."}, {"group": "g"}, {"edits": [Edit(1, "old", "ana")]}],
)
def test_a_dead_letter_that_differs_is_found(changed: dict[str, object]) -> None:
    assert difference(DEAD, msgspec.structs.replace(DEAD, **changed)) is not None
    assert difference(DEAD, DEAD) is None


@pytest.mark.parametrize(
    "since",
    [{"finished_at": 9, "error": "y"}, {"body": "[]", "edits": [Edit(8, "{}", "ana")]}, {"status": "processed"}],
)
def test_what_was_done_about_a_dead_letter_where_it_went_is_no_difference(since: dict[str, object]) -> None:
    before = msgspec.structs.replace(DEAD, finished_at=7)
    there = msgspec.structs.replace(before, **since)
    assert difference(before, there) is not None
    assert difference(before, there, serves=True) is None
    assert difference(before, msgspec.structs.replace(there, accepted_at=2), serves=True) is not None
    assert difference(before, msgspec.structs.replace(before, error="y"), serves=True) is not None


@pytest.mark.parametrize("status", STATUSES)
def test_what_waited_may_have_gone_on_but_not_be_another(status: Status) -> None:
    queued = msgspec.structs.replace(PROCESSED, status="queued", result=None, body="{}")
    there = msgspec.structs.replace(queued, status=status)
    assert difference(queued, there) is None
    assert difference(queued, msgspec.structs.replace(there, workload="other")) is not None
    assert difference(queued, None) == f"{queued.id} is queued here, and not there"


def test_items_are_compared_with_their_owners() -> None:
    item = CarriedItem("bank/accounts/1", '{"balance":10}', "key:ana")
    assert item_difference(item, CarriedItem("bank/accounts/1", '{ "balance": 1E1 }', "key:ana")) is None
    for other in (CarriedItem(item.key, item.item, ""), CarriedItem(item.key, '{"balance":11}', item.owner), None):
        assert item_difference(item, other) is not None


def test_only_what_has_a_body_can_wait() -> None:
    with pytest.raises(ValueError, match=PROCESSED.id):
        PROCESSED.message()
