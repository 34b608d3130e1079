"""What a worker's reply carries: every write that the checks of effects let through arrives as it was, numbers exactly,
and as plain data; what nobody could read costs its own message only."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoupled.core import limits
from decoupled.core.effects import encode
from decoupled.core.outcomes import Commit, Decision, Failure, Reject
from decoupled.core.workload import Add, Delete, Effects, Message, Put, Update, Write
from decoupled.server.workers.protocol import pack_reply, unpack_reply

MESSAGE = Message("m", "sums", "{}", "", 0)

digits = st.integers(-(10**limits.MAX_NUMBER_DIGITS) + 1, 10**limits.MAX_NUMBER_DIGITS - 1)
decimals = st.builds(lambda number, exponent: Decimal(number).scaleb(exponent), digits, st.integers(-80, 80))
numbers = (
    digits
    | decimals
    | st.sampled_from([2**63, -(2**64), Decimal("1E+125"), Decimal("1E-130"), Decimal("2.50"), Decimal(7)])
)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
reserved = ("", limits.KEY_ATTRIBUTE, limits.COLLECTION_ATTRIBUTE, limits.OWNER_ATTRIBUTE)
names = text.filter(lambda name: name not in reserved)
plain = st.recursive(
    st.none() | st.booleans() | text | numbers,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
items = st.dictionaries(names, plain, max_size=4)
conditions: dict[str, Any] = {
    "equal": st.dictionaries(st.sampled_from("abc"), text | st.booleans() | numbers, max_size=2),
    "absent": st.lists(st.sampled_from("xyz"), max_size=2),
    "otherwise": text,
    "if_present": st.none() | text,
}
amounts = st.dictionaries(st.sampled_from("nmk"), numbers, min_size=1)
writes = st.one_of(
    st.builds(Put, st.just("a/put"), items, **conditions),
    st.builds(Add, st.just("a/add"), amounts, lowest=st.dictionaries(st.just("low"), numbers), **conditions),
    st.builds(Update, st.just("a/update"), items, **conditions),
    st.builds(Delete, st.just("a/delete"), **conditions),
)


def over_the_socket(*decisions: Decision) -> list[Decision]:
    return unpack_reply(pack_reply(decisions))[0]


@given(st.lists(writes, max_size=4, unique_by=lambda write: write.key))
def test_writes_arrive_as_they_were(sent: list[Write]) -> None:
    commit = encode(Effects({"n": 1}, sent), MESSAGE, {})
    reject = Reject("no")
    assert over_the_socket(reject, commit, reject) == [reject, commit, reject]


def test_a_number_arrives_digit_by_digit() -> None:
    amount = Decimal("12345678901234567890.1234567890")
    (commit,) = over_the_socket(Commit("{}", [Put("a/b", {"list": [{"amount": amount}], "big": 2**100})]))
    (put,) = cast("Commit", commit).writes
    assert isinstance(put, Put)
    assert str(put.item["list"][0]["amount"]) == str(amount)
    assert put.item["big"] == 2**100


class Colour(enum.StrEnum):
    RED = "red"


class Own(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class OwnNumber(int):
    pass


def test_values_of_the_workload_s_own_classes_arrive_as_plain_data() -> None:
    amounts: Mapping[str, int] = MappingProxyType({"n": OwnNumber(3)})
    sent: list[Write] = [
        Put("a/b", {"colour": Colour.RED}, equal={"name": Own("ana")}, absent=cast("Any", {"gone"})),
        Add("a/c", amounts),
    ]
    (commit,) = over_the_socket(encode(Effects({}, sent), MESSAGE, {}))
    put, add = cast("Commit", commit).writes
    assert isinstance(put, Put)
    assert isinstance(add, Add)
    assert (put.item, put.equal, put.absent) == ({"colour": "red"}, {"name": "ana"}, ["gone"])
    assert [type(value) for value in (*put.item.values(), *put.equal.values(), *add.amounts.values())] == [
        str,
        str,
        int,
    ]


@pytest.mark.parametrize("otherwise", [5, "\ud800", object()])
def test_writes_that_nobody_could_read_are_their_own_message_s_failure(otherwise: Any) -> None:
    good = Commit("{}", [Put("a/b", {"n": 1})])
    before, failed, after = over_the_socket(good, Commit("{}", [Put("a/c", {}, otherwise=otherwise)]), good)
    assert (before, after) == (good, good)
    assert isinstance(failed, Failure)
    assert (failed.kind, failed.error_type) == ("failed", "EffectsError")
