"""A browser that runs a page: Debian's Chromium, without a window. Where there is none, its tests are skipped."""

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
