"""What GET tells, for every state that a message can be in, and what it keeps to itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec
import pytest

from decoupled.core.outcomes import Record
from decoupled.core.problem import Problem
from decoupled.core.signed_ids import IdKey, IdKeys
from decoupled.core.workload import Effects, Message, Unavailable, Workload
from decoupled.pipeline.call import Call, EventResponse
from decoupled.pipeline.status import read
from tests.support.events import get, http_event, iam, jwt, read_event
from tests.support.model_engine import ManualClock, ModelTable


class Entry(msgspec.Struct):
    pass


WORKLOADS = {
    "orders": Workload("orders", Entry, lambda entry, message: Effects({})),
    "inside": Workload("inside", Entry, lambda entry, message: Effects({}), internal=True),
    "accounts": Workload(
        "accounts", Entry, lambda entry, message: Effects({}), readable=("balances", "notes"), listed=("balances",)
    ),
    "tills": Workload(
        "tills",
        Entry,
        lambda entry, message: Effects({}),
        readable=("sums", "notes"),
        listed=("sums", "notes"),
        public=("sums",),
    ),
}
ACCEPTED, FINISHED = 1_795_000_000_123, 1_795_000_001_456


def ask(table: ModelTable, event: dict[str, Any]) -> tuple[EventResponse, Any]:
    response = read_event(event, table, WORKLOADS)
    return response, json.loads(response["body"])


def table_with(**fields: Any) -> ModelTable:
    table = ModelTable()
    record = msgspec.structs.replace(Record("m-1", "orders", "queued", ACCEPTED), **fields)
    table.records[record.id] = record
    return table


def test_a_processed_message_shows_its_result_and_its_times() -> None:
    table = table_with(
        status="processed",
        result='{"total": "79.80", "exact": 1.00}',
        finished_at=FINISHED,
        caller="iam:1:A",
        attempts=2,
        error="secret",
    )
    response, answer = ask(table, get("orders", "m-1"))
    assert response["statusCode"] == 200
    assert answer == {
        "id": "m-1",
        "workload": "orders",
        "status": "processed",
        "accepted_at": "2026-11-18T11:06:40.123Z",
        "result": {"total": "79.80", "exact": 1},
        "processed_at": "2026-11-18T11:06:41.456Z",
    }
    assert '"result":{"total": "79.80", "exact": 1.00},' in response["body"]  # as it is stored


def test_a_rejected_message_shows_why() -> None:
    _, answer = ask(
        table_with(status="rejected", reason="the name is taken", finished_at=FINISHED), get("orders", "m-1")
    )
    assert (answer["status"], answer["reason"]) == ("rejected", "the name is taken")
    assert answer["rejected_at"] == "2026-11-18T11:06:41.456Z"


def test_a_dead_message_tells_its_attempts_and_neither_its_body_nor_our_errors() -> None:
    table = table_with(
        status="dead", attempts=5, error_type="KeyError", error="/srv/secret.py", body="{}", finished_at=FINISHED
    )
    _, answer = ask(table, get("orders", "m-1"))
    assert (answer["status"], answer["attempts"]) == ("dead", 5)
    assert not {"body", "error", "error_type", "caller"} & answer.keys()


def test_a_queued_message_says_when_to_ask_again() -> None:
    response, answer = ask(table_with(attempts=1, finished_at=FINISHED), get("orders", "m-1"))
    assert (answer["status"], answer["attempts"], response["headers"]["retry-after"]) == ("queued", 1, "1")
    assert "queued_at" not in answer


def test_a_message_that_is_due_later_says_when() -> None:
    response, answer = ask(table_with(due_at=FINISHED), get("orders", "m-1"))
    assert (answer["status"], answer["due_at"]) == ("queued", "2026-11-18T11:06:41.456Z")
    assert "retry-after" not in response["headers"]
    _, answer = ask(table_with(status="processed", result="{}", due_at=FINISHED), get("orders", "m-1"))
    assert "due_at" not in answer


@pytest.mark.parametrize(
    "event",
    [
        get("orders", "m-2"),
        get("accounts", "m-1"),  # another workload's message is not to be seen here
        get("parcels", "m-1"),
        get("ord\udcffers", "m-1"),
        get("orders", "m" * 65),
        get("orders", "m\udcff"),
        get("orders", "m-1\n"),
        get("orders", "../m-1"),
        http_event("GET", "/", None),
        {"pathParameters": None},
    ],
)
def test_what_is_not_there_is_404_and_asks_no_table_for_nonsense(event: dict[str, Any]) -> None:
    response, problem = ask(table_with(), event)
    assert (response["statusCode"], problem["status"]) == (404, 404)


def test_nothing_of_an_internal_workload_is_shown() -> None:
    response, problem = ask(table_with(workload="inside"), get("inside", "m-1"))
    assert (response["statusCode"], problem["detail"]) == (404, "There is no workload 'inside' here.")


class ItemTable(ModelTable):
    """Refuses keys that DynamoDB refuses."""

    def item(self, key: str, owner: str | None = None) -> Mapping[str, Any] | None:
        assert len(key.encode()) <= 1024
        return super().item(key, owner)


def item_event(workload: str, collection: str, key: str) -> dict[str, Any]:
    return http_event("GET", "/x", {"workload": workload, "collection": collection, "key": key})


def test_a_readable_item_is_shown_with_its_numbers_digit_by_digit() -> None:
    table = ItemTable()
    table.items["accounts/balances/ana"] = {"balance": Decimal("0.10"), "big": 10**30, "currency": "EUR"}
    response, _ = ask(table, item_event("accounts", "balances", "ana"))
    assert response["statusCode"] == 200
    assert response["body"] == '{"balance":0.10,"big":1000000000000000000000000000000,"currency":"EUR"}'


def test_items_that_a_workload_does_not_let_be_read_are_not() -> None:
    table = ItemTable()
    table.items["orders/secrets/x"] = table.items["accounts/secrets/x"] = {"a": 1}
    for event in (
        item_event("orders", "secrets", "x"),
        item_event("accounts", "secrets", "x"),
        item_event("accounts", "balances", "nobody"),
        item_event("accounts", "balances", "é" * 1000),
    ):
        assert ask(table, event)[0]["statusCode"] == 404


def listing(collection: str = "balances", **query: str) -> dict[str, Any]:
    return {**get("accounts", collection), "rawQueryString": urlencode(query)}


def test_a_listed_collection_is_shown_page_by_page() -> None:
    table = ItemTable()
    for name in ("ana", "an b&c", "ben"):
        table.items[f"accounts/balances/{name}"] = {"balance": Decimal("0.10")}
    _, first = ask(table, listing(prefix="an", limit="1"))
    assert first == {
        "items": [{"key": "an b&c", "item": {"balance": 0.1}}],
        "next": "/accounts/balances?prefix=an&limit=1&cursor=an+b%26c",
    }
    _, second = ask(table, {**listing(), "rawQueryString": urlsplit(first["next"]).query})
    assert second == {"items": [{"key": "ana", "item": {"balance": 0.1}}]}
    _, everything = ask(table, listing())
    assert [it["key"] for it in everything["items"]] == ["an b&c", "ana", "ben"]


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ({"limit": "0"}, "limit is 1 to 100"),
        ({"limit": "101"}, "limit is 1 to 100"),
        ({"limit": "x"}, "limit is 1 to 100"),
        ({"prefix": "a", "cursor": "b"}, "cursor is what `next`"),
        ({"prefix": "\u00e9" * 600}, "A key has 1024 bytes"),
        ({"order": "desc"}, "not 'order'"),
    ],
)
def test_a_listing_that_makes_no_sense_is_refused_and_named(query: dict[str, str], complaint: str) -> None:
    response, problem = ask(ItemTable(), listing(**query))
    assert response["statusCode"] == 400
    assert complaint in problem["detail"]


def test_a_collection_that_is_only_readable_is_not_listed() -> None:
    table = ItemTable()
    table.items["accounts/notes/a"] = {}
    assert ask(table, listing("notes"))[0]["statusCode"] == 404
    assert ask(table, item_event("accounts", "notes", "a"))[0]["statusCode"] == 200


# --- whose it is --------------------------------------------------------------

ANA, BEN = iam("AIDAANA"), iam("AIDABEN")


@pytest.mark.parametrize(
    ("owner", "authorizer", "status"),
    [
        ("iam:123456789012:AIDAANA", ANA, 200),
        ("iam:123456789012:AROAROLE", iam("AROAROLE:a-session"), 200),  # the sessions of a role are one caller
        ("jwt:https://issuer.example#ana", jwt("ana"), 200),
        ("iam:123456789012:AIDAANA", BEN, 404),
        ("jwt:https://issuer.example#ana", jwt("ben"), 404),
        ("anonymous", ANA, 404),  # sent before callers had to say who they are
        ("", ANA, 404),
        ("iam:123456789012:AIDAANA", None, 200),  # nobody has to
    ],
)
def test_a_record_is_its_caller_s(owner: str, authorizer: dict[str, Any] | None, status: int) -> None:
    response, _ = ask(table_with(caller=owner), get("orders", "m-1", authorizer=authorizer))
    assert response["statusCode"] == status


def test_an_id_that_a_stack_has_shown_opens_what_it_does_without_its_tail() -> None:
    shown = IdKeys([IdKey(0, b"s", "kN")]).shown(Message("m-1", "orders", "{}", "key:ana", ACCEPTED))
    assert shown != "m-1"
    table = table_with(caller="key:ana")
    answer = read(Call(["orders", shown], "", {}, b"", "key:ana"), table, WORKLOADS)
    assert json.loads(answer.body)["id"] == shown
    assert not seen_by(["orders", shown], table, caller="key:ben")
    assert not seen_by(["orders", shown.replace("m-1", "m-2")], table, caller="key:ana")


def test_another_caller_s_record_is_answered_as_one_that_never_was() -> None:
    table = table_with(caller="iam:123456789012:AIDAANA", status="processed", result="{}", finished_at=FINISHED)
    theirs, _ = ask(table, get("orders", "m-1", authorizer=BEN))
    nothing, _ = ask(table, get("orders", "m-2", authorizer=BEN))
    assert theirs == nothing


def seen_by(path: list[str], table: ModelTable, **who: Any) -> bool:
    try:
        return read(Call(path, "", {}, b"", **who), table, WORKLOADS).status == 200
    except Problem as problem:
        return problem.status != 404


def test_an_operator_sees_what_is_others_too() -> None:
    table = table_with(caller="key:ana")
    assert seen_by(["orders", "m-1"], table, caller="key:ana")
    assert not seen_by(["orders", "m-1"], table, caller="key:ben")
    assert seen_by(["orders", "m-1"], table, caller="key:ben", operator=True)


@pytest.mark.parametrize("path", [["tills", "{}", "mon"], ["tills", "{}"]], ids=["an item", "a listing"])
def test_items_are_shown_to_all_callers_only_where_their_workload_says_so(path: list[str]) -> None:
    table = ItemTable()
    table.items["tills/sums/mon"] = table.items["tills/notes/mon"] = {"a": 1}
    for collection, public in (("sums", True), ("notes", False)):
        where = [part.format(collection) for part in path]
        assert seen_by(where, table, caller="key:ana") is public
        assert seen_by(where, table, caller="key:ana", operator=True)
        assert seen_by(where, table), "nobody has to say who they are"


def test_an_item_is_shown_to_its_owner_where_it_may_be_read() -> None:
    table = ItemTable()
    for key in ("tills/notes/mon", "tills/secrets/mon"):
        table.items[key], table.owners[key] = {"a": 1}, "key:ana"
    assert seen_by(["tills", "notes", "mon"], table, caller="key:ana")
    assert not seen_by(["tills", "notes", "mon"], table, caller="key:ben")
    assert seen_by(["tills", "notes", "mon"], table, caller="key:ben", operator=True)
    assert seen_by(["tills", "notes", "mon"], table), "nobody has to say who they are"
    assert not seen_by(["tills", "secrets", "mon"], table, caller="key:ana")
    assert not seen_by(["tills", "notes"], table, caller="key:ana"), "what is not public is not listed"


def test_what_is_not_public_is_answered_as_what_is_not_readable() -> None:
    table = ItemTable()
    table.items["tills/notes/mon"] = table.items["tills/secrets/mon"] = {"a": 1}
    for parts in (("{}", "mon"), ("{}",)):
        answers = []
        for collection in ("notes", "secrets"):
            names = ("workload", "collection", "key") if len(parts) == 2 else ("workload", "id")
            where = dict(zip(names, ("tills", *(part.format(collection) for part in parts)), strict=True))
            answers.append(read_event(http_event("GET", "/x", where, authorizer=ANA), table, WORKLOADS))
        assert answers[0] == answers[1]


class SickTable(ModelTable):
    def get(self, message_id: str) -> Record | None:
        raise Unavailable("throttled")


def test_a_sick_table_is_a_503_that_says_when_to_come_back() -> None:
    response, problem = ask(SickTable(), get("orders", "m-1"))
    assert (response["statusCode"], response["headers"]["retry-after"]) == (503, "1")
    assert problem["resend"] == "safe"


def test_the_model_clock_only_moves_when_told() -> None:
    clock = ManualClock(1)
    clock.advance(0.5)
    assert clock() == 501
