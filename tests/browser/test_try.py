"""The form that is made of each workload's schema: sending a first entry, and following it, in a browser."""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect

from decoupled.dashboard.shapes import WorkloadNow
from tests.support.browser import playwright_page
from tests.support.lives import live, overview
from tests.support.page_checks import violations
from tests.support.page_server import page_server
from tests.support.server import Server, serving

WORKLOADS = ("orders", "notifications", "readings", "registrations", "transactions")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("try") / "data", "--workloads", ",".join(WORKLOADS)) as server:
        yield server


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    with playwright_page(browser, f"{server.url}/#/try") as page:
        expect(page.get_by_role("button", name="Send")).to_be_enabled()
        yield page


def choose(page: Page, workload: str) -> None:
    page.get_by_role("navigation", name="Workloads").get_by_role("link", name=workload).click()
    expect(page.get_by_role("form", name=f"An entry of {workload}")).to_be_visible()


def edit_as_json(page: Page, text: str) -> None:
    page.get_by_role("button", name="Edit as JSON").click()
    page.get_by_label("The entry as JSON").fill(text)


def stored(server: Server, workload: str) -> list[dict[str, object]]:
    rows = server.rows("SELECT result FROM messages WHERE workload = ? ORDER BY seq", workload)
    return [json.loads(result) for (result,) in rows if result]


def test_the_first_order_is_two_clicks_from_the_page(browser: Browser, server: Server) -> None:
    with playwright_page(browser, server.url) as page:
        page.get_by_role("link", name="Try it").click()
        page.get_by_role("button", name="Send").click()
        outcome = page.locator(".outcome")
        expect(outcome.locator(".badge")).to_have_text("processed")
        message_id = outcome.locator("code").inner_text()
        assert server.get(f"/orders/{message_id}").json["status"] == "processed"
        expect(outcome.locator("pre")).to_contain_text("ORD-")
        expect(outcome).to_contain_text("accepted")


@pytest.mark.parametrize("workload", WORKLOADS)
def test_there_is_a_form_for_each_workload_that_sends_its_example(page: Page, server: Server, workload: str) -> None:
    document = server.get("/openapi.json").json
    content = document["paths"][f"/{workload}"]["post"]["requestBody"]["content"]["application/json"]
    choose(page, workload)
    assert violations(page) == []
    with page.expect_request(lambda request: request.method == "POST") as sent:
        page.get_by_role("button", name="Send").click()
    assert json.loads(sent.value.post_data or "") == content["examples"]["one"]["value"]
    expect(page.locator(".outcome code")).to_be_visible()  # a 202, with its id


def test_what_the_server_refuses_is_said_at_its_field(page: Page) -> None:
    page.get_by_role("button", name="Add one to lines").click()
    page.get_by_label("quantity").nth(1).fill("0")
    page.get_by_label("email").fill("nobody")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_label("email")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("email")).to_be_focused()
    quantity = page.get_by_label("quantity").nth(1)
    expect(quantity).to_have_attribute("aria-invalid", "true")
    expect(page.locator(".wrong").get_by_text("Expected `int` >= 1")).to_be_visible()
    expect(page.get_by_label("quantity").nth(0)).not_to_have_attribute("aria-invalid", "true")
    assert violations(page) == []
    page.get_by_label("email").fill("ana@example.com")
    quantity.fill("3")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".outcome .badge")).to_have_text("processed")
    expect(quantity).not_to_have_attribute("aria-invalid", "true")


def test_a_number_keeps_all_of_its_digits(page: Page, server: Server) -> None:
    choose(page, "readings")
    page.get_by_label("device").fill("scales-1")
    page.get_by_label("value").fill("0.100000")
    page.get_by_role("button", name="Edit as JSON").click()
    expect(page.get_by_label("The entry as JSON")).to_have_value(
        '{\n  "device": "scales-1",\n  "at": "2026-11-23T10:15:30Z",\n  "value": 0.100000\n}'
    )
    page.get_by_role("button", name="Edit as JSON").click()
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".outcome pre")).to_contain_text('"0.100000"')
    assert stored(server, "readings")[-1]["value"] == "0.100000"


def test_what_is_typed_as_json_is_sent_as_it_is(page: Page) -> None:
    choose(page, "registrations")
    edit_as_json(page, '{"email": "json@example.com",   "name": 7}')
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".send-bar [role=alert]")).to_contain_text("#/name Expected `str`, got `int`")
    page.get_by_label("The entry as JSON").fill("{")
    page.get_by_role("button", name="Edit as JSON").click()
    expect(page.get_by_text("This is not JSON:")).to_be_visible()
    page.get_by_label("The entry as JSON").fill('{"email": "json@example.com", "name": "Jo"}')
    page.get_by_role("button", name="Edit as JSON").click()
    expect(page.get_by_label("name")).to_have_value("Jo")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".outcome .badge")).to_have_text("processed")


def test_what_may_be_left_out_is_left_out(page: Page) -> None:
    choose(page, "transactions")
    page.get_by_label("Kind").select_option("transfer")
    page.get_by_label("reference").fill("")
    with page.expect_request(lambda request: request.method == "POST") as sent:
        page.get_by_role("button", name="Send").click()
    assert json.loads(sent.value.post_data or "").keys() == {"kind", "from_account", "to_account", "currency", "amount"}


def test_the_same_key_is_the_same_entry(page: Page) -> None:
    page.get_by_label("Idempotency-Key").fill('cart "8417"')
    for times in (1, 2):
        page.get_by_role("button", name="Send").click()
        expect(page.locator(".outcome .badge.is-processed")).to_have_count(times)
    first, second = page.locator(".outcome code").all_inner_texts()
    assert first == second


def test_a_page_that_looks_from_outside_says_where_the_forms_are(browser: Browser) -> None:
    unformed = live(workloads=[WorkloadNow("orders", "closed")], overview=overview(server="http://127.0.0.1:8080"))
    answers = {"GET live": lambda _: (200, msgspec.to_builtins(unformed))}
    with page_server(answers) as url, playwright_page(browser, f"{url}/#/try") as page:
        expect(page.get_by_role("link", name="http://127.0.0.1:8080/#/try")).to_be_visible()
        expect(page.get_by_role("button", name="Send")).to_have_count(0)
        assert violations(page) == []
