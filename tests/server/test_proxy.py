"""nginx before a server, as docs/operations.md prints it: only its ports, its paths and its upstream are the test's."""

from __future__ import annotations

import contextlib
import http.client
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from decoupled.core import limits
from tests.support.certificates import Files
from tests.support.fronts import clients_of
from tests.support.server import ROOT, Answer, Server, free_port, serving, wait_for

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="there is no nginx")
CHECK = {"content-type": "application/json"}


@dataclass
class Proxy:
    """nginx, and what its clients trust."""

    https: int  # its ports
    http: int
    trusts: ssl.SSLContext

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        source: str = "127.0.0.1",
    ) -> Answer:
        """One request, on a connection of its own."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.https, timeout=20, context=self.trusts, source_address=(source, 0)
        )
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(
                response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
            )


def printed(directory: Path, files: Files, upstream: int, https: int, http_: int) -> str:
    """The configuration, for ports and paths of the test's."""
    text = (ROOT / "docs" / "operations.md").read_text()
    configuration: str
    (configuration,) = re.findall(r"^```nginx\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    kept = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    ours = {
        "listen 80;": f"listen 127.0.0.1:{http_};",
        "listen 443 ssl http2;": f"listen 127.0.0.1:{https} ssl http2;",
        "server 127.0.0.1:8080;": f"server 127.0.0.1:{upstream};",
        "/etc/ssl/shop/fullchain.pem": str(files.chain),
        "/etc/ssl/shop/privkey.pem": str(files.key),
        "http {": "http {\naccess_log off;\n" + "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in kept),
    }
    for theirs, replacement in ours.items():
        assert configuration.count(theirs) == 1, theirs
        configuration = configuration.replace(theirs, replacement)
    return configuration


@contextlib.contextmanager
def nginx(directory: Path, upstream: int) -> Iterator[Proxy]:
    assert NGINX is not None
    directory.mkdir()
    files = Files(directory)
    files.issue()
    https, http_ = free_port(), free_port()
    (directory / "nginx.conf").write_text(printed(directory, files, upstream, https, http_))
    beside = f"daemon off; master_process off; pid {directory}/pid; error_log {directory}/error.log;"
    command = [NGINX, "-p", str(directory), "-c", str(directory / "nginx.conf"), "-g", beside]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            wait_for(lambda: listens(https) or process.poll() is not None)
            assert process.poll() is None, process.stderr and process.stderr.read()
            yield Proxy(https, http_, files.trusts())
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("server") / "data"
    with serving(data, "--workloads", "checks", "--concurrency", "1", "--fronts", "1") as server:
        yield server


@pytest.fixture
def proxy(server: Server, tmp_path: Path) -> Iterator[Proxy]:
    with nginx(tmp_path / "nginx", server.port) as proxy:
        yield proxy


def test_what_is_sent_by_https_is_accepted_and_read(proxy: Proxy) -> None:
    accepted = proxy.ask("POST", "/checks", b"{}", CHECK)
    assert accepted.status == 202
    location = accepted.headers["location"]
    wait_for(lambda: proxy.ask("GET", location).json["status"], lambda status: status == "processed")


def test_connections_to_the_server_are_kept(proxy: Proxy, server: Server) -> None:
    for _ in range(30):
        assert proxy.ask("POST", "/checks", b"{}", CHECK).status == 202
    assert 1 <= sum(clients_of(server).values()) <= 4  # what came is still there


def test_plain_http_is_sent_to_https(proxy: Proxy) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", proxy.http, timeout=20)) as connection:
        connection.request("POST", "/checks", b"{}", {**CHECK, "host": "shop.example"})
        response = connection.getresponse()
        assert (response.status, response.headers["location"]) == (308, "https://shop.example/checks")


@pytest.mark.parametrize(
    "path", ["/health", "/%68ealth", "//health", "/checks/../health", "/health?x=1", "/./health", "/health#x"]
)
def test_strangers_do_not_see_the_health(proxy: Proxy, path: str) -> None:
    assert proxy.ask("GET", "/health").status == 200
    assert proxy.ask("GET", path, source="127.0.0.2").status == 403


def test_a_body_is_as_large_as_the_server_takes_it(proxy: Proxy) -> None:
    most = limits.MAX_REQUEST_BYTES
    taken = proxy.ask("POST", "/checks", b"[" + b" " * (most - 2) + b"]", CHECK)
    assert (taken.status, taken.headers["content-type"]) == (422, "application/problem+json")
    assert proxy.ask("POST", "/checks", b" " * (most + 1), CHECK).status == 413


def test_an_address_that_asks_too_much_is_told_when_to_come_again_and_others_go_on(proxy: Proxy) -> None:
    answers = [proxy.ask("POST", "/checks", b"{}", CHECK, source="127.0.0.3") for _ in range(50)]
    connection = http.client.HTTPSConnection("127.0.0.1", proxy.https, timeout=20, context=proxy.trusts)
    with contextlib.closing(connection):
        for _ in range(2_000):
            connection.request("GET", "/openapi.json")
            response = connection.getresponse()
            body = response.read()
            if response.status == 429:
                break
    assert (response.status, response.headers["retry-after"]) == (429, "1")
    assert response.headers["content-type"] == "application/problem+json"
    assert b'"resend":"safe"' in body
    assert {answer.status for answer in answers} == {202}
    assert proxy.ask("POST", "/checks", b"{}", CHECK, source="127.0.0.4").status == 202


@pytest.mark.parametrize("path", ["/checks", "/checks/some-id/events"])
def test_an_event_stream_goes_on_as_it_comes(tmp_path: Path, path: str) -> None:
    """The second event is only sent when the first one has arrived."""
    arrived = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as upstream:
        threading.Thread(target=_stream, args=(upstream, arrived), daemon=True).start()
        with nginx(tmp_path / "nginx", upstream.getsockname()[1]) as proxy:
            connection = http.client.HTTPSConnection("127.0.0.1", proxy.https, timeout=20, context=proxy.trusts)
            with contextlib.closing(connection):
                connection.request("GET", path, headers={"accept": "text/event-stream"})
                response = connection.getresponse()
                assert response.readline() == b"data: 1\n"
                arrived.set()
                assert response.read() == b"\ndata: 2\n\n"


def _stream(upstream: socket.socket, arrived: threading.Event) -> None:
    client, _ = upstream.accept()
    with client:
        client.recv(65_536)
        client.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        client.sendall(b"9\r\ndata: 1\n\n\r\n")
        assert arrived.wait(20)
        client.sendall(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")
