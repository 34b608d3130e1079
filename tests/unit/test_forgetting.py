"""What is searched for of what is erased, and what a record says that was."""

from __future__ import annotations

from decoupled.core.forgetting import FORGOTTEN, NEEDLES, NOTHING, Report, Sought, is_forgotten, needles, unfinished
from decoupled.core.identifiers import derived_id, new_id
from decoupled.core.outcomes import Record


def record(**fields: str) -> Record:
    return Record(**{"id": "a", "workload": "orders", "status": "processed", "accepted_at": 1, **fields})  # type: ignore[arg-type]


def test_the_longest_text_that_stands_in_json_as_it_is_is_searched_for() -> None:
    assert list(needles(['{"a": ["short", {"b": "Anastasia Forgetmenot"}], "c": 1234567890123}'])) == [
        "Anastasia Forgetmenot"
    ]
    assert list(needles(['{"escaped": "a \\"quoted\\" and long one", "plain": "plain and long"}'])) == [
        "plain and long"
    ]
    assert list(needles(['{"a": "short"}', "", "no JSON, but long enough"])) == ["no JSON, but long enough"]


def test_of_json_that_is_cut_off_and_of_what_is_none_the_same() -> None:
    cut = '{"a": "short", "b": {"c": "Anastasia Forgetmenot", "d": "an \\"escaped\\" one that is long", "e": "cut o'
    assert list(needles([cut, "+353871234567", "353871234567", "shop/carts/ana@example.org"])) == [
        "Anastasia Forgetmenot",
        "+353871234567",
        "353871234567",
        "shop/carts/ana@example.org",
    ]


def test_of_many_texts_some_of_each_kind_are_searched_for_the_first_as_well_as_the_last() -> None:
    sought = Sought()
    for part in range(0, 10_000, 100):
        sought.keep((f"of a body {n:012}" for n in range(part, part + 100)), "bodies")
        sought.keep((f"of a group {n:012}" for n in range(part, part + 100)), "groups")
    sought.keep(["of the one edit"], "edits")
    texts = sought.texts("ana")
    assert len(texts) == NEEDLES - 1  # a name of three bytes stands everywhere
    assert "of the one edit" in texts
    for kind in ("body", "group"):
        numbers = [int(text[-12:]) for text in texts if kind in text]
        assert len(numbers) >= 15
        assert min(numbers) < 2_000
        assert max(numbers) > 6_000
    assert sought.texts("anastasia")[-1] == "anastasia"


def test_ids_of_messages_stay_and_are_not_searched_for() -> None:
    assert list(needles([f'{{"return": "{new_id(1, 2, "ab" * 9)}", "of": "{derived_id("a")}"}}'])) == []


def test_of_what_is_long_the_middle_is_searched_for() -> None:
    (said,) = needles([f'"{"x" * 100}the middle{"y" * 100}"'])
    assert "the middle" in said
    assert len(said) < 60


def test_of_what_has_no_long_text_in_it_the_longest_is_searched_for_as_it_stands() -> None:
    sought = Sought()
    sought.keep(['{"n":1}', '{"account":17171717,"amount":3}', '{"amount":17171717}'])
    assert sought.texts(None) == ['{"account":17171717,"amount":3}']
    sought.keep(['{"of":"Anastasia Forgetmenot"}'])
    assert sought.texts("key:ana") == ["Anastasia Forgetmenot", "key:ana"]
    assert Sought().texts("ana") == []  # too short a name, which stands everywhere by chance


def test_of_many_texts_some_of_all_are_searched_for() -> None:
    sought = Sought()
    sought.keep(f'{{"of":"customer number {number:04}"}}' for number in range(1000))
    numbers = [int(text[-4:]) for text in sought.texts("key:ana")[:-1]]
    assert len(numbers) == NEEDLES - 1
    assert numbers[-1] > 500


def test_only_nobodys_record_with_nothing_in_it_is_forgotten() -> None:
    assert is_forgotten(record(result=NOTHING))
    assert is_forgotten(record(status="rejected", reason=FORGOTTEN))
    assert not is_forgotten(record(result=NOTHING, caller="ana"))
    assert not is_forgotten(record(status="rejected", reason=FORGOTTEN, caller="ana"))
    assert not is_forgotten(record(result="{}"))


def test_unfinished_messages_are_named_and_those_that_are_not_are_counted() -> None:
    said = unfinished(Report(of="caller 'ana'", unfinished=1_003, ids=["a", "b", "c"]))
    assert "1,003 messages of caller 'ana' are not finished: a, b, c and 1,000 more." in said
