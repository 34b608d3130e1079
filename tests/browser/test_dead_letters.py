"""Choosing dead letters and doing something with them, as the page goes about it whatever the server does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from decoupled.dashboard.shapes import Access
from tests.support import found
from tests.support.browser import playwright_page
from tests.support.lives import NOW_MS, live, overview
from tests.support.page_checks import overflowing
from tests.support.page_server import page_server
from tests.support.server import WITHIN_S

OPERATOR = Access(see=True, change=True, name="ana", how=["code"])


@contextmanager
def opened(browser: Browser, dead: found.Dead, view: str = "dead", access: Access = OPERATOR) -> Iterator[Page]:
    def look(_: object) -> tuple[int, object]:
        return 200, live(access=access, overview=overview(dead=len(dead.letters)))

    answers = {"GET live": look, "GET messages": found.found, **dead.answers()}
    with page_server(answers) as url, playwright_page(browser, f"{url}/#/{view}") as page:
        expect(page.locator(".letter input").first).to_be_visible()
        yield page


def boxes(page: Page) -> Locator:
    return page.locator(".letter input")


def dialog(page: Page) -> Locator:
    return page.get_by_role("dialog")


def test_a_selection_with_shift_is_redriven_and_no_other(browser: Browser) -> None:
    dead = found.Dead(30)
    with opened(browser, dead) as page:
        boxes(page).nth(2).click()
        boxes(page).nth(6).click(modifiers=["Shift"])
        boxes(page).nth(4).click()
        page.get_by_role("button", name="Redrive 4 …").click()
        dialog(page).get_by_role("button", name="Redrive 4").click()
        expect(dialog(page).get_by_role("heading")).to_have_text("Done: 3 redriven")
        expect(dialog(page)).to_contain_text("1 not: it is processed")
        dialog(page).get_by_role("button", name="Close").click()
        expect(page.get_by_text("27 dead letters, 3 kinds of error")).to_be_visible()
    assert [each["which"] for each in dead.changes] == [{"ids": [found.message_id(n) for n in (2, 3, 5, 6)]}]


def test_nothing_is_done_before_a_person_has_seen_what_it_would_do(browser: Browser) -> None:
    dead = found.Dead(30)
    with opened(browser, dead) as page:
        page.get_by_label("All 30 that match").click()
        page.get_by_role("button", name="Purge 30 …").click()
        expect(dialog(page).get_by_role("row")).to_have_count(4)
        purge = dialog(page).get_by_role("button", name="Purge 30")
        expect(purge).to_be_disabled()
        page.get_by_label("Type 30 to go on").fill("3")
        expect(purge).to_be_disabled()
        dialog(page).get_by_role("button", name="Cancel").click()
        assert dead.changes == []
        page.get_by_role("button", name="Purge 30 …").click()
        page.get_by_label("Type 30 to go on").fill("30")
        purge.click()
        expect(dialog(page).get_by_role("heading")).to_have_text("Done: 29 purged")
    assert dead.changes[0]["which"] == {"dead_before": NOW_MS}  # what dies again meanwhile is left alone


def test_a_batch_that_failed_is_done_again_and_the_rest_after_it(browser: Browser) -> None:
    dead = found.Dead(90, batch=10)
    dead.fails = 2
    with opened(browser, dead) as page:
        page.get_by_role("button", name="Redrive these 30 …").first.click()
        dialog(page).get_by_role("button", name="Redrive 30").click()
        expect(dialog(page)).to_contain_text("The writer is busy: trying again")
        expect(dialog(page).get_by_role("progressbar")).to_have_attribute("aria-valuemax", "30")
        expect(dialog(page).get_by_role("heading")).to_have_text("Done: 27 redriven")
        expect(dialog(page).get_by_role("progressbar")).to_have_attribute("aria-valuenow", "30")


def test_what_somebody_else_was_quicker_with_is_said(browser: Browser) -> None:
    dead = found.Dead(30)
    with opened(browser, dead) as page:
        page.get_by_role("button", name="Redrive these 10 …").first.click()
        expect(dialog(page).get_by_role("button", name="Redrive 10")).to_be_visible()
        dead.letters = dead.letters[12:]
        dialog(page).get_by_role("button", name="Redrive 10").click()
        expect(dialog(page).get_by_role("heading")).to_have_text("Done: 5 redriven")
        expect(dialog(page)).to_contain_text("4 were no dead letters any more")


def test_it_stops_when_it_is_told_to(browser: Browser) -> None:
    dead = found.Dead(900, batch=3)
    dead.fails = 1  # holds it up after the first try, so that there is time to stop it
    with opened(browser, dead) as page:
        page.get_by_role("button", name="Redrive these 300 …").first.click()
        dialog(page).get_by_role("button", name="Redrive 300").click()
        dialog(page).get_by_role("button", name="Stop").click()
        expect(dialog(page).get_by_role("heading")).to_contain_text("Stopped")
        dialog(page).get_by_role("button", name="Close").click()
        assert len(dead.letters) > 800


def test_escape_stops_it_however_often_it_is_pressed_and_what_was_done_is_said(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = found.Dead(900, batch=3)
    answers, change = threading.Event(), dead._change

    def slow(asked: Any, done: str) -> tuple[int, Any]:
        assert asked.get("dry_run") or answers.wait(WITHIN_S)
        return change(asked, done)

    monkeypatch.setattr(dead, "_change", slow)
    with opened(browser, dead) as page:
        page.get_by_role("button", name="Redrive these 300 …").first.click()
        dialog(page).get_by_role("button", name="Redrive 300").click()
        for _ in range(3):
            page.keyboard.press("Escape")
        expect(dialog(page)).to_contain_text("Stopping after this batch")
        answers.set()
        expect(dialog(page).get_by_role("heading")).to_have_text("Stopped: 2 redriven")
        page.keyboard.press("Escape")
        expect(dialog(page)).to_have_count(0)
        expect(page.get_by_text("898 dead letters")).to_be_visible()


def test_back_takes_away_what_only_asks_and_not_what_is_under_way(browser: Browser) -> None:
    dead = found.Dead(900, batch=3)
    dead.fails = 1
    with opened(browser, dead) as page:
        page.get_by_role("link", name="Overview").click()
        page.go_back()
        page.get_by_role("button", name="Redrive these 300 …").first.click()
        expect(dialog(page).get_by_role("button", name="Redrive 300")).to_be_visible()
        page.go_forward()
        expect(dialog(page)).to_have_count(0)
        page.go_back()
        page.get_by_role("button", name="Redrive these 300 …").first.click()
        dialog(page).get_by_role("button", name="Redrive 300").click()
        expect(dialog(page).get_by_role("progressbar")).to_be_visible()
        leaving = "window.dispatchEvent(new Event('beforeunload', { cancelable: true }))"
        assert page.evaluate(leaving) is False  # the browser asks first
        page.go_forward()
        expect(dialog(page).get_by_role("progressbar")).to_be_visible()
        dialog(page).get_by_role("button", name="Stop").click()
        expect(dialog(page).get_by_role("heading")).to_contain_text("Stopped")
        assert page.evaluate(leaving) is True


def test_a_read_only_visitor_sees_why_nothing_can_be_changed(browser: Browser) -> None:
    reader = Access(see=True, change=False, name="", how=["code"])
    with opened(browser, found.Dead(30), access=reader) as page:
        boxes(page).first.click()
        expect(page.get_by_text("Read-only: sign in as an operator to change anything.")).to_be_visible()
        for button in page.get_by_role("button", name="Redrive").or_(page.get_by_role("button", name="Purge")).all():
            expect(button).to_be_disabled()


def test_a_kind_of_error_can_be_looked_at_alone_and_its_address_shared(browser: Browser) -> None:
    dead = found.Dead(30)
    with opened(browser, dead) as page:
        page.get_by_role("button", name="Show these 10").nth(1).click()
        expect(page.get_by_role("heading", name="Letters of this kind: 10")).to_be_visible()
        expect(page.locator(".letter-error").first).to_contain_text("TimeoutError")
        with playwright_page(browser, page.url) as other:
            expect(other.get_by_role("heading", name="Letters of this kind: 10")).to_be_visible()
            expect(other.locator(".letter-error").first).to_contain_text("TimeoutError")


def test_ten_thousand_letters_scroll_to_the_last_with_few_elements(browser: Browser) -> None:
    with opened(browser, found.Dead(10_000)) as page:
        expect(page.get_by_role("table", name="Dead letters")).to_have_attribute("aria-rowcount", "10000")
        page.locator(".letters-scroller").evaluate("each => { each.scrollTop = each.scrollHeight }")
        last = page.locator(".letter[aria-rowindex='10000']")
        expect(last.get_by_role("link")).to_have_text(found.message_id(9_999))
        assert page.locator(".letter").count() < 60
        last.get_by_role("checkbox").focus()
        for _ in range(20):  # beyond what is seen
            page.keyboard.press("ArrowUp")
        expect(page.get_by_role("checkbox", name=found.message_id(9_979))).to_be_focused()
        page.keyboard.press("Space")
        expect(page.get_by_role("button", name="Redrive 1 …")).to_be_enabled()


@pytest.mark.parametrize("width", [360, 1440])
def test_what_clients_wrote_runs_nothing_and_overflows_nothing(browser: Browser, width: int) -> None:
    with opened(browser, found.Dead(30)) as page:
        page.set_viewport_size({"width": width, "height": 900})
        page.get_by_label("All 30 that match").click()
        page.get_by_role("button", name="Redrive 30 …").click()
        expect(dialog(page).get_by_text("<script>document.title = 'harmed'</script>")).to_be_visible()
        dialog(page).get_by_role("button", name="Redrive 30").click()
        dialog(page).get_by_text("it is processed").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert overflowing(page) == []
        assert "harmed" not in page.title()
