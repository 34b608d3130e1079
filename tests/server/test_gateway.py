"""The gateway of one machine: the same event that an HTTP API sends to Lambda (payload format 2.0), and clients of
every kind, bad ones included. Over real sockets."""

from __future__ import annotations

import base64
import calendar
import itertools
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from decoupled.core import limits
from tests.support.server import LAUNCH, Client, Server, wait_for

ENTRY = b'{"account": 1, "amount": 1}'
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gateway")


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[Server]:
    program = (*LAUNCH, "events", str(directory / "events"))
    server = Server(directory / "data", "--workloads", "ledger,echoes", "--fronts", "0", program=program)
    try:
        yield server.start()
        assert server.stop() == 0, server.logged()
        assert "Traceback" not in server.log.read_text()
    finally:
        server.end()


def events(server: Server) -> list[dict[str, Any]]:
    file = server.directory / "events"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def event_of(server: Server, method: str, path: str, body: bytes | None = None, **headers: str) -> dict[str, Any]:
    """The event that this request becomes."""
    before = len(events(server))
    server.ask(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    (event,) = events(server)[before:]
    return event


# --- the event ----------------------------------------------------------------


def test_a_post_becomes_an_event_of_format_2_0(server: Server) -> None:
    before_ms = time.time_ns() // 1_000_000
    event = event_of(server, "POST", "/ledger", ENTRY, content_type="application/json", user_agent="till/1", X_Shop="9")
    context = event["requestContext"]
    assert set(event) == {
        "version",
        "routeKey",
        "rawPath",
        "rawQueryString",
        "headers",
        "pathParameters",
        "requestContext",
        "body",
        "isBase64Encoded",
    }
    assert (event["version"], event["routeKey"], event["rawPath"]) == ("2.0", "POST /{workload}", "/ledger")
    assert event["rawQueryString"] == ""
    assert event["pathParameters"] == {"workload": "ledger"}
    assert (event["body"], event["isBase64Encoded"]) == (ENTRY.decode(), False)
    assert event["headers"]["x-shop"] == "9"
    assert event["headers"]["content-length"] == str(len(ENTRY))
    assert set(context) == {
        "accountId",
        "apiId",
        "domainName",
        "domainPrefix",
        "http",
        "requestId",
        "routeKey",
        "stage",
        "time",
        "timeEpoch",
    }
    assert context["http"] == {
        "method": "POST",
        "path": "/ledger",
        "protocol": "HTTP/1.1",
        "sourceIp": "127.0.0.1",
        "userAgent": "till/1",
    }
    assert (context["routeKey"], context["stage"]) == ("POST /{workload}", "$default")
    assert before_ms <= context["timeEpoch"] <= time.time_ns() // 1_000_000
    assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000", context["time"])
    parsed = time.strptime(context["time"], "%d/%b/%Y:%H:%M:%S +0000")
    assert calendar.timegm(parsed) == context["timeEpoch"] // 1000


def test_every_request_has_an_id_of_its_own(server: Server) -> None:
    ids = [event_of(server, "GET", f"/ledger/{number}")["requestContext"]["requestId"] for number in range(3)]
    assert len(set(ids)) == 3


def test_a_get_has_no_body_and_no_key_for_what_it_does_not_have(server: Server) -> None:
    event = event_of(server, "GET", "/ledger/some-id")
    assert event["routeKey"] == "GET /{workload}/{id}"
    assert event["pathParameters"] == {"workload": "ledger", "id": "some-id"}
    for absent in ("body", "cookies", "queryStringParameters", "stageVariables"):
        assert absent not in event
    event = event_of(server, "GET", "/ledger/accounts/1")
    assert event["routeKey"] == "GET /{workload}/{collection}/{key}"
    assert event["pathParameters"] == {"workload": "ledger", "collection": "accounts", "key": "1"}


def test_repeated_headers_are_joined_by_commas_and_cookies_stand_apart(server: Server, client: Client) -> None:
    before = len(events(server))
    client.post(ENTRY, "X-Tag: a", "x-tag: b", "Cookie: one=1; two=2", "cookie: three=3")
    client.answer()
    (event,) = events(server)[before:]
    assert event["headers"]["x-tag"] == "a,b"
    assert event["cookies"] == ["one=1", "two=2", "three=3"]
    assert [name for name in event["headers"] if name != name.lower()] == []


def test_the_query_string_is_given_raw_and_decoded(server: Server) -> None:
    event = event_of(server, "GET", "/ledger/x?b=2&a=1%20%2B&b=3&empty=&flag&z=%C3%A9+e")
    assert event["rawQueryString"] == "b=2&a=1%20%2B&b=3&empty=&flag&z=%C3%A9+e"
    assert event["queryStringParameters"] == {"b": "2,3", "a": "1 +", "empty": "", "flag": "", "z": "é e"}
    assert event["rawPath"] == "/ledger/x"


@pytest.mark.parametrize(
    ("content_type", "is_text"),
    [
        ("text/plain", True),
        ("application/json", True),
        ("application/json; charset=utf-8", True),
        ("application/xml", True),
        ("application/javascript", True),
        ("application/problem+json", False),
        ("application/jsonlines", False),
        ("application/json-patch+json", False),
        ("application/json ; charset=utf-8", True),
        ("application/x-www-form-urlencoded", False),
        ("application/octet-stream", False),
        (None, False),
    ],
)
def test_only_text_types_are_handed_over_as_text(server: Server, content_type: str | None, is_text: bool) -> None:
    headers = {} if content_type is None else {"content_type": content_type}
    event = event_of(server, "POST", "/ledger", ENTRY, **headers)
    assert event["isBase64Encoded"] is not is_text
    assert (event["body"].encode() if is_text else base64.b64decode(event["body"])) == ENTRY


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
        ("GET", "/ledger", "POST"),
        ("HEAD", "/ledger", "POST"),
        ("OPTIONS", "/ledger", "POST"),
        ("PUT", "/ledger", "POST"),
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
