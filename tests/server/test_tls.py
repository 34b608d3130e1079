"""HTTPS: what a client is shown, what becomes of its last answer, who shakes hands for ever, and other certificates at
SIGHUP. OpenSSL on both sides; on the client's through Python, curl and aiohttp."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from decoupled.core import limits
from decoupled.core.problem import answer
from decoupled.server.certificate import Certificate
from decoupled.server.http import listener as http_server
from decoupled.server.http.listener import HttpServer
from decoupled.server.listening import bind, listen
from tests.support.certificates import Files
from tests.support.fronts import CHECK, Clients, open_fronts, ready, renewed, serves
from tests.support.honest import ORDER
from tests.support.server import DECOUPLED, LAUNCH, ROOT, Client, Server, alive, wait_for

OPTIONS = ("--workloads", "checks", "--concurrency", "1", "--log-level", "INFO")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    files = Files(tmp_path)
    files.issue()
    return files


@pytest.fixture
def server(tmp_path: Path, files: Files) -> Iterator[Server]:
    """Not started yet."""
    server = Server(tmp_path / "data", *OPTIONS, "--fronts", "2", *files.options)
    server.trusts = files.trusts()
    yield server
    server.end()


def shown(server: Server) -> int:
    """The serial number of the certificate that a new client is shown."""
    from cryptography import x509

    with Client(server) as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        der = client.socket.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der).serial_number


# --- a client -----------------------------------------------------------------


def test_a_client_that_trusts_the_authority_is_served_by_https_alone(server: Server) -> None:
    server.start()
    assert server.post("/checks", {}).status == 202
    with Client(server) as client:
        serves(client)
        assert isinstance(client.socket, ssl.SSLSocket)
        assert client.socket.version() == "TLSv1.3"
    server.trusts = ssl.create_default_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        Client(server)
    assert "Traceback" not in server.logged()


def test_tls_1_2_is_the_oldest_and_http_1_1_is_what_is_spoken(server: Server) -> None:
    server.start()
    assert server.trusts is not None
    server.trusts.set_alpn_protocols(["h2", "http/1.1"])
    server.trusts.maximum_version = ssl.TLSVersion.TLSv1_2
    with Client(server) as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        assert (client.socket.version(), client.socket.selected_alpn_protocol()) == ("TLSv1.2", "http/1.1")
        serves(client)
    server.trusts.set_ciphers("ALL:@SECLEVEL=0")
    server.trusts.minimum_version = server.trusts.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match=r"alert protocol version|internal error"):
        Client(server)


def test_plain_http_is_told_where_it_is(server: Server) -> None:
    server.start()
    server.trusts = None
    with Client(server) as client:
        client.send(CHECK)
        refused = client.answer()
        assert (refused.status, refused.headers["connection"]) == (400, "close")
        assert "https://" in refused.json["detail"]
        assert client.file.read() == b""
    assert server.rows("SELECT count(*) FROM messages") == [(0,)]


def test_what_is_neither_tls_nor_http_is_let_go(server: Server) -> None:
    server.start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as noise, contextlib.suppress(OSError):
        noise.sendall(b"\x00\xff" * 40_000)
        while noise.recv(65_536):
            pass
    with Client(server) as client:
        serves(client)
    assert "Traceback" not in server.logged()


def test_the_script_checks_a_server_by_https(server: Server, files: Files) -> None:
    server.options = ("--workloads", "orders", *files.options)
    server.start()
    script = ROOT / "scripts" / "test-orders.sh"
    environment = {**os.environ, "CURL_CA_BUNDLE": str(files.trusted)}
    result = subprocess.run([script, server.url], env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr


def test_tools_find_their_server_by_https(server: Server, files: Files) -> None:
    server.options = ("--workloads", "orders", *files.options)
    server.start()
    environment = {**os.environ, "SSL_CERT_FILE": str(files.trusted)}

    def tool(*arguments: str) -> str:
        command = [str(DECOUPLED), *arguments, "--data", str(server.data)]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stdout + result.stderr
        return str(result.stdout)

    assert json.loads(tool("status", "--json"))["breakers"]["orders"]["state"] == "closed"
    tool("spike", "--orders", "50", "--connections", "4")


def test_others_are_let_in_without_keys_by_https_as_little_as_by_http(server: Server, files: Files) -> None:
    server.options = ("--host", "0.0.0.0", *files.options)
    server.spawn()
    assert server.wait() == 1
    assert "nobody would ask who they are" in server.logged()


# --- the last answer ----------------------------------------------------------


def test_a_client_that_sends_more_than_it_may_still_gets_the_answer(server: Server) -> None:
    server.start()
    with Client(server) as client:
        client.post(b"{", path="/checks", length=limits.MAX_REQUEST_BYTES + 1)
        for _ in range(64):
            client.send(b" " * 65_536)
        assert client.answer().status == 413
        assert client.file.read() == b""


def test_a_client_that_has_said_all_still_gets_its_answers(server: Server) -> None:
    server.start()
    with Client(server) as client:
        client.send(CHECK * 20)
        socket.socket.shutdown(client.socket, socket.SHUT_WR)
        assert [client.answer().status for _ in range(20)] == [202] * 20


def test_a_client_that_reads_late_gets_all_of_what_is_large(server: Server) -> None:
    server.start()
    path = "/docs/rapidoc-9.3.8.js"
    whole = server.get(path).body
    with Client(server) as client:
        client.send(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path.encode() * 20 + CHECK)
        assert server.get("/health").status == 200  # nobody waits for it
        for _ in range(20):
            assert client.answer().body == whole
        assert client.answer().status == 202


def test_a_large_body_comes_whole(server: Server, files: Files) -> None:
    server.options = ("--workloads", "orders", *files.options)
    server.start()
    order = json.loads(ORDER)
    order["lines"] = [{"sku": f"{n:064}", "quantity": 1, "unit_price": "39.90"} for n in range(500)]
    ids = server.accept("/orders", *[order] * 30)
    for record in server.wait_until("processed", *(f"/orders/{id_}" for id_ in ids)):
        assert record["result"]["lines"] == order["lines"]


def test_a_bug_in_one_clients_connection_ends_that_one_alone(server: Server, tmp_path: Path) -> None:
    bug = tmp_path / "bug"
    server.options += ("--fronts", "0")
    server.program = (*LAUNCH, "bug", f"connection={bug}")
    server.start()
    with Client(server) as other, Client(server) as client:
        serves(client)
        bug.touch()
        client.send(CHECK)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            assert client.file.read() == b""
        serves(other)
    assert server.stop() == 0, server.logged()


# --- handshakes ---------------------------------------------------------------


def test_a_handshake_that_does_not_come_to_its_end_is_cut_off(server: Server) -> None:
    server.program = (*LAUNCH, "limits", "HANDSHAKE_S=0.5")
    server.start()
    hello = first_flight()
    for sent in (b"", hello[:40], hello):  # silent; half of the first flight; not the second
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
            client.sendall(sent)
            with contextlib.suppress(ConnectionError):
                while client.recv(65_536):
                    pass
    with Client(server) as client:
        serves(client)
        threading.Event().wait(1.0)  # longer than a handshake may take: this one is done
        serves(client)


def first_flight() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="shop.example")
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


def test_who_never_ends_a_handshake_gives_way_to_who_does(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Places are 64, and 300 take what they can get, half of them in the middle of the handshake."""
    monkeypatch.setattr(limits, "MAX_CLIENTS", 64)
    monkeypatch.setattr(http_server, "SWEEP_S", 3600.0)
    hello = first_flight()

    async def run() -> None:
        context = Certificate.read(files.chain, files.key).context()
        loop = asyncio.get_running_loop()
        server = HttpServer(lambda _, reply: reply(answer(200, {})), loop, tls=context)
        with bind("127.0.0.1", 0) as listener:
            listen(listener)
            address = listener.getsockname()
            server.start(listener)
            crowd = []
            for number in range(300):
                _, writer = await asyncio.open_connection(*address)
                writer.write(hello * (number % 2))
                crowd.append(writer)
            async with asyncio.timeout(20):
                reader, honest = await asyncio.open_connection(*address, ssl=files.trusts())
                honest.write(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
                assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            assert len(server.connections) <= 64
            for writer in [*crowd, honest]:
                writer.close()
            await server.stop()
            assert not server.connections

    asyncio.run(run())


def test_a_server_that_stops_does_not_wait_for_handshakes(server: Server) -> None:
    server.start()
    with contextlib.ExitStack() as stack:
        for sent in (b"", first_flight()):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
            client.sendall(sent)
        ready(server, 2)
        assert server.stop(seconds=5) == 0


# --- other certificates -------------------------------------------------------


def test_another_certificate_is_shown_after_the_signal_and_no_request_fails(server: Server, files: Files) -> None:
    server.start()
    before = ready(server, 2)
    first = shown(server)
    with Clients(server, threads=4) as clients:
        clients.go_on()
        second = files.issue()
        assert shown(server) == first != second
        os.kill(server.pid, signal.SIGHUP)
        renewed(server, before, 2)
        assert shown(server) == second
        clients.go_on()
    assert clients.trouble == []
    assert server.get("/health").json["status"] == "ok"


def test_without_fronts_too(server: Server, files: Files) -> None:
    server.options += ("--fronts", "0")
    server.start()
    with Client(server) as client:
        serves(client)
        second = files.issue()
        os.kill(server.pid, signal.SIGHUP)
        wait_for(lambda: shown(server) == second)
        serves(client)


@pytest.mark.parametrize("fronts", ["0", "2"])
def test_a_certificate_that_cannot_be_used_is_told_of_and_that_of_before_is_served(
    server: Server, files: Files, fronts: str
) -> None:
    server.options += ("--fronts", fronts)
    server.start()
    before = ready(server, int(fronts))
    first = shown(server)
    key = files.key.read_bytes()
    second = files.issue()
    files.key.write_bytes(key)
    os.kill(server.pid, signal.SIGHUP)
    why = "the key is not that of the certificate"
    wait_for(lambda: server.get("/health").json["detail"] or "", lambda detail: why in detail)
    wait_for(server.logged, lambda logged: "the certificate is not renewed" in logged)  # of another process than health
    if before:
        renewed(server, before, 2)
        killed = open_fronts(server)[0]
        os.kill(killed, signal.SIGKILL)  # another one starts, and has what the others have
        wait_for(lambda: not alive(killed) and len(open_fronts(server)) == 2)
    assert {shown(server) for _ in range(8)} == {first} != {second}
    third = files.issue()
    os.kill(server.pid, signal.SIGHUP)
    wait_for(lambda: server.get("/health").json["status"] == "ok")
    wait_for(lambda: shown(server) == third)


def test_a_certificate_that_ends_soon_is_told_of(server: Server, files: Files) -> None:
    files.issue(days=13.9)
    server.start()
    told = server.get("/health").json
    assert told["status"] == "degraded"
    assert "the certificate ends at 20" in told["detail"]
    assert "renew it" in server.logged()
    files.issue(days=14.1)
    os.kill(server.pid, signal.SIGHUP)
    wait_for(lambda: server.get("/health").json["status"] == "ok")


def spoil(files: Files, how: str) -> str:
    """The files; what is then said of them."""
    match how:
        case "no certificate":
            files.chain.unlink()
            return f"{files.chain} cannot be read: No such file"
        case "no key":
            files.key.unlink()
            return f"{files.key} cannot be read: No such file"
        case "a directory":
            files.chain.unlink()
            files.chain.mkdir()
            return f"{files.chain} cannot be read: Is a directory"
        case "another key":
            chain = files.chain.read_bytes()
            files.issue()
            files.chain.write_bytes(chain)
            return "the key is not that of the certificate"
        case "no PEM":
            files.chain.write_bytes(b"\x30\x82")
            return f"{files.chain} has no certificate in PEM"
        case "the wrong way round":
            files.chain.write_bytes(files.key.read_bytes())
            return f"{files.chain} has no certificate in PEM"
        case "damaged":
            lines = files.chain.read_bytes().splitlines(keepends=True)
            files.chain.write_bytes(b"".join([lines[0], *lines[3:]]))
            return f"{files.key} and {files.chain} cannot be used: "
        case "encrypted":
            encrypt(files.key)
            return f"{files.key} is encrypted"
        case "open to others":
            files.key.chmod(0o644)
            return "others may read or change"
        case _:
            raise ValueError(how)


def encrypt(key: Path) -> None:
    new = key.with_suffix(".new")
    command = ["openssl", "pkey", "-aes256", "-passout", "pass:secret", "-in", str(key), "-out", str(new)]
    subprocess.run(command, check=True, capture_output=True)
    new.rename(key)


@pytest.mark.parametrize(
    "how",
    [
        *("no certificate", "no key", "a directory", "another key", "no PEM", "the wrong way round", "damaged"),
        *("encrypted", "open to others"),
    ],
)
def test_a_server_does_not_start_with_files_that_do_not_do_and_says_why(server: Server, files: Files, how: str) -> None:
    why = spoil(files, how)
    server.spawn()
    assert server.wait() == 1
    assert why in server.logged()
    assert "Traceback" not in server.logged()


def test_a_certificate_needs_its_key(server: Server, files: Files) -> None:
    server.options = ("--tls-cert", str(files.chain))
    server.spawn()
    assert server.wait() == 1
    assert "a certificate needs its key" in server.logged()


def test_a_group_may_read_the_key(server: Server, files: Files) -> None:
    files.key.chmod(0o640)
    server.start()
    assert server.get("/health").status == 200
