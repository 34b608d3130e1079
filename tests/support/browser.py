"""A browser that runs a page: Debian's Chromium, without a window. Where there is none, its tests are skipped. With
`said`, a page runs one script and says what came out; with `playwright_page`, a test looks, clicks and types."""

from __future__ import annotations

import contextlib
import html
import http.server
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_PAGE = """<!doctype html><title>t</title><pre id="said"></pre><script>
async function run() {{ {script} }}
run().catch(String).then(said => {{ document.getElementById("said").textContent = "said: " + said }});
</script>"""


@contextlib.contextmanager
def page(script: str) -> Iterator[str]:
    """The origin of a page that runs this: the body of an async function that returns what it has to say."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = _PAGE.format(script=script).encode()
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def said(origin: str, profile: Path) -> str:
    """What the page of this origin says, once it has run."""
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={profile}", "--timeout=20000", "--virtual-time-budget=10000", "--dump-dom", origin]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r"said: (.*?)</pre>", shown, re.DOTALL)
    assert found is not None, shown
    return html.unescape(found[1])


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
WITHIN_MS = 20_000.0  # of each wait of a page
_NETWORK = "Failed to load resource"  # how Chromium tells of answers with 4xx and 5xx, and of none, which tests cause


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser, which has as many pages as one likes; each is of somebody else, with cookies of its own."""
    assert CHROMIUM is not None
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-color-profile=srgb"]
    expect.set_options(timeout=WITHIN_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def playwright_page(
    browser: Browser, url: str, *, width: int = 1440, height: int = 900, dark: bool = False
) -> Iterator[Page]:
    """A page at this address. Fails at the end if a script raised anything, or the browser complained: of what the
    policy of content forbids, for one."""
    complaints: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(_NETWORK):
            complaints.append(message.text)

    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        locale="en-GB",
        timezone_id="UTC",
        reduced_motion="reduce",
    )
    try:
        page = context.new_page()
        page.set_default_timeout(WITHIN_MS)
        page.on("console", heard)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        yield page
        assert complaints == []
    finally:
        context.close()
