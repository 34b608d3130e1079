"""A gateway in front of a real server, that checks signatures or changes answers. For tests only."""

from __future__ import annotations

import hashlib
import http.client
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.server import serving

KEY, SECRET, TOKEN = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", "session+token/=="


AUTHORIZATION = re.compile(
    rf"AWS4-HMAC-SHA256 Credential={KEY}/\d{{8}}/(\S+?)/(\S+?)/aws4_request, ?SignedHeaders=(\S+?), ?Signature=(\w+)"
)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("orders") / "data") as server:
        yield server.url


class Front(BaseHTTPRequestHandler):
    """Stands before a real endpoint as a gateway does. Subclasses say who may pass and what becomes of an answer."""

    protocol_version = "HTTP/1.1"
    upstream: str

    def admits(self, _body: bytes) -> bool:
        return True

    def change(self, answer: bytes) -> bytes:
        return answer

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if not self.admits(body):
            self._answer(403, [("content-type", "application/json")], b'{"message":"Forbidden"}')
            return
        connection = http.client.HTTPConnection(self.upstream.removeprefix("http://"))
        connection.request(self.command, self.path, body, dict(self.headers))
        response = connection.getresponse()
        headers = [(n, v) for n, v in response.getheaders() if n.lower() != "content-length"]
        self._answer(response.status, headers, self.change(response.read()))
        connection.close()

    do_POST = do_GET  # noqa: N815

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in [*headers, ("content-length", str(len(body)))]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def fronting(endpoint: str, **behaviour: object) -> Iterator[str]:
    """Where one that behaves so stands before the endpoint."""
    handler = type("Behaviour", (Front,), {"upstream": endpoint, **behaviour})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def front(endpoint: str) -> Iterator[Callable[..., str]]:
    with ExitStack() as servers:
        yield lambda **behaviour: servers.enter_context(fronting(endpoint, **behaviour))


def signed(request: Front, body: bytes) -> bool:
    """Whether the request has the signature that AWS's own library gives it."""
    found = AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    if not found or request.headers.get("x-amz-security-token") != TOKEN:
        return False
    region, service, names, signature = found.groups()
    signer = SigV4Auth(Credentials(KEY, SECRET), service, region)
    canonical = "\n".join(
        [
            request.command,
            signer._normalize_url_path(request.path),  # for all services but S3, the path percent-encoded once more
            "",
            *(f"{name}:{' '.join(request.headers[name].split())}" for name in names.split(";")),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        ]
    )
    aws_request = AWSRequest()
    aws_request.context["timestamp"] = request.headers["x-amz-date"]
    expected = signer.signature(signer.string_to_sign(aws_request, canonical), aws_request)
    return (region, service, signature) == ("eu-west-1", "execute-api", expected)
