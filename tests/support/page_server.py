"""The page's files with answers that a test makes up: for states of a server that a real one is seldom in, and that the
page has to tell in words and colours all the same. What a real server answers is seen with real ones."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from tests.support.server import ROOT

PAGE = ROOT / "decoupled" / "dashboard" / "page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';"
    " form-action 'self'; frame-ancestors 'none'"
)
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

Ask = Callable[[dict[str, str]], tuple[int, Any]]
"""Parameters, or the members of a JSON body, to a status and what the JSON of the answer is made of."""


@contextlib.contextmanager
def page_server(answers: dict[str, Ask]) -> Iterator[str]:
    """The page's address. `answers`: by method and route, "GET live"; everything else that is asked for is a 404."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            name = "index.html" if address.path == "/" else address.path.removeprefix("/-/assets/")
            if address.path == "/" or address.path.startswith("/-/assets/"):
                if name in {file.name for file in PAGE.iterdir()}:
                    file = PAGE / name
                    self._send(200, file.read_bytes(), f"{_TYPES[file.suffix]}; charset=utf-8")
                else:
                    self._send(404, b"", "text/plain")
            else:
                self._answer("GET", address.path, dict(parse_qsl(address.query)))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self._answer("POST", urlsplit(self.path).path, msgspec.json.decode(body))

        def _answer(self, method: str, path: str, asked: dict[str, str]) -> None:
            answer = answers.get(f"{method} {path.removeprefix('/-/')}")
            status, value = answer(asked) if answer else (404, {"detail": "no such route"})
            self._send(status, msgspec.json.encode(value), "application/json")

        def _send(self, status: int, body: bytes, media_type: str) -> None:
            self.send_response(status)
            self.send_header("content-type", media_type)
            self.send_header("content-security-policy", POLICY)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # a page that was closed meanwhile
                self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
