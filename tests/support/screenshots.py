"""Screenshots of the page beside a real server that is idle, then under a spike, then in an outage of its table: at
three widths, light and dark, into build/screenshots; and docs/page.png, which the README shows.

    make screenshots"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.support.browser import chromium, playwright_page
from tests.support.server import DECOUPLED, ROOT, Server, serving

INTO = ROOT / "build" / "screenshots"
README = ROOT / "docs" / "page.png"
WIDTHS = {360: 780, 768: 1024, 1440: 900}  # and the heights
DRAWN_MS = 2_500  # until charts and rates are there
SICK_MS = 15_000  # of an outage, before it is one to look at
MAX_README_BYTES = 250_000
SPIKE = ("--orders", "6000", "--rate", "200")
OUTAGE = ("--orders", "9000", "--outage", "60s")
WITHIN_MS = 300_000.0


def main() -> None:
    """All of them, in about three minutes."""
    INTO.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="shop-") as directory, chromium() as browser:
        data = Path(directory) / "data"
        with (
            serving(data, "--workloads", "orders,notifications") as server,
            playwright_page(browser, server.url) as page,
        ):
            take(browser, server, "idle")
            with spike(server, *SPIKE):
                take(browser, server, "spike")
            with spike(server, *OUTAGE):
                expect(page.locator(".trouble.is-bad")).to_be_visible(timeout=WITHIN_MS)
                page.wait_for_timeout(SICK_MS)
                page.screenshot(path=README, full_page=True)
                take(browser, server, "outage")
    assert README.stat().st_size < MAX_README_BYTES, README.stat().st_size


def take(browser: Browser, server: Server, state: str) -> None:
    """Of what is now."""
    for width, height in WIDTHS.items():
        for dark in (False, True):
            name = f"{state}-{width}-{'dark' if dark else 'light'}.png"
            with playwright_page(browser, server.url, width=width, height=height, dark=dark) as page:
                expect(page.locator("canvas").first).to_be_visible()
                page.wait_for_timeout(DRAWN_MS)
                page.screenshot(path=INTO / name, full_page=True)


@contextlib.contextmanager
def spike(server: Server, *options: str) -> Iterator[None]:
    """One that runs meanwhile, and has accounted for all of its orders at the end."""
    ledger = server.data.with_name("ledger.jsonl")
    ledger.unlink(missing_ok=True)
    command = [str(DECOUPLED), "spike", "--data", str(server.data), "--ledger", str(ledger), *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
        yield
        assert running.wait(WITHIN_MS / 1000) == 0


if __name__ == "__main__":
    main()
