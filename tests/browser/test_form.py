"""What becomes of schemas in the form: each kind of value has its field, and what a form begins with, where a workload
has no example, is what its schema takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta, Struct
from playwright.sync_api import Browser, Page, expect

from decoupled import Effects, Workload
from decoupled.dashboard.shapes import WorkloadNow
from decoupled.pipeline.openapi.document import document
from tests.support.browser import playwright_page
from tests.support.lives import live
from tests.support.page_checks import violations
from tests.support.page_server import page_server


class Place(Struct, forbid_unknown_fields=True):
    city: Annotated[str, Meta(min_length=1)]
    geo: list[float] | None = None


class Card(Struct, tag_field="kind", tag="card", forbid_unknown_fields=True):
    digits: Annotated[str, Meta(pattern=r"^[0-9]{4}\Z")]


class Cash(Struct, tag_field="kind", tag="cash", forbid_unknown_fields=True):
    euros: Annotated[int, Meta(ge=5)]


class Comment(Struct, forbid_unknown_fields=True):
    """Holds others of its kind."""

    words: str
    answers: list[Comment] = []


class Everything(Struct, forbid_unknown_fields=True):
    flag: bool
    level: Literal[1, 2, 3]
    at: Annotated[datetime, Meta(tz=True)]
    amount: Decimal
    place: Place
    paid: Card | Cash
    tags: Annotated[list[str], Meta(min_length=2)]
    words: Annotated[str, Meta(min_length=3, max_length=2_000)]
    first: Comment
    extra: dict[str, Any]
    maybe: str | None
    ship_to: Place | None = None
    gift: bool | None = None
    size: Literal["s", "m"] | None = None
    notes: list[str] = []
    rate: float | None = None


def process(entry: Everything, _: Any) -> Effects:
    return Effects({"tags": entry.tags})


@contextmanager
def form(browser: Browser, sent: list[Any], **answer: Any) -> Iterator[Page]:
    def take(entry: Any) -> tuple[int, Any]:
        sent.append(entry)
        return answer.get("status", 202), answer.get("body", {"id": "a1", "status_url": "/all/a1"})

    described = msgspec.to_builtins(document({"all": Workload("all", Everything, process)}))
    answers = {
        "GET live": lambda _: (200, live(workloads=[WorkloadNow("all", "closed", form=True)])),
        "GET /openapi.json": lambda _: (200, described),
        "POST /all": take,
        "GET /all/a1": lambda _: (200, answer.get("record", {"id": "a1", "status": "dead", "attempts": 5})),
    }
    with page_server(answers) as url, playwright_page(browser, f"{url}/#/try") as page:
        expect(page.get_by_role("button", name="Send")).to_be_enabled()
        yield page


def send(page: Page) -> None:
    page.get_by_role("button", name="Send").click()


def test_a_form_without_an_example_begins_with_what_its_schema_takes(browser: Browser) -> None:
    sent: list[Any] = []
    with form(browser, sent) as page:
        send(page)
        expect(page.locator(".outcome .badge")).to_have_text("dead")
        assert violations(page) == []
    assert msgspec.json.decode(msgspec.json.encode(sent[0]), type=Everything)
    assert sent[0].keys() == {each.name for each in msgspec.structs.fields(Everything) if each.required}


def test_each_kind_of_value_has_a_field_that_changes_it(browser: Browser) -> None:
    sent: list[Any] = []
    with form(browser, sent) as page:
        page.get_by_label("flag").select_option("true")
        page.get_by_label("level").select_option("3")
        page.get_by_label("amount").fill("12.50")
        page.get_by_label("Kind").select_option("cash")
        page.get_by_label("euros").fill("7")
        page.get_by_role("textbox", name="tags 2").fill("two")
        page.get_by_role("button", name="Remove tags 1").click()
        page.get_by_role("button", name="Add one to tags").click()
        page.get_by_role("textbox", name="tags 2").fill("three")
        page.get_by_label("extra").fill('{"deep": [1.10]}')
        page.get_by_role("button", name="Add ship_to").click()
        page.get_by_role("group", name="ship_to").get_by_label("city").fill("Cork")
        page.get_by_label("gift").select_option("false")
        page.get_by_label("size").select_option("m")
        page.get_by_label("rate").fill("1e3")
        page.get_by_role("group", name="first").get_by_role("button", name="Add answers").click()
        send(page)
        expect(page.locator(".outcome")).to_have_count(1)
        page.get_by_role("button", name="Leave out ship_to").click()
        send(page)
        expect(page.locator(".outcome")).to_have_count(2)
    entry = msgspec.json.decode(msgspec.json.encode(sent[0]), type=Everything)
    assert (entry.flag, entry.level, entry.amount) == (True, 3, Decimal("12.50"))
    assert (entry.paid, entry.tags, entry.extra) == (Cash(7), ["two", "three"], {"deep": [1.1]})
    assert (entry.ship_to, entry.gift, entry.size, entry.rate) == (Place("Cork"), False, "m", 1_000.0)
    assert len(entry.first.answers) == 1
    assert "ship_to" not in sent[1]


@pytest.mark.parametrize("pointer", ["/place/city", "/tags/1", "/paid/digits", "/first/words", "/nowhere/at/all"])
def test_a_fault_is_shown_where_it_is_or_in_words_where_there_is_no_such_field(browser: Browser, pointer: str) -> None:
    problem = {
        "title": "Unprocessable Content",
        "detail": "1 fault(s)",
        "errors": [{"pointer": f"#{pointer}", "detail": "bad"}],
    }
    with form(browser, [], status=422, body=problem) as page:
        send(page)
        expect(page.locator(".send-bar [role=alert]")).to_contain_text("422: 1 fault(s)")
        expect(page.locator(".wrong:visible").filter(has_text="bad")).to_have_count(1)


def test_a_key_that_no_header_takes_is_not_sent(browser: Browser) -> None:
    sent: list[Any] = []
    with form(browser, sent) as page:
        page.get_by_label("Idempotency-Key").fill("cart-\U0001f600")
        send(page)
        expect(page.locator(".send-bar [role=alert]")).to_contain_text("Not sent: A key is of")
    assert sent == []


def test_how_often_it_has_failed_is_said_while_it_waits(browser: Browser) -> None:
    with form(browser, [], record={"id": "a1", "status": "queued", "attempts": 1}) as page:
        send(page)
        expect(page.locator(".outcome")).to_contain_text("It failed 1 time so far, and will be tried again.")
