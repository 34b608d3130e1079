"""The gateway of one machine: its routes, bodies of every kind, and clients likewise, bad ones included. Over real
sockets."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Iterator

import pytest

from decoupled.core import limits
from tests.support.server import Client, Server, serving, wait_for

ENTRY = b'{"account": 1, "amount": 1}'
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("gateway") / "data", "--workloads", "ledger,echoes") as server:
        yield server
        assert "Traceback" not in server.log.read_text()


def test_a_body_that_is_not_utf_8_is_refused(server: Server) -> None:
    answer = server.ask("POST", "/ledger", b'{"account": "\xff"}', JSON)
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"


# --- routes -------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "//", "/ledger/", "/ledger//x", "//ledger", "/a/b/c/d", "/ledger/x/", "/.", "/%2F", "/ledger/a/b/c"]
)
def test_what_is_not_there_is_404(server: Server, path: str) -> None:
    for method in ("GET", "POST"):
        answer = server.ask(method, path, ENTRY if method == "POST" else None, JSON)
        assert answer.status in (404, 405), (method, path)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["status"] == answer.status


@pytest.mark.parametrize(
    "path",
    [
        "/ledger/%00",
        "/ledger/%FF%FE",
        "/ledger/é",
        "/ledger/%C3%A9",
        "/ledger/..",
        "/ledger/%2e%2e",
        "/ledger/" + "x" * 5000,
    ],
)
def test_an_odd_id_is_just_not_there(server: Server, client: Client, path: str) -> None:
    client.send(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    assert client.answer().status in (400, 404)
    assert server.get("/health").status == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("OPTIONS", "/ledger", "GET, HEAD, POST"),
        ("PUT", "/ledger", "GET, HEAD, POST"),
        ("POST", "/ledger/x", "GET, HEAD"),
        ("DELETE", "/ledger/x", "GET, HEAD"),
        ("POST", "/ledger/accounts/1", "GET, HEAD"),
        ("POST", "/health", "GET, HEAD"),
    ],
)
def test_another_method_is_405_and_says_which_is_allowed(client: Client, method: str, path: str, allowed: str) -> None:
    client.send(f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".encode())
    answer = client.answer(to_head=method == "HEAD")
    assert (answer.status, answer.headers.get("allow")) == (405, allowed)
    client.send(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")  # and the connection is good for the next
    assert client.answer().status == 200


# --- bodies -------------------------------------------------------------------


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


def test_a_chunked_body_is_taken_whole(server: Server, client: Client) -> None:
    head = b"POST /ledger HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    client.send(head + chunked(ENTRY[:5], ENTRY[5:6], ENTRY[6:]))
    answer = client.answer()
    assert answer.status == 202
    assert server.wait_until("processed", answer.headers["location"])[0]["result"] == json.loads(ENTRY)


@pytest.mark.parametrize(
    ("length", "headers"), [(1 << 30, []), (limits.MAX_REQUEST_BYTES + 1, ["expect: 100-continue"])]
)
def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(
    client: Client, length: int, headers: list[str]
) -> None:
    client.post(b"", "content-type: application/json", *headers, length=length)
    answer = client.answer()
    assert answer.status == 413
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_chunked_body_without_end_is_refused_before_it_is_read_to_its_end(client: Client) -> None:
    client.send(
        b"POST /ledger HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    sent = 0
    try:
        for _ in range(64):
            client.send(chunk)
            sent += 1
    except OSError:
        pass  # the server hung up
    assert sent < 64 or client.answer().status == 413


def test_the_largest_body_is_taken(server: Server) -> None:
    entries = [{"account": 2, "amount": 1}] * limits.MAX_BATCH_ENTRIES
    body = json.dumps(entries).encode().ljust(limits.MAX_REQUEST_BYTES)
    answer = server.ask("POST", "/ledger", body, JSON)
    assert answer.status == 202
    assert len(answer.json["accepted"]) == limits.MAX_BATCH_ENTRIES
    assert server.ask("POST", "/ledger", body + b" ", JSON).status == 413


@pytest.mark.parametrize("length", ["-1", "x", "1, 2", "99999999999999999999999"])
def test_a_length_that_is_none_is_refused(server: Server, client: Client, length: str) -> None:
    client.send(f"POST /ledger HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n".encode())
    assert client.answer().status in (400, 413)
    assert server.get("/health").status == 200


def test_a_header_that_is_not_text_is_no_reason_to_fail(server: Server, client: Client) -> None:
    client.post(ENTRY, "content-type: application/json", "x-name: \xff\xfe")
    assert client.answer().status in (202, 400)
    assert server.get("/health").status == 200


# --- clients ------------------------------------------------------------------


def test_requests_in_a_row_on_one_connection_are_answered_in_order(client: Client) -> None:
    for number in range(20):
        client.post(ENTRY if number % 3 else b"{", "content-type: application/json")
    assert [client.answer().status for _ in range(20)] == [202 if number % 3 else 400 for number in range(20)]


def test_a_request_that_comes_byte_by_byte_is_taken(server: Server, client: Client) -> None:
    request = b"POST /ledger HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 27\r\n\r\n"
    for byte in request + ENTRY:
        client.send(bytes([byte]))
    assert client.answer().status == 202


def test_clients_that_never_finish_hold_up_nobody(server: Server) -> None:
    clients = [Client(server) for _ in range(60)]
    try:
        for client, kind in zip(clients, itertools.cycle(range(4)), strict=False):
            if kind == 0:
                client.send(b"POST /led")
            elif kind == 1:
                client.post(ENTRY[:5], "content-type: application/json", length=27)
            elif kind == 2:
                client.post(b"[", "content-type: application/json", length=limits.MAX_REQUEST_BYTES)
        for _ in range(20):
            assert server.ask("POST", "/ledger", ENTRY, JSON).status == 202
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    "begun",
    [
        b"content-length: 40\r\n\r\n" + ENTRY,
        b"content-length: 200000\r\n\r\n" + ENTRY,
        b"transfer-encoding: chunked\r\n\r\n" + chunked(ENTRY[:20]).removesuffix(b"0\r\n\r\n"),
    ],
    ids=["small", "large", "chunked"],
)
def test_a_client_that_leaves_in_the_middle_of_its_body_sends_nothing(server: Server, begun: bytes) -> None:
    accepted = "SELECT count(*) FROM messages WHERE workload = 'ledger'"
    before = server.rows(accepted)
    for _ in range(5):
        with Client(server) as client:
            client.send(b"POST /ledger HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n" + begun)
    for _ in range(20):
        assert server.get("/health").status == 200
    assert server.rows(accepted) == before
    assert "request failed" not in server.logged()


def test_what_a_client_sent_that_did_not_wait_for_the_answer_is_stored(server: Server) -> None:
    ((before,),) = server.rows("SELECT count(*) FROM messages WHERE workload = 'ledger'")
    for _ in range(50):
        with Client(server) as client:
            client.post(ENTRY, "content-type: application/json")
            client.socket.shutdown(socket.SHUT_RDWR)
    count = "SELECT count(*) FROM messages WHERE workload = 'ledger'"
    wait_for(lambda: server.rows(count)[0][0], lambda after: 0 < after - before <= 50)
    assert server.get("/health").status == 200
    assert "request failed" not in server.logged()


def test_what_is_not_http_is_no_trouble(server: Server) -> None:
    for noise in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\r\n" * 100, b"GET\r\n\r\n", b"\x00" * 1000):
        with Client(server) as client:
            client.send(noise)
    assert server.get("/health").status == 200


def test_an_expected_continue_is_given(client: Client) -> None:
    client.post(b"", "content-type: application/json", "expect: 100-continue", length=len(ENTRY))
    assert client.file.readline().split()[1] == b"100"
    client.file.readline()
    client.send(ENTRY)
    assert client.answer().status == 202
