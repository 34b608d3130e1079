"""scripts/test-orders.sh: passes against a real server, signs as AWS wants it, and fails when something is wrong."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.server import ROOT, serving

SCRIPT = ROOT / "scripts" / "test-orders.sh"
KEY, SECRET, TOKEN = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", "session+token/=="
AUTHORIZATION = re.compile(
    rf"AWS4-HMAC-SHA256 Credential={KEY}/\d{{8}}/(\S+?)/(\S+?)/aws4_request, ?SignedHeaders=(\S+?), ?Signature=(\w+)"
)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("orders") / "data") as server:
        yield server.url


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        [SCRIPT, *arguments], env={**clean, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


def test_it_passes_against_a_real_server_again_and_again(endpoint: str) -> None:
    for url in (endpoint, f"{endpoint}/"):
        result = run(url)
        assert result.returncode == 0, result.stdout + result.stderr
        assert "13 orders accepted, all stored with the right totals" in result.stdout


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


@pytest.fixture
def front(endpoint: str) -> Iterator[Callable[..., str]]:
    servers = []

    def start(**behaviour: object) -> str:
        handler = type("Behaviour", (Front,), {"upstream": endpoint, **behaviour})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def signed(request: Front, body: bytes) -> bool:
    """Whether the request has the signature that AWS's own library gives it."""
    found = AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    if not found or request.headers.get("x-amz-security-token") != TOKEN:
        return False
    region, service, names, signature = found.groups()
    canonical = "\n".join(
        [
            request.command,
            request.path,
            "",
            *(f"{name}:{' '.join(request.headers[name].split())}" for name in names.split(";")),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        ]
    )
    signer = SigV4Auth(Credentials(KEY, SECRET), service, region)
    aws_request = AWSRequest()
    aws_request.context["timestamp"] = request.headers["x-amz-date"]
    expected = signer.signature(signer.string_to_sign(aws_request, canonical), aws_request)
    return (region, service, signature) == ("eu-west-1", "execute-api", expected)


def test_it_signs_every_request_as_aws_wants_it(front: Callable[..., str]) -> None:
    credentials = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN}
    url = front(admits=signed)
    result = run(url, SIGN="aws", AWS_REGION="eu-west-1", **credentials)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "signed with SigV4 for eu-west-1" in result.stdout
    assert run(url, SIGN="aws", AWS_REGION="eu-west-2", **credentials).returncode == 1
    assert run(url, **credentials).returncode == 1, "not an AWS host, so it was not to sign unasked"


def test_it_sends_a_bearer_token(front: Callable[..., str]) -> None:
    url = front(admits=lambda request, body: request.headers.get("authorization") == "Bearer abc.def")
    assert run(url, TOKEN="abc.def").returncode == 0  # noqa: S106
    assert run(url, TOKEN="other").returncode == 1  # noqa: S106


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (b'"total":"0.30"', b'"total":"0.30000000000000004"', "total of"),
        (b'"status":"processed"', b'"status":"dead"', "status of"),
        (b'"pointer":"#/total"', b'"pointer":"#"', "body"),
        (b'"index":2', b'"index":1', "body"),
        (b'"status":415', b'"status":400', "status in the problem"),
        (b'"id":', b'"ID":', "id"),
    ],
)
def test_it_fails_at_the_first_mismatch_and_says_what_it_expected(
    front: Callable[..., str], old: bytes, new: bytes, what: str
) -> None:
    result = run(front(change=lambda request, answer: answer.replace(old, new)), WAIT_S="5")
    assert result.returncode == 1
    assert re.search(rf"MISMATCH in {what}.*\n  expected: .*\n  got: ", result.stderr), result.stderr


def test_an_order_that_is_never_stored_is_a_mismatch(front: Callable[..., str]) -> None:
    queued = b'{"id":"x","status":"queued"}'
    forever_queued = front(change=lambda request, answer: queued if b'"processed"' in answer else answer)
    result = run(forever_queued, WAIT_S="1")
    assert result.returncode == 1
    assert "stored within 1 s" in result.stderr


def test_nobody_there_is_an_error_and_so_is_no_url() -> None:
    assert "cannot reach" in run("http://127.0.0.1:9").stderr
    for arguments in ((), ("ftp://x",), ("a", "b")):
        assert run(*arguments).returncode == 2
    assert "AWS_REGION" in run("https://api.example.com", SIGN="aws").stderr
    assert Path(SCRIPT).stat().st_mode & 0o111
