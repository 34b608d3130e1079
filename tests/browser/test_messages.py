"""Finding messages, and the story of one, as the page shows what a server tells."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support import found
from tests.support.browser import playwright_page
from tests.support.lives import live
from tests.support.page_checks import overflowing
from tests.support.page_server import page_server


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    answers = {
        "GET live": lambda _: (200, live()),
        "GET messages": found.found,
        f"GET messages/{found.message_id(3)}": found.story,
    }
    with page_server(answers) as url:
        yield url


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    with playwright_page(browser, f"{url}/#/messages") as page:
        expect(page.get_by_text("50 messages so far")).to_be_visible()
        yield page


def asked(url: str) -> dict[str, str]:
    return {name: value for name, (value,) in parse_qs(urlsplit(url).query).items()}


def test_what_is_sought_stands_in_the_address_and_comes_back_from_it(page: Page, browser: Browser) -> None:
    page.get_by_label("Status").select_option("dead")
    page.get_by_label("Caller").fill("shop & sons")
    page.get_by_label("Accepted from").fill("2026-11-29T10:00:05")
    with page.expect_request("**/-/messages?*") as sought:
        page.get_by_role("button", name="Find").click()
    wanted = {"status": "dead", "caller": "shop & sons", "accepted_after": "1795946405000", "limit": "50"}
    assert asked(sought.value.url) == wanted
    expect(page.get_by_text("30 messages, newest first.")).to_be_visible()
    with playwright_page(browser, page.url) as other:
        expect(other.get_by_label("Caller")).to_have_value("shop & sons")
        expect(other.get_by_label("Accepted from")).to_have_value("2026-11-29T10:00:05")
        expect(other.get_by_text("30 messages, newest first.")).to_be_visible()


def test_there_is_more_on_demand_and_arrows_go_from_one_to_the_next(page: Page) -> None:
    rows = page.locator(".message-row")
    expect(rows).to_have_count(50)
    page.get_by_role("button", name="More").click()
    expect(rows).to_have_count(100)
    expect(rows.nth(50).get_by_role("link")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(rows.nth(51).get_by_role("link")).to_be_focused()
    page.get_by_role("button", name="More").click()
    expect(rows).to_have_count(120)
    expect(page.get_by_role("button", name="More")).to_be_hidden()


def test_an_id_alone_leads_to_its_story(page: Page) -> None:
    page.get_by_label("Id", exact=True).fill(found.message_id(3))
    page.keyboard.press("Enter")
    timeline = page.get_by_role("region", name="What happened").get_by_role("listitem")
    expect(timeline).to_have_count(4)
    expect(timeline.nth(3).get_by_role("link")).to_have_attribute("href", f"#/messages/{found.message_id(9)}")
    page.get_by_text("Traceback", exact=True).click()
    expect(page.get_by_text("Traceback (most recent call last)")).to_be_visible()
    expect(page.get_by_role("region", name="Body")).to_contain_text('"price": 1.10')  # as it was sent


def test_that_there_is_no_such_message_is_said_in_words(browser: Browser, url: str) -> None:
    with playwright_page(browser, f"{url}/#/messages/nothing") as page:
        expect(page.get_by_text("There is no such message here.")).to_be_visible()


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("view", ["messages", f"messages/{found.message_id(3)}"])
def test_what_clients_wrote_runs_nothing_and_overflows_nothing(
    browser: Browser, url: str, view: str, width: int
) -> None:
    with playwright_page(browser, f"{url}/#/{view}", width=width) as page:
        expect(page.get_by_text("<script>document.title = 'harmed'</script>").first).to_be_visible()
        for each in page.locator("details").all():
            each.evaluate("details => details.open = true")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert overflowing(page) == []
        assert "harmed" not in page.title()
