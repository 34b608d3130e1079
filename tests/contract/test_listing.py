"""What every engine promises of collections that are listed: their items by the keys that begin alike, in order, a page
at a time. On each engine; a moment may pass until one that was written is there."""

from __future__ import annotations

import pytest

from decoupled.core import limits
from decoupled.core.outcomes import Commit
from decoupled.core.workload import Add, Delete, Put, Update, Write
from tests.support.contract import NOW, commit_one, message
from tests.support.engines import Engine

THINGS = "shop/things/"


def write(engine: Engine, *writes: Write) -> None:
    engine.table.commit([(message(), Commit("{}", [each])) for each in writes], NOW)


def keys(engine: Engine, prefix: str = "", after: str = "", limit: int = 100) -> tuple[list[str], bool]:
    page = engine.table.page(THINGS + prefix, THINGS + after if after else "", limit)
    return [key.removeprefix(THINGS) for key, _ in page.items], page.more


def test_a_collection_is_listed_in_the_order_of_its_keys_and_nothing_else_is(engine: Engine) -> None:
    names = ["b", "a", "B", "a.1", "a1", "z\u00fc", "\U0001f6d2", "\uffee", "10", "9"]
    write(engine, *[Put(f"{THINGS}{name}", {"name": name}) for name in names])
    write(engine, Put("shop/thingsx/a", {}), Put("shop/thing/a", {}), Put("shop/things", {}), Put("shop/other/a", {}))
    assert keys(engine) == (sorted(names), False)
    assert dict(engine.table.page(THINGS, "", 100).items)[f"{THINGS}b"] == {"name": "b"}


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("a", ["a", "a1", "ab", "ab\U0010ffff", "ab\U0010ffffx"]),
        ("ab", ["ab", "ab\U0010ffff", "ab\U0010ffffx"]),
        ("ab\U0010ffff", ["ab\U0010ffff", "ab\U0010ffffx"]),
        ("\ud7ff", ["\ud7ff1"]),
        ("b", ["b"]),
        ("c", []),
        ("%", []),
        ("_", []),
    ],
)
def test_a_prefix_is_taken_as_it_is(engine: Engine, prefix: str, found: list[str]) -> None:
    names = ["a", "a1", "ab", "ab\U0010ffff", "ab\U0010ffffx", "b", "\ud7ff1", "\ue000"]
    write(engine, *[Put(f"{THINGS}{name}", {}) for name in names])
    assert keys(engine, prefix) == (found, False)


def test_pages_follow_each_other_and_miss_nothing(engine: Engine) -> None:
    names = [f"k{number:02}" for number in range(25)]
    write(engine, *[Add(f"{THINGS}{name}", {"n": 1}) for name in [*names, "l"]])
    seen: list[str] = []
    for _ in range(5):
        page, more = keys(engine, "k", seen[-1] if seen else "", limit=10)
        seen += page
        if not more:
            break
    assert seen == names
    write(engine, Delete(f"{THINGS}k10"))  # the key that a page ended with may be gone meanwhile
    assert keys(engine, "k", "k10", limit=2) == (["k11", "k12"], True)


def test_an_item_is_listed_however_it_was_written_and_shows_only_what_its_workload_wrote(engine: Engine) -> None:
    write(engine, Put(f"{THINGS}put", {"n": 1}), Add(f"{THINGS}add", {"n": 1}), Update(f"{THINGS}update", {"n": 1}))
    write(engine, Add(f"{THINGS}lowest", {}, lowest={"n": 1}), Add(f"{THINGS}nothing", {}), Update(f"{THINGS}asked"))
    page = engine.table.page(THINGS, "", 10)
    written = [f"{THINGS}{name}" for name in ("add", "lowest", "put", "update")]
    assert page.items == [(key, {"n": 1}) for key in written]
    assert [engine.table.item(key) for key in written] == [{"n": 1}] * 4
    assert [engine.table.item(key, "iam:1:AROA") for key in written] == [{"n": 1}] * 4
    write(engine, Update(f"{THINGS}put", {"m": 2}, remove=["n"]), Delete(f"{THINGS}add"))
    assert engine.table.page(THINGS, "", 10).items[1:] == [(f"{THINGS}put", {"m": 2}), (f"{THINGS}update", {"n": 1})]


def test_a_page_of_large_items_has_fewer(engine: Engine) -> None:
    large = "x" * 390_000
    for number in range(5):
        commit_one(engine, message(), Commit("{}", [Put(f"{THINGS}{number}", {"text": large})]))
    seen, more, pages = keys(engine)[0], True, 1
    assert 1 <= len(seen) <= 1 + limits.MAX_LISTED_BYTES // len(large)
    while more and pages < 6:
        found, more = keys(engine, after=seen[-1])
        seen, pages = seen + found, pages + 1
    assert seen == ["0", "1", "2", "3", "4"]
