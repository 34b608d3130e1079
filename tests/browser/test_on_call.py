"""A person on call at the page of a real server: signing in, finding, redriving, with a mouse and without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.browser import playwright_page
from tests.support.dead_letters import THREE_ERRORS, dead_letters, fill
from tests.support.server import Server, decoupled, serving

MANY_MS = 120_000.0  # for 10,000 letters, on a machine that has much else to do
MOST_TABS = 80


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """With one dead letter of each of three errors, among them orders that will be processed."""
    fill(tmp_path / "data", dead_letters(3))
    with serving(tmp_path / "data", "--fronts", "1") as server:
        yield server


def link(server: Server) -> str:
    return decoupled("sign-in", "--data", server.data).splitlines()[-1].strip()


def dialog(page: Page) -> Locator:
    return page.get_by_role("dialog")


def test_ten_thousand_dead_letters_are_found_grouped_and_redriven(browser: Browser, tmp_path: Path) -> None:
    fill(tmp_path / "data", dead_letters(10_000))
    with serving(tmp_path / "data", "--fronts", "1") as server, playwright_page(browser, link(server)) as page:
        page.get_by_role("link", name="Dead letters").click()
        expect(page.get_by_text("10,000 dead letters, 3 kinds of error, the largest first.")).to_be_visible()
        for (error_type, _), count in zip(THREE_ERRORS, ("3,334", "3,333", "3,333"), strict=True):
            kind = page.locator(".dead-group").filter(has_text=error_type)
            expect(kind.locator(".dead-count")).to_have_text(count)
        page.get_by_label("Error", exact=True).fill("no such product")
        page.get_by_role("button", name="Find").click()
        expect(page.get_by_text("3,334 dead letters, 1 kind of error")).to_be_visible()
        page.get_by_label("Error", exact=True).fill("")
        page.get_by_role("button", name="Find").click()
        page.get_by_label("All 10,000 that match").click()
        page.get_by_role("button", name="Redrive 10,000 …").click()
        expect(dialog(page).get_by_role("row")).to_have_count(4)
        assert server.statuses() == {"dead": 10_000}  # a dry run
        dialog(page).get_by_role("button", name="Redrive 10,000").click()
        expect(dialog(page).get_by_role("progressbar")).to_be_visible()
        done = dialog(page).get_by_role("heading", name="Done: 10,000 redriven")
        expect(done).to_be_visible(timeout=MANY_MS)
        dialog(page).get_by_role("button", name="Close").click()
        expect(page.get_by_text("There are no dead letters.")).to_be_visible()
        assert server.wait_until_settled(MANY_MS / 1000) == {"processed": 10_000}


def test_who_has_not_signed_in_reads_and_changes_nothing(browser: Browser, server: Server) -> None:
    with playwright_page(browser, f"{server.url}/#/dead") as page:
        page.locator(".letter input").first.click()
        expect(page.get_by_text("Read-only: sign in as an operator")).to_be_visible()
        buttons = page.get_by_role("button", name="Redrive").or_(page.get_by_role("button", name="Purge"))
        expect(buttons).to_have_count(8)
        for button in buttons.all():
            expect(button).to_be_disabled()
        for act in ("redrive", "purge"):
            asked = f"""fetch("-/dead/{act}", {{method: "POST", body: '{{"which": {{}}}}',
                headers: {{"content-type": "application/json", "x-decoupled": "page"}}}}).then(it => it.status)"""
            assert page.evaluate(asked) == 403
    assert server.statuses() == {"dead": 3}


def test_a_link_signs_in_and_leaves_no_code_in_the_address(browser: Browser, server: Server) -> None:
    with playwright_page(browser, link(server)) as page:
        expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        assert "code" not in page.url
        page.reload()
        expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def tab_to(page: Page, target: Locator) -> None:
    """With the keyboard alone, as far as the page has such a part."""
    expect(target).to_be_visible()
    for _ in range(MOST_TABS):
        if target.evaluate("each => each === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"nobody gets there with the keyboard: {target}")


def test_with_the_keyboard_alone_somebody_signs_in_finds_a_message_and_redrives_it(
    browser: Browser, server: Server
) -> None:
    code = link(server).partition("#code=")[2]
    with playwright_page(browser, server.url) as page:
        tab_to(page, page.get_by_role("button", name="Sign in"))
        page.keyboard.press("Enter")
        expect(page.get_by_label("Code", exact=True)).to_be_focused()
        page.keyboard.type(code)
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        tab_to(page, page.get_by_role("link", name="Messages"))
        page.keyboard.press("Enter")
        tab_to(page, page.get_by_label("Error", exact=True))
        page.keyboard.type("KeyError")
        page.keyboard.press("Enter")
        row = page.locator(".message-row").get_by_role("link")
        expect(row).to_have_count(1)
        message_id = row.inner_text()
        tab_to(page, row)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name=message_id)).to_be_visible()
        tab_to(page, page.get_by_role("button", name="Redrive …"))
        page.keyboard.press("Enter")
        expect(dialog(page).get_by_role("button", name="Redrive 1")).to_be_focused()
        page.keyboard.press("Enter")
        expect(dialog(page).get_by_role("heading", name="Done: 1 redriven")).to_be_visible()
        expect(dialog(page).get_by_role("button", name="Close")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator(".badge").first).to_have_text("processed")  # seen without a reload
        expect(page.get_by_role("region", name="Result")).to_contain_text("ORD-")
    assert server.statuses() == {"dead": 2, "processed": 1}


def test_with_keys_nobody_sees_anything_before_and_callers_try_with_their_own(browser: Browser, tmp_path: Path) -> None:
    data = tmp_path / "data"
    boss, shop = (decoupled("keys", "add", name, "--data", data) for name in ("boss", "shop"))
    with (
        serving(data, "--auth", "keys", "--operators", "key:boss", "--fronts", "1") as server,
        playwright_page(browser, f"{server.url}/#/try") as page,
    ):
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.get_by_label("Code or API key").fill(shop)
        page.keyboard.press("Enter")
        expect(page.get_by_text("That is no operator's API key.")).to_be_visible()
        page.get_by_label("Code or API key").fill(boss)
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Send").click()
        expect(page.locator(".send-bar [role=alert]")).to_contain_text("401")
        page.get_by_label("API key or token").fill(shop)
        page.get_by_role("button", name="Send").click()
        expect(page.locator(".outcome .badge")).to_have_text("processed")
        page.get_by_role("link", name="Its story").click()
        expect(page.get_by_role("link", name="key:shop")).to_be_visible()
        stored = page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
        assert shop not in stored
        assert boss not in stored
