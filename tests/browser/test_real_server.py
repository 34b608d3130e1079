"""The overview beside a real server: an outage of the table, and the end of the server itself."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import msgspec
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import playwright_page
from tests.support.dead_letters import AN_ORDER
from tests.support.server import DECOUPLED, serving

OUTAGE_MS = 60_000  # of a spike with one, on a slow machine


def mark(page: Page) -> None:
    """This very document, so that a reload would be noticed."""
    page.evaluate("window.marked = true")


def test_the_picture_turns_red_in_an_outage_and_back_without_a_reload(browser: Browser, tmp_path: Path) -> None:
    command = [str(DECOUPLED), "spike", "--orders", "400", "--outage", "5s"]
    command += ["--data", str(tmp_path / "data"), "--ledger", str(tmp_path / "ledger")]
    with serving(tmp_path / "data") as server, playwright_page(browser, server.url) as page:
        expect(page.locator(".trouble.is-ok")).to_contain_text("All is well")
        mark(page)
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as spike:
            expect(page.locator(".trouble.is-bad")).to_contain_text("Orders wait", timeout=OUTAGE_MS)
            for box in ("processor", "table"):
                expect(page.locator(f"[data-box={box}]")).to_have_attribute("data-colour", "bad")
            expect(page.locator("#workload-orders")).to_have_attribute("data-state", "open")
            assert "(trouble)" in page.title()
            expect(page.locator("[data-box=table]")).to_have_attribute("data-colour", "ok", timeout=OUTAGE_MS)
            expect(page.locator("[data-box=table] .figure")).to_have_text("400", timeout=OUTAGE_MS)
            assert spike.wait(OUTAGE_MS / 1000) == 0
        expect(page.locator(".trouble.is-bad")).to_have_count(0)
        assert page.evaluate("window.marked")


def test_a_server_that_is_gone_is_said_once_and_its_return_is_seen(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server, playwright_page(browser, server.url) as page:
        connection = page.locator("#connection")
        expect(connection).to_have_text("Live")
        mark(page)
        page.evaluate(
            """() => {
                window.said = [];
                const heard = new MutationObserver(() => window.said.push(document.getElementById("connection")
                    .querySelector("span:not([aria-hidden])").textContent));
                heard.observe(document.getElementById("connection"), { childList: true });
            }"""
        )
        server.kill()
        expect(connection).to_contain_text("No connection: the server does not answer. Trying again.")
        expect(connection).to_contain_text("Last seen 3")  # seconds ago, and then more
        assert page.evaluate("getComputedStyle(document.querySelector('.picture')).filter") == "grayscale(1)"
        server.start()
        expect(connection).to_have_text("Live")
        assert page.evaluate("window.said") == ["No connection: the server does not answer. Trying again.", "Live"]
        assert page.evaluate("window.marked")


def test_a_reader_whose_clock_is_wrong_is_told_how_long_ago_it_was_all_the_same(
    browser: Browser, tmp_path: Path
) -> None:
    with serving(tmp_path / "data") as server, playwright_page(browser, server.url) as page:
        server.accept("/orders", msgspec.json.decode(AN_ORDER))
        page.clock.set_system_time(time.time() + 3 * 3_600)
        page.reload()
        page.get_by_role("link", name="Messages").click()
        expect(page.locator(".message-row time")).to_contain_text(re.compile(r", \d+ s ago"))
