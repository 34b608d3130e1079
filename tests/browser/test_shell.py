"""The page's shell: views by their address, and what it says when the server is gone, or asks for signing in."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Browser, expect

from decoupled.dashboard.shapes import Live
from tests.support.browser import playwright_page
from tests.support.lives import live as some_time_ago
from tests.support.page_server import Ask, page_server


def live(**changes: Any) -> Live:
    """Of this moment."""
    return some_time_ago(taken_at=time.time_ns() // 1_000_000, **changes)


EMPTY = {"step_s": 5.0, "times": [], "series": {}}


def answers(look: Callable[[], tuple[int, Any]]) -> dict[str, Ask]:
    return {"GET live": lambda _: look(), "GET history": lambda _: (200, EMPTY)}


def test_each_view_has_an_address(browser: Browser) -> None:
    with page_server(answers(lambda: (200, live()))) as url, playwright_page(browser, url) as page:
        expect(page.get_by_text("data directory /srv/shop/.data").first).to_be_visible()
        for name, view in (("Messages", "messages"), ("Dead letters", "dead"), ("Try it", "try")):
            page.get_by_role("link", name=name, exact=True).click()
            expect(page.locator("#main")).to_have_class(f"view view-{view}")
            expect(page.locator("nav [aria-current=page]")).to_contain_text(name)
        page.go_back()
        expect(page.locator("#main")).to_have_class("view view-dead")
        page.goto(f"{url}/#/nothing-of-ours")
        expect(page.locator("#main")).to_have_class("view view-overview")


def test_a_page_that_is_seen_again_after_trouble_goes_on_by_itself(browser: Browser) -> None:
    said: list[tuple[int, Any]] = [(200, live())]
    with page_server(answers(lambda: said[0])) as url, playwright_page(browser, url) as page:
        connection = page.locator("#connection")
        expect(connection).to_have_text("Live")
        said[0] = (503, {"detail": "too many looks at once"})
        expect(connection).to_contain_text("No connection: too many looks at once.")
        said[0] = (200, live())
        expect(connection).to_have_text("Live")


def test_a_look_that_was_long_ago_says_so(browser: Browser) -> None:
    ago = time.time_ns() // 1_000_000 - 40_000
    with page_server(answers(lambda: (200, some_time_ago(taken_at=ago)))) as url, playwright_page(browser, url) as page:
        expect(page.locator("#connection")).to_have_text(re.compile(r"Live \([4-9]\d s old\)"))


def test_nothing_is_shown_before_signing_in(browser: Browser) -> None:
    said: list[tuple[int, Any]] = [(401, {"detail": "sign in to see this"})]
    with page_server(answers(lambda: said[0])) as url, playwright_page(browser, f"{url}/#/dead") as page:
        expect(page.locator("#main")).to_have_class("view view-signin")
        said[0] = (200, live())
        expect(page.locator("#main")).to_have_class("view view-dead")
