"""Effects are checked before anything is written: what one engine would take and another refuse, both refuse here."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoupled.core import limits
from decoupled.core.effects import encode
from decoupled.core.workload import Add, Delete, Effects, EffectsError, Emit, Message, Put, Update, Workload, Write

MESSAGE = Message("m-1", "orders", "{}", "ana", 1)


class Note(msgspec.Struct):
    text: str


WORKLOADS = {"notes": Workload("notes", Note, lambda entry, message: Effects({}))}


def refused(effects: Any, match: str = ".") -> None:
    with pytest.raises(EffectsError, match=match):
        encode(effects, MESSAGE, WORKLOADS)


def test_a_result_is_encoded_and_writes_pass_as_they_are() -> None:
    writes: list[Write] = [
        Put("orders/x", {"a": [1, Decimal("0.10"), None, True, {"b": "text"}]}),
        Add("orders/y", {"n": 1}),
    ]
    commit = encode(Effects({"total": Decimal("0.10"), "note": Note("hi")}, writes), MESSAGE, WORKLOADS)
    assert json.loads(commit.result) == {"total": "0.10", "note": {"text": "hi"}}
    assert commit.writes == writes


@pytest.mark.parametrize("effects", [None, {"result": {}}])
def test_what_is_not_effects_is_refused(effects: Any) -> None:
    refused(effects, "must")


@pytest.mark.parametrize("result", [[], "text", None])
def test_a_result_that_is_not_a_mapping_is_refused(result: Any) -> None:
    refused(Effects(result), "must")


def test_one_atomic_step_takes_a_hundred_items_with_the_record() -> None:
    writes = [Put(f"k/{n}", {}) for n in range(limits.MAX_ITEMS - 1)]
    encode(Effects({}, writes), MESSAGE, WORKLOADS)
    refused(Effects({}, [*writes, Put("k/one-more", {})]), "99 fit")


def test_two_writes_to_one_item_are_refused() -> None:
    refused(Effects({}, [Put("a/k", {}), Add("a/k", {"n": 1})]), "two writes")


@pytest.mark.parametrize("key", ["", "x" * 1025, "é" * 513])
def test_keys_have_their_bounds_in_bytes(key: str) -> None:
    refused(Effects({}, [Put(key, {})]), "a key has 1 to 1024 bytes")


@pytest.mark.parametrize(
    "value",
    [
        0.1,
        float("nan"),
        Decimal("NaN"),
        Decimal("Infinity"),
        10**38,
        10**5000,
        Decimal("1e126"),
        Decimal("1e-131"),
        Decimal("1." + "1" * 38),
    ],
    ids=lambda value: type(value).__name__,
)
def test_numbers_that_a_table_would_change_or_refuse_are_refused(value: Any) -> None:
    refused(Effects({}, [Put("a/k", {"deep": [{"n": value}]})]))
    for part in ({"amounts": {"n": value}}, {"lowest": {"n": value}}, {"highest": {"n": value}}):
        refused(Effects({}, [msgspec.structs.replace(Add("a/k", {}), **part)]))


@pytest.mark.parametrize("value", ["5", True, None, [1]])
def test_what_is_added_is_a_number(value: Any) -> None:
    refused(Effects({}, [Add("a/k", {"n": value})]), "is not a whole number or a Decimal")


@given(
    st.integers(-(10**38) + 1, 10**38 - 1)
    | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30, places=7)
)
def test_numbers_of_38_digits_pass(value: Any) -> None:
    encode(Effects({}, [Put("a/k", {"n": value}), Add("a/l", {"n": value})]), MESSAGE, WORKLOADS)


@pytest.mark.parametrize(
    "value", [b"bytes", datetime.date(2026, 11, 23), Note("hi"), {1, 2}, {1: "a"}, object(), "\ud800"]
)
def test_what_only_one_engine_could_store_is_refused(value: Any) -> None:
    refused(Effects({}, [Put("a/k", {"deep": [value]})]))


@pytest.mark.parametrize("write", [Put("k", {}), Add("k", {"n": 1}), Update("k", {"n": 1}), Delete("k")])
def test_no_write_can_reach_a_record_whose_id_has_no_slash(write: Write) -> None:
    refused(Effects({}, [write]), "has no slash")


@pytest.mark.parametrize(
    ("write", "match"),
    [
        (Delete("a/k", if_present="x", if_absent="y"), "is to be there and not to be there"),
        (Put("a/k", {}, equal={"n": 0.5}), "not a whole number or a Decimal"),
        (Put("a/k", {}, equal={"n": [1]}), "compared with text, a number or a boolean only"),
        (Put("a/k", {}, equal={"n": None}), "compared with text, a number or a boolean only"),
        (Put("a/k", {}, equal={"pk": 1}), "cannot have the name 'pk'"),
        (Put("a/k", {}, absent=["pk"]), "cannot have the name 'pk'"),
        (Put("a/k", {}, equal={"n": 1}, absent=["n"]), "to have a value and not to be there"),
        (Put("a/k", {}, absent="paid_at"), "'paid_at' of 'a/k' is one name: make it a list"),
        (Update("a/k", {"n": 1}, remove="note"), "is one name"),
        (Update("a/k", {"n": 1}, remove=[1]), "names are text"),  # type: ignore[list-item]
        (Put("a/k", {"pk_collection": 1}), "cannot have the name 'pk_collection'"),
        (Add("a/k", {"pk": 1}), "cannot have the name 'pk'"),
        (Update("a/k", {"pk": 1}), "cannot have the name 'pk'"),
        (Update("a/k", {"n": 1}, remove=[""]), "cannot have the name ''"),
        (Update("a/k", {"n": 1}, remove=["n"]), "both set and removed"),
        (Update("a/k", {"n": 0.1}), "not a whole number or a Decimal"),
        (Update("a/k", {"n": "x" * limits.MAX_ITEM_BYTES}), "is over 400000 bytes"),
        (Update("a/k", remove=["n"]), "may not be there to remove from"),
    ],
)
def test_a_write_that_no_engine_could_apply_says_what_is_wrong_with_it(write: Write, match: str) -> None:
    refused(Effects({}, [write]), match)


def test_an_update_or_an_addition_of_nothing_only_asks() -> None:
    writes: list[Write] = [
        Update("a/k", if_absent="taken"),
        Update("a/l", remove=["n"], equal={"m": 1}),
        Add("a/m", {}),
    ]
    assert encode(Effects({}, writes), MESSAGE, WORKLOADS).writes == writes


def test_bounds_belong_to_amounts() -> None:
    refused(Effects({}, [Add("a/k", {"n": 1}, floor={"m": 0})]), "bounds on")
    refused(Effects({}, [Add("a/k", {"n": 1}, ceiling={"m": 0})]), "bounds on")


def test_one_number_takes_one_operation() -> None:
    refused(Effects({}, [Add("a/k", {"n": 1}, lowest={"n": 1})]), "both")
    refused(Effects({}, [Add("a/k", {}, lowest={"n": 1}, highest={"n": 1})]), "both")


def test_an_item_over_its_limit_is_refused() -> None:
    refused(Effects({}, [Put("a/k", {"text": "x" * limits.MAX_ITEM_BYTES})]), "over 400000 bytes")


def test_the_size_of_a_record_counts_bytes_and_what_it_emits() -> None:
    emits = [Emit("notes", Note("é" * 60_000))] * 3
    encode(Effects({}, emits=emits), MESSAGE, WORKLOADS)
    refused(Effects({}, emits=[*emits, emits[0]]), "a record takes")
    refused(Effects({"text": "é" * 200_001}), "a record takes")


def test_emitted_messages_have_the_same_ids_at_every_redelivery_and_their_own() -> None:
    effects = Effects({}, emits=[Emit("notes", Note("a")), Emit("notes", {"text": "b"})])
    first, again = (encode(effects, MESSAGE, WORKLOADS).emits for _ in range(2))
    assert first == again
    assert len({message.id for message in first}) == 2
    assert [(m.workload, m.body, m.caller, m.accepted_at) for m in first] == [
        ("notes", '{"text":"a"}', "ana", 1),
        ("notes", '{"text":"b"}', "ana", 1),
    ]


def test_characters_that_sqs_refuses_are_escaped_in_what_is_emitted() -> None:
    (emitted,) = encode(Effects({}, emits=[Emit("notes", Note("a\uffff\ufffe\x00b"))]), MESSAGE, WORKLOADS).emits
    assert emitted.body.isascii()
    assert json.loads(emitted.body) == {"text": "a\uffff\ufffe\x00b"}


def test_what_is_emitted_later_says_how_much_later() -> None:
    emits = [
        Emit("notes", Note("a")),
        Emit("notes", Note("b"), delay_s=0.5),
        Emit("notes", Note("c"), limits.MAX_LATER_S),
    ]
    commit = encode(Effects({}, emits=emits), MESSAGE, WORKLOADS)
    assert commit.later == {1: 0.5, 2: limits.MAX_LATER_S}
    assert len(commit.emits) == 3


@pytest.mark.parametrize(
    ("emit", "match"),
    [
        (Emit("notes", Note("a"), -1), "in -1 s; 0 to 31622400 may be"),
        (Emit("notes", Note("a"), limits.MAX_LATER_S + 1), "may be"),
        (Emit("notes", Note("a"), float("nan")), "may be"),
        (Emit("notes", Note("a"), "5"), "in '5' s"),  # type: ignore[arg-type]
        (Emit("notes", Note("x" * limits.MAX_LATER_ENTRY_BYTES), limits.MAX_DELAY_S + 1), "due after 900 s"),
        (Emit("parcels", Note("a")), "not served here"),
        (Emit("notes", {"text": 1}), "would refuse"),
        (Emit("notes", Note("x" * limits.MAX_ENTRY_BYTES)), "is the limit"),
        (Emit("notes", object()), "not plain data"),
    ],
)
def test_what_another_workload_would_refuse_is_not_emitted(emit: Emit, match: str) -> None:
    refused(Effects({}, emits=[emit]), match)


def test_too_many_emits_are_refused() -> None:
    refused(Effects({}, emits=[Emit("notes", Note(""))] * (limits.MAX_EMITS + 1)), "100 is the limit")


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACED = msgspec.structs.replace(MESSAGE, trace=TRACE)


def test_what_is_emitted_is_part_of_the_same_trace() -> None:
    commit = encode(Effects({}, emits=[Emit("notes", Note("a")), Emit("notes", Note("b"))]), TRACED, WORKLOADS)
    assert [emitted.trace for emitted in commit.emits] == [TRACE, TRACE]


def test_where_a_record_has_no_room_for_a_trace_that_ends_and_no_message() -> None:
    half = (limits.MAX_ITEM_BYTES - 40) // 2
    commit = encode(Effects({}, emits=[Emit("notes", Note("x" * half))] * 2), TRACED, WORKLOADS)
    assert [emitted.trace for emitted in commit.emits] == ["", ""]
