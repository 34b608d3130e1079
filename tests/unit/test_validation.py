"""Faults are named by pointer, and named truly: none where there is none, and always at least one where the decoder
refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoupled.core import limits
from decoupled.core.validation import faults
from decoupled.core.workload import BadField
from decoupled.workloads.orders import Order
from tests.support.almost_orders import almost_orders
from tests.support.events import ORDER


class Part(msgspec.Struct, forbid_unknown_fields=True):
    size: Annotated[int, msgspec.Meta(ge=1)]
    low: int = 0
    high: int = 0

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise BadField("/low", "low is over high")


class Whole(msgspec.Struct, forbid_unknown_fields=True, rename={"first_name": "first/name"}):
    parts: Annotated[list[Part], msgspec.Meta(max_length=3)]
    first_name: str = ""
    pair: tuple[int, str] = (0, "")
    spare: Part | None = None
    labels: dict[str, int] = {}
    as_sent: msgspec.Raw = msgspec.Raw(b"null")
    shelves: dict[int, Part] = {}
    more: list[Part] = []
    within: list[Whole] = []


@pytest.mark.parametrize(
    ("entry", "pointers"),
    [
        ({"parts": []}, []),
        ({"parts": [{"size": 1}], "spare": None, "pair": [1, "a"]}, []),
        ({}, ["#/parts"]),
        ([], ["#"]),
        ({"parts": {}}, ["#/parts"]),
        ({"parts": [{"size": 0}, {"size": 1}, {"size": "1"}]}, ["#/parts/0/size", "#/parts/2/size"]),
        ({"parts": [{"size": 1}] * 4}, ["#/parts"]),
        ({"parts": [{"size": 0}] * 4}, ["#/parts"]),  # what is too long is not looked into
        ({"parts": [{"size": 1}, {"size": 1, "low": 2}, {"size": 1}]}, ["#/parts/1/low"]),
        ({"parts": [{"size": 1, "low": 2}]}, ["#/parts/0/low"]),
        ({"parts": [], "spare": {"size": 1, "low": 2}}, ["#/spare/low"]),
        ({"parts": [], "spare": {"size": 1.5, "colour": "red"}}, ["#/spare/size", "#/spare/colour"]),
        ({"parts": [], "first_name": "a"}, ["#/first_name"]),
        ({"parts": [], "first/name": 1}, ["#/first~1name"]),
        ({"parts": [], "a~b": 1}, ["#/a~0b"]),
        ({"parts": [], "labels": {"a": "1"}}, ["#/labels"]),
        ({"parts": [], "pair": [1]}, ["#/pair"]),
        ({"parts": [], "as_sent": {"a": [1.5]}}, []),
        ({"parts": [{"size": 0}], "as_sent": "a"}, ["#/parts/0/size"]),
        ({"parts": [], "as_sent": "a", "spare": {"size": 0}}, ["#/spare/size"]),
        ({"parts": {}, "shelves": {"1": {"size": 1}}}, ["#/parts"]),
        ({"parts": [], "shelves": {"1": {"size": 1, "low": 2}}}, ["#/shelves"]),
        ({"parts": [], "within": [{"parts": []}, {"parts": [{"size": 1}, {}]}]}, ["#/within/1/parts/1/size"]),
    ],
)
def test_faults_are_named_where_they_are(entry: Any, pointers: list[str]) -> None:
    assert [fault["pointer"] for fault in faults(entry, Whole)] == pointers


def test_the_elements_of_a_tuple_are_not_all_held_against_its_first_type() -> None:
    assert [fault["pointer"] for fault in faults({"parts": [], "pair": [1, 2]}, Whole)] == ["#/pair"]


def test_no_more_faults_are_named_than_the_limit() -> None:
    entry = {"parts": [], "more": [{"size": 0}] * 1000}
    assert len(faults(entry, Whole)) == limits.MAX_FAULTS_NAMED
    assert [fault["pointer"] for fault in faults(entry, Whole, at_most=2)] == ["#/more/0/size", "#/more/1/size"]


def test_what_is_wrong_far_within_is_told_by_its_path() -> None:
    entry: dict[str, Any] = {"parts": [{"size": 0}]}
    for _ in range(limits.MAX_FAULT_DEPTH):
        entry = {"parts": [], "within": [entry]}
    (fault,) = faults(entry, Whole)
    assert fault["pointer"] == "#" + "/within/0" * (limits.MAX_FAULT_DEPTH // 2)
    assert fault["detail"].endswith("- at `$" + ".within[0]" * (limits.MAX_FAULT_DEPTH // 2) + ".parts[0].size`")


class Crate(msgspec.Struct):
    parts: Annotated[list[Part], msgspec.Meta(max_length=10_000)]


def calls(function: Callable[[], Any]) -> int:
    """How many functions were called, Python's and C's alike: what it costs, whatever the machine is doing."""
    count = 0

    def profile(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ([{"size": 1}] * 5_000 + [{"size": 0}], 1),
        ([{"size": 1}] * 10_001, 1),
        ([{"size": 1}, {"size": 0}] * 5_000, limits.MAX_FAULTS_NAMED),
        ([{"size": 1}] * 5_000 + [{"size": 1}, {"size": 0}] * 1_000, limits.MAX_FAULTS_NAMED),
    ],
    ids=["one of many", "too many", "every other", "every other of the last"],
)
def test_faults_are_named_at_a_cost_that_does_not_grow_with_what_is_good(parts: list[Any], named: int) -> None:
    plain = msgspec.convert({"parts": [{"size": 0}]}, dict[str, Any])
    entry = {"parts": parts}
    assert len(faults(entry, Crate)) == named
    of_one = calls(lambda: faults(plain, Crate))
    assert calls(lambda: faults(entry, Crate)) <= 2 * named * of_one + 3 * len(parts)  # Part's own check


def test_what_was_wrong_about_an_order_is_said_in_words() -> None:
    assert faults({**ORDER, "total": "79.81"}, Order) == [
        {"pointer": "#/total", "detail": "total is 79.81, but the lines come to 79.80"}
    ]


@given(almost_orders() | st.dictionaries(st.sampled_from([*ORDER, "x"]), st.integers() | st.text(max_size=3)))
def test_faults_are_found_exactly_where_the_decoder_refuses(entry: Any) -> None:
    text = json.dumps(entry, allow_nan=True)
    try:
        plain = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return  # not JSON, or a number that Python does not have
    try:
        msgspec.json.decode(text, type=Order)
        valid = True
    except msgspec.ValidationError:
        valid = False
    found = faults(plain, Order)
    assert valid == (not found)
    assert len({fault["pointer"] for fault in found}) == len(found)
