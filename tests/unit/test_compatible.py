"""What a newer release says of entries that an older one accepted, held to msgspec itself: wherever no difference is
told, each of a few hundred JSON texts that the older type takes is taken by the newer, too."""

from __future__ import annotations

import enum
import itertools
from datetime import date, datetime, timedelta
from decimal import Decimal
from types import GenericAlias
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import msgspec
import pytest
from msgspec import Meta, Struct

from decoupled import Effects, Message, Workload
from decoupled.pipeline.compatible import Difference, differences
from decoupled.pipeline.schemas import described


def process(entry: Any, message: Message) -> Effects:
    return Effects({})


def told(older: Any, newer: Any, **options: Any) -> list[Difference]:
    """As kept with a release, so that it has been JSON in between."""
    before, after = ({"w": Workload("w", it, process, **given)} for it, given in ((older, {}), (newer, options)))
    kept = msgspec.json.decode(msgspec.json.encode(described(before)))
    return differences(kept, msgspec.json.decode(msgspec.json.encode(described(after))))


def holding(of: Any, closed: bool = True, required: bool = True, **more: Any) -> Any:
    """A Struct with one field `a` of a type."""
    field = ("a", of) if required else ("a", of, msgspec.field(default=None))
    return msgspec.defstruct("Entry", [field, *more.items()], forbid_unknown_fields=closed)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.Enum):
    SMALL = 1
    LARGE = 2


class One(Struct, tag="one", forbid_unknown_fields=True):
    x: int


class Two(Struct, tag="two", forbid_unknown_fields=True):
    y: str = ""


class Place(Struct, array_like=True, forbid_unknown_fields=True):
    x: int
    y: int = 0


class Places(Struct, array_like=True):
    x: int
    y: int = 0


class Pair(NamedTuple):
    x: int
    y: int


class Tree(Struct, forbid_unknown_fields=True):
    a: int
    inner: list[Tree] = []


class Bush(Struct, forbid_unknown_fields=True):
    a: Annotated[int, Meta(ge=0)]
    inner: list[Bush] = []


TYPES: list[Any] = [
    Any,
    None,
    bool,
    int,
    float,
    str,
    bytes,
    Decimal,
    datetime,
    Annotated[datetime, Meta(tz=True)],
    Annotated[datetime, Meta(tz=False)],
    date,
    timedelta,
    UUID,
    Annotated[int, Meta(ge=0)],
    Annotated[int, Meta(gt=0, le=10)],
    Annotated[int, Meta(ge=0, lt=100)],
    Annotated[float, Meta(ge=0)],
    Annotated[int, Meta(multiple_of=2)],
    Annotated[int, Meta(multiple_of=4)],
    Annotated[str, Meta(min_length=1)],
    Annotated[str, Meta(max_length=3)],
    Annotated[str, Meta(min_length=2, max_length=40)],
    Annotated[str, Meta(pattern="^r")],
    Colour,
    Size,
    Literal["red"],
    Literal["red", "blue", "green"],
    Literal["red", 1],
    Literal[1, 2, 3],
    int | None,
    str | None,
    int | str,
    int | float,
    Annotated[int, Meta(ge=0)] | float,
    int | str | None,
    Decimal | None,
    list[int],
    list[Any],
    list[float],
    Annotated[list[int], Meta(min_length=2)],
    Annotated[list[int], Meta(max_length=2)],
    set[int],
    Annotated[set[int], Meta(min_length=2)],
    tuple[int, ...],
    tuple[int, int],
    tuple[int, str],
    dict[str, int],
    dict[str, Any],
    dict[Literal["a", "b"], int],
    Annotated[dict[str, int], Meta(min_length=1)],
    One,
    Two,
    One | Two,
    One | Two | None,
    Place,
    Places,
    Pair,
    Tree,
    Bush,
    holding(int),
    holding(int, closed=False),
    holding(int, required=False),
    holding(int | None, required=False),
    holding(str),
    holding(int, b=int),
]

_SCALARS = [
    "null",
    "true",
    "false",
    "0",
    "1",
    "2",
    "3",
    "4",
    "6",
    "8",
    "-1",
    "-2",
    "10",
    "11",
    "99",
    "100",
    "12345678901234567890123",
    "0.5",
    "-0.5",
    "1.0",
    "1e300",
    '""',
    '"r"',
    '"red"',
    '"blue"',
    '"green"',
    '"x"',
    '"xx"',
    '"1"',
    '"1.5"',
    '"a"',
    '"b"',
    '"abcd"',
    '"YWJj"',
    '"2026-11-30"',
    '"2026-11-30T00:00:00"',
    '"2026-11-30T00:00:00Z"',
    '"PT1S"',
    '"123e4567-e89b-12d3-a456-426614174000"',
]
_OBJECTS = [
    *(f'{{"a": 1, "inner": [{inner}]}}' for inner in ('{"a": 1}', '{"a": -1}', '{"a": 1, "inner": [{"a": -1}]}')),
    *('{"type": "one", "x": 1}', '{"x": 1}', '{"type": "two"}', '{"type": "two", "y": "s"}', '{"y": "s"}'),
    *('{"type": "one", "x": 1, "z": 2}', '{"a": 1, "b": 2}', '{"a": 1, "b": "s"}', '{"c": 3}', "{}"),
]
TEXTS = [
    *_SCALARS,
    *(
        f"[{', '.join(each)}]"
        for size in range(4)
        for each in itertools.product(("1", "-1", "0.5", '"a"'), repeat=size)
    ),
    *(f'{{"a": {value}}}' for value in _SCALARS),
    *_OBJECTS,
]


def taken(of: Any) -> list[str]:
    decoder = msgspec.json.Decoder(of)

    def takes(text: str) -> bool:
        try:
            decoder.decode(text)
        except msgspec.MsgspecError:
            return False
        return True

    return [text for text in TEXTS if takes(text)]


@pytest.mark.parametrize("older", TYPES, ids=str)
def test_where_no_difference_is_told_there_is_none(older: Any) -> None:
    texts = set(taken(older))
    for newer in TYPES:
        told_of = told(holding(older), holding(newer))
        missing = texts - set(taken(newer))
        if missing:
            assert told_of, f"{older} → {newer}: {sorted(missing)[:3]}"


def test_enough_is_tried() -> None:
    assert all(taken(of) for of in TYPES)
    assert all(len(taken(of)) < len(TEXTS) for of in TYPES if of is not Any)


@pytest.mark.parametrize("same", TYPES, ids=str)
def test_what_is_as_it_was_is_no_difference(same: Any) -> None:
    assert told(holding(same), holding(same)) == []


WIDER: list[tuple[Any, Any]] = [
    (int, int | None),
    (int, int | str),
    (Annotated[int, Meta(gt=0, le=10)], Annotated[int, Meta(ge=0, lt=100)]),
    (Annotated[int, Meta(ge=0, lt=100)], float),
    (Annotated[int, Meta(multiple_of=4)], Annotated[int, Meta(multiple_of=2)]),
    (Annotated[str, Meta(max_length=3)], str),
    (Literal["red"], Literal["red", "blue", "green"]),
    (Colour, str),
    (list[int], list[Any]),
    (tuple[int, int], list[int]),
    (One | Two, One | Two | None),
    (datetime, str),
    (float, Decimal),
    (holding(int), holding(int | None)),
    (holding(int), holding(int, required=False)),
    (holding(int), holding(int, closed=False)),
    (dict[str, int], dict[str, Any]),
    (Bush, Tree),
]


@pytest.mark.parametrize(("older", "newer"), WIDER, ids=str)
def test_a_wider_type_is_no_difference(older: Any, newer: Any) -> None:
    assert told(holding(older), holding(newer)) == []


CHANGES: list[tuple[Any, Any, str, str]] = [
    (holding(int), msgspec.defstruct("E", [("b", int)], forbid_unknown_fields=True), "/a", "not known any more"),
    (holding(int), holding(int, b=int), "/b", "required now"),
    (holding(int), holding(str), "/a", "Expected `str`, and it may be `int`"),
    (holding(str | None), holding(str), "/a", "may be `null`"),
    (holding(GenericAlias(list, holding(int))), holding(GenericAlias(list, holding(str))), "/a/*/a", "Expected `str`"),
    (holding(Literal["a", "b"]), holding(Literal["a"]), "/a", "'b' is not among the values any more"),
    (holding(int), holding(Annotated[int, Meta(le=9)]), "/a", "le is 9 now"),
    (holding(int, closed=False), holding(int), "", "refused now"),
    (One | Two, One, "", "told by ['type', 'two'] are not known any more"),
    (One, One | Two, "/type", "required now"),
]


@pytest.mark.parametrize(("older", "newer", "pointer", "detail"), CHANGES)
def test_a_difference_is_told_with_its_place(older: Any, newer: Any, pointer: str, detail: str) -> None:
    found = told(older, newer)
    assert [it.pointer for it in found if detail in it.detail] == [pointer], found
    assert all(it.breaks for it in found)
    assert {it.workload for it in found} == {"w"}


def test_a_workload_that_is_gone_is_a_difference() -> None:
    kept = described({"w": Workload("w", One, process)})
    assert [(it.workload, it.detail) for it in differences(kept, {})] == [("w", "it is not served any more")]
    assert differences({}, kept) == []


def test_order_keys_and_groups_are_compared() -> None:
    (order,) = told(One, One, ordered=True)
    assert "it is ordered now" in order.detail
    assert not order.breaks
    (key,) = told(One, One, natural_key=lambda one: str(one.x))
    assert "natural_key" in key.detail
    assert key.breaks
    (group,) = told(One, One, group=lambda one: str(one.x))
    assert not group.breaks
    same = [described({"w": Workload("w", One, process, natural_key=lambda one: str(one.x))}) for _ in range(2)]
    assert differences(*same) == []


def test_checks_of_a_schema_s_own_that_are_others_are_told_and_break_nothing_for_certain() -> None:
    def entry(check: Any) -> Any:
        return msgspec.defstruct("E", [("a", int)], forbid_unknown_fields=True, namespace={"__post_init__": check})

    (found,) = told(entry(lambda self: None), entry(lambda self: self.a or None))
    assert "__post_init__" in found.detail
    assert not found.breaks
