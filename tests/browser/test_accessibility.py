"""Each view in both colour schemes, with all that it can show, before axe-core: no violation of WCAG 2 A or AA."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect

from decoupled.core.workload import Workloads
from decoupled.dashboard.shapes import Access, Box, SickGroup, WorkloadNow
from decoupled.pipeline.loading import load
from decoupled.pipeline.openapi.document import document
from tests.support import found
from tests.support.browser import playwright_page
from tests.support.lives import boxes, live, overview
from tests.support.page_checks import violations
from tests.support.page_server import page_server

SCHEMES = pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
WORKLOADS: Workloads = load(["orders", "notifications"])
SICK = [
    WorkloadNow("orders", "held", "KeyError: 'sku'", 12.0, 40.0, 1_204, 90.0, 0.0, form=True),
    WorkloadNow(
        "notifications", "closed", sick_groups=1, groups=[SickGroup("bank.example", "open", found.HARM)], form=True
    ),
]
COLOURED = boxes(processor=Box("bad", "held"), queue=Box("warn", "the oldest waits for 90 s"), table=Box("unknown"))
TROUBLE = live(
    status="degraded",
    detail="orders: held",
    access=Access(see=True, change=True, name="ana", how=["code", "key"]),
    overview=overview(dead=10_000, queued=1_204),
    workloads=SICK,
    boxes=COLOURED,
    notes=["a note"],
)
HISTORY = {"step_s": 5.0, "times": [1_780_000_000_000 + 5_000 * n for n in range(9)], "series": {"queued": [*range(9)]}}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    answers = {
        "GET live": lambda _: (200, TROUBLE),
        "GET history": lambda _: (200, HISTORY),
        "GET messages": found.found,
        f"GET messages/{found.message_id(3)}": found.story,
        "GET /openapi.json": lambda _: (200, msgspec.to_builtins(document(WORKLOADS, auth=["keys"]))),
        **found.Dead(30).answers(),
    }
    with page_server(answers) as url:
        yield url


VIEWS = {
    "": "Overview",
    "messages": "50 messages so far",
    f"messages/{found.message_id(3)}": "What happened",
    "messages/nothing": "There is no such message here.",
    "dead": "30 dead letters",
    "try": "API key or token",
}


@SCHEMES
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_keeps_to_wcag(browser: Browser, url: str, view: str, dark: bool) -> None:
    with playwright_page(browser, f"{url}/#/{view}", dark=dark) as page:
        settled(page)
        if view:
            expect(page.get_by_text(VIEWS[view]).first).to_be_visible()
        for each in page.locator("details").all():
            each.evaluate("details => details.open = true")
        assert violations(page) == []


@SCHEMES
def test_a_view_on_a_phone_keeps_to_wcag(browser: Browser, url: str, dark: bool) -> None:
    with playwright_page(browser, f"{url}/#/dead", width=360, dark=dark) as page:
        settled(page)
        expect(page.locator(".letter").first).to_be_visible()
        for tab in page.get_by_role("navigation", name="Views").get_by_role("link").all():
            expect(tab).to_be_in_viewport(ratio=1)
        assert violations(page) == []


@SCHEMES
def test_what_asks_before_a_change_keeps_to_wcag(browser: Browser, url: str, dark: bool) -> None:
    with playwright_page(browser, f"{url}/#/dead", dark=dark) as page:
        page.get_by_role("button", name="Purge these 10 …").first.click()
        expect(page.get_by_label("Type 10 to go on")).to_be_focused()
        assert violations(page) == []


@SCHEMES
def test_signing_in_keeps_to_wcag(browser: Browser, dark: bool) -> None:
    refused = {
        "GET live": lambda _: (401, {"detail": "Sign in first."}),
        "GET access": lambda _: (200, Access(see=False, change=False, name="", how=["code", "key"])),
        "POST sign-in": lambda _: (403, {"detail": "That is no code that still counts."}),
    }
    with page_server(refused) as url, playwright_page(browser, url, dark=dark) as page:
        page.get_by_label("Code or API key").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_text("That is no code that still counts.")).to_be_visible()
        expect(page.get_by_label("Code or API key")).to_be_focused()
        assert violations(page) == []


def settled(page: Page) -> None:
    expect(page.locator("#connection")).to_contain_text("Live")
