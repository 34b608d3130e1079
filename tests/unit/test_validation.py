"""Faults are named by pointer, and named truly: none where there is none, and always at least one where the decoder
refuses."""

from __future__ import annotations

import json
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
    parts: Annotated[list[Part], msgspec.Meta(max_length=2)]
    first_name: str = ""
    pair: tuple[int, str] = (0, "")
    spare: Part | None = None
    labels: dict[str, int] = {}
    as_sent: msgspec.Raw = msgspec.Raw(b"null")


@pytest.mark.parametrize(
    ("entry", "pointers"),
    [
        ({"parts": []}, []),
        ({"parts": [{"size": 1}], "spare": None, "pair": [1, "a"]}, []),
        ({}, ["#/parts"]),
        ([], ["#"]),
        ({"parts": {}}, ["#/parts"]),
        ({"parts": [{"size": 0}, {"size": 1}, {"size": "1"}]}, ["#/parts/0/size", "#/parts/2/size"]),
        ({"parts": [{"size": 1}] * 3}, ["#/parts"]),
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
    ],
)
def test_faults_are_named_where_they_are(entry: Any, pointers: list[str]) -> None:
    assert [fault["pointer"] for fault in faults(entry, Whole)] == pointers


def test_the_elements_of_a_tuple_are_not_all_held_against_its_first_type() -> None:
    assert [fault["pointer"] for fault in faults({"parts": [], "pair": [1, 2]}, Whole)] == ["#/pair"]


def test_no_more_faults_are_named_than_the_limit() -> None:
    entry = {"parts": [{"size": 0}] * 1000}
    assert len(faults(entry, Whole)) == limits.MAX_FAULTS_NAMED


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
