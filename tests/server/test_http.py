"""HTTP/1.1 itself: what counts as a request, in which order answers come, and how a connection ends. Over real sockets
where a client sees it; with a clock of the test's where something must take too long; h11 as the other opinion."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoupled.core import limits
from decoupled.core.problem import answer
from tests.support.server import Client, Server, serving
from tests.support.wire import Clock, Found

ENTRY = b'{"account": 1, "amount": 1}'
HEALTH = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
COUNT = "SELECT count(*) FROM messages WHERE workload = 'ledger'"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("http") / "data", "--workloads", "ledger,echoes") as server:
        yield server
    assert "Traceback" not in server.log.read_text()


def post(body: bytes = ENTRY, *headers: str, version: str = "1.1") -> bytes:
    lines = [f"POST /ledger HTTP/{version}", "host: x", "content-type: application/json", *headers]
    if not any(header.lower().startswith(("content-length", "transfer-encoding")) for header in headers):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(*chunks: bytes, trailer: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailer + b"\r\n"


def is_closed(client: Client) -> bool:
    """The server has closed the connection, and sends nothing more."""
    with contextlib.suppress(ConnectionResetError):
        return client.file.read(1) == b""
    return True


# --- what is no request -------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (post(b"2\r\n{}\r\n0\r\n\r\n", "content-length: 12", "transfer-encoding: chunked"), 400),
        (post(ENTRY, "content-length: 27", "content-length: 27"), 400),
        (post(ENTRY, "content-length: 27", "content-length: 5"), 400),
        (post(ENTRY, "content-length : 27"), 400),
        (post(chunked(ENTRY), "transfer-encoding: chunked, gzip"), 400),
        (post(b"zz\r\n", "transfer-encoding: chunked"), 400),
        (post().replace(b"\r\n", b"\n"), 400),
        (post(ENTRY, "x-folded: a\r\n b"), 400),
        (b"POST /ledger HTTP/1.1\r\ncontent-length: 0\r\n\r\n", 400),
        (b"GET /health\r\n\r\n", 400),
        (post(version="2.0"), 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"BREW /health HTTP/1.1\r\nhost: x\r\n\r\n", 501),
        (b"CONNECT example.com:443 HTTP/1.1\r\nhost: x\r\n\r\n", 501),
        (b"GET /health HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * limits.MAX_HEAD_BYTES + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * limits.MAX_HEAD_BYTES + b" HTTP/1.1\r\nhost: x\r\n\r\n", 431),
        (b"GET /health HTTP/1.1\r\nhost: x\r\ncookie: " + b"a=b; " * 4000 + b"\r\n\r\n", 431),
    ],
)
def test_what_is_no_request_is_refused_and_is_the_last(
    server: Server, client: Client, request_: bytes, status: int
) -> None:
    before = server.rows(COUNT)
    client.send(request_ + HEALTH)
    refusal = client.answer()
    assert refusal.status == refusal.json["status"] == status, refusal
    assert refusal.headers["content-type"] == "application/problem+json"
    assert refusal.headers["connection"] == "close"
    client.socket.shutdown(socket.SHUT_WR)
    assert is_closed(client)
    assert server.rows(COUNT) == before


def test_a_head_that_never_ends_is_refused(client: Client) -> None:
    client.send(b"GET /health HTTP/1.1\r\nhost: x\r\n")
    with contextlib.suppress(OSError):
        for _ in range(1000):
            client.send(b"x-more: " + b"a" * 1000 + b"\r\n")
    assert client.answer().status == 431


def test_a_trailer_is_no_header(server: Server, client: Client) -> None:
    client.send(
        b"POST /ledger HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        + chunked(ENTRY, trailer=b"content-type: application/json\r\n")
    )
    assert client.answer().status == 415


# --- what is one --------------------------------------------------------------


def test_an_offer_of_http_2_is_declined_and_the_request_taken(server: Server, client: Client) -> None:
    """As Java's HttpClient begins a connection."""
    client.send(
        post(ENTRY, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk")
    )
    accepted = client.answer()
    assert accepted.status == 202
    assert server.get(accepted.headers["location"]).json["id"] == accepted.json["id"]
    client.send(post(b"{", "Connection: Upgrade", "Upgrade: h2c") + HEALTH)
    assert [client.answer().status for _ in range(2)] == [400, 200]
    client.send(post(ENTRY, "Connection: Upgrade", "Upgrade: websocket", "expect: 100-continue")[: -len(ENTRY)])
    assert client.file.readline() + client.file.readline() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(ENTRY)
    assert client.answer().status == 202


def test_a_thousand_offers_in_one_go_are_declined(client: Client) -> None:
    client.send(post(b"{", "Connection: Upgrade", "Upgrade: h2c") * 2000)
    assert [client.answer().status for _ in range(2000)] == [400] * 2000
    client.send(post(ENTRY, "Connection: close, Upgrade", "Upgrade: h2c"))
    assert (client.answer().headers["connection"], is_closed(client)) == ("close", True)


def test_http_1_0_is_answered_and_closed_unless_it_asks_to_stay(server: Server, client: Client) -> None:
    client.send(post(ENTRY, "connection: keep-alive", version="1.0"))
    assert client.answer().headers["connection"] == "keep-alive"
    client.send(b"GET /health HTTP/1.0\r\n\r\n")
    assert client.answer().headers["connection"] == "close"
    assert is_closed(client)


def test_a_target_may_name_the_host_too(client: Client) -> None:
    client.send(b"GET http://shop.example/health?x HTTP/1.1\r\nhost: shop.example\r\n\r\n")
    assert client.answer().status == 200
    client.send(b"GET http://shop.example HTTP/1.1\r\nhost: shop.example\r\n\r\n")
    assert client.answer().status == 404


@pytest.mark.parametrize("path", ["/health", "/ledger/none", "/ledger/accounts/none", "/ledger"])
def test_a_head_request_gets_what_get_would_without_the_body(client: Client, path: str) -> None:
    client.send(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\nHEAD {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    full, head = client.answer(), client.answer(to_head=True)
    assert head.status == full.status
    if path != "/ledger":  # which says what it was that it does not take
        assert {**head.headers, "date": ""} == {**full.headers, "date": ""}
    client.send(HEALTH)
    assert client.answer().status == 200


# --- order --------------------------------------------------------------------


def test_a_thousand_requests_in_one_go_are_answered_in_their_order(client: Client) -> None:
    requests = [HEALTH, post(), post(b"{"), b"GET /ledger/none HTTP/1.1\r\nhost: x\r\n\r\n"]
    client.send(b"".join(requests * 250))
    assert [client.answer().status for _ in range(1000)] == [200, 202, 400, 404] * 250


def test_requests_before_one_that_is_none_are_answered(client: Client) -> None:
    client.send(post() + HEALTH + post() + b"nonsense\r\n\r\n")
    assert [client.answer().status for _ in range(4)] == [202, 200, 202, 501]
    client.socket.shutdown(socket.SHUT_WR)
    assert is_closed(client)


def test_what_follows_the_last_request_is_ignored(client: Client) -> None:
    client.send(post(ENTRY, "connection: close") + HEALTH)
    assert (client.answer().status, is_closed(client)) == (202, True)


@pytest.mark.parametrize("last", [post(ENTRY, "connection: close"), post(version="1.0"), b"nonsense\r\n\r\n"])
def test_a_client_that_goes_on_sending_behind_its_last_request_still_gets_the_answer(
    client: Client, last: bytes
) -> None:
    client.send(last)
    for _ in range(8):
        client.send(HEALTH * 20_000)
    assert client.answer().headers["connection"] == "close"
    client.socket.shutdown(socket.SHUT_WR)
    assert client.file.read() == b""


def test_a_client_that_has_said_all_still_gets_its_answers(client: Client) -> None:
    client.send(post() + post())
    client.socket.shutdown(socket.SHUT_WR)
    assert [client.answer().status for _ in range(2)] == [202, 202]
    assert is_closed(client)


def test_a_client_that_takes_no_answers_is_not_read_any_further(server: Server, client: Client) -> None:
    request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
    client.socket.settimeout(1)
    sent = 0
    with contextlib.suppress(TimeoutError):  # the kernel's buffers are full, on both sides
        while sent < 1 << 28:
            sent += client.socket.send(request * 1000)
    assert 1 << 16 < sent < 1 << 28
    assert server.get("/health").status == 200
    client.socket.settimeout(20)
    for _ in range(sent // len(request)):
        assert client.answer().status == 404


# --- the end of the server ----------------------------------------------------


def test_a_server_that_stops_lets_no_client_hang(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", "--workloads", "ledger,echoes")
    try:
        server.start()
        with Client(server) as idle, Client(server) as sending, Client(server) as silent:
            idle.send(HEALTH)
            assert idle.answer().status == 200
            sending.send(post(ENTRY[:5], f"content-length: {len(ENTRY)}"))
            assert server.get("/health").status == 200  # so that what was sent before has been read
            assert server.stop() == 0, server.logged()
            refusal = sending.answer()
            assert (refusal.status, refusal.json["resend"]) == (503, "safe")
            assert refusal.headers["retry-after"]
            assert is_closed(idle)
            assert is_closed(silent)
    finally:
        server.end()


# --- waits that end -----------------------------------------------------------


def test_a_client_that_says_nothing_is_let_go() -> None:
    clock = Clock()
    assert clock.wait(limits.KEEP_ALIVE_S - 1) == ""
    assert clock.wait(2) == "closed"
    assert clock.wire.written == b""
    assert clock.wait(1) == "aborted"  # had it not taken all that was written to it


@pytest.mark.parametrize("part", [b"P", post()[:40], post()[:-1]])
def test_a_request_that_does_not_come_to_its_end_is_refused(part: bytes) -> None:
    clock = Clock()
    clock.now += 50
    for position in range(len(part)):  # a byte now and then does not buy time
        clock.connection.data_received(part[position : position + 1])
    assert clock.wait(limits.REQUEST_PART_S - 1) == ""
    assert clock.wait(2) == "half"
    assert clock.wire.written.startswith(b"HTTP/1.1 408 ")
    clock.connection.data_received(b"more")
    assert clock.wait(limits.LINGER_S + 1) == "aborted"
    clock.connection.connection_lost(None)
    assert clock.shares.used == 0


def test_a_client_that_waits_between_requests_is_let_go() -> None:
    clock = Clock()
    clock.connection.data_received(post())
    clock.now += 30
    clock.replies[0](answer(202, {}))
    assert clock.wait(limits.KEEP_ALIVE_S - 1) == ""
    assert clock.wait(2) == "closed"


def test_a_request_that_is_never_answered_is_not_waited_for() -> None:
    clock = Clock()
    clock.connection.data_received(post())
    assert clock.wait(limits.ANSWER_S - 1) == ""
    assert clock.wait(2) == "aborted"
    clock.connection.connection_lost(None)
    clock.replies[0](answer(202, {}))  # too late, and no harm
    assert clock.wire.written == b""


def test_a_client_that_takes_no_answers_is_let_go() -> None:
    clock = Clock()
    clock.connection.data_received(HEALTH * 3)
    clock.wire.unsent = 1000
    clock.connection.pause_writing()
    clock.replies[0](answer(200, {}))
    assert (len(clock.replies), len(clock.in_turn)) == (1, 0)  # the others wait for it to read
    assert clock.wait(limits.UNSENT_S + 1) == "aborted"


def test_a_client_that_goes_on_sending_after_its_refusal_is_cut_off() -> None:
    clock = Clock()
    clock.connection.data_received(post(b"", f"content-length: {limits.MAX_REQUEST_BYTES + 1}"))
    assert clock.wire.written.startswith(b"HTTP/1.1 413 ")
    piece = b" " * (1 << 20)
    for _ in range(limits.MAX_DISCARDED_BYTES >> 20):
        clock.connection.data_received(piece)
    assert clock.wire.ended == "half"
    clock.connection.data_received(piece)
    assert clock.wire.ended == "aborted"


# --- another opinion ----------------------------------------------------------


TOKEN = st.text("abcdefghijklmnopqrstuvwxyz-0123456789", min_size=1, max_size=12).map("x-{}".format)
VALUE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20)
PATH = st.text("abcXYZ019-._~/%?&=+", max_size=30).map("/{}".format)


@st.composite
def requests(draw: st.DrawFn) -> tuple[h11.Request, list[bytes], bool]:
    in_chunks = draw(st.booleans())
    body = draw(st.lists(st.binary(min_size=1, max_size=50), max_size=4))
    framing = ("transfer-encoding", "chunked") if in_chunks else ("content-length", str(sum(map(len, body))))
    headers = [("host", "x"), *draw(st.lists(st.tuples(TOKEN, VALUE), max_size=5)), framing]
    method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"]))
    return h11.Request(method=method, target=draw(PATH), headers=headers), body, in_chunks


@settings(deadline=None)  # whatever else the machine does
@given(st.lists(requests(), min_size=1, max_size=4), st.data())
def test_however_requests_are_cut_they_are_read_as_another_library_wrote_them(
    sent: list[tuple[h11.Request, list[bytes], bool]], data: st.DataObject
) -> None:
    wire = b""
    for request, body, _ in sent:
        writer = h11.Connection(h11.CLIENT)
        wire += writer.send(request) or b""
        for part in body:
            wire += writer.send(h11.Data(data=part)) or b""
        wire += writer.send(h11.EndOfMessage()) or b""
    found = Found()
    position = 0
    while position < len(wire):
        size = data.draw(st.integers(1, max(1, len(wire) - position)))
        found.reader.feed(wire[position : position + size])
        position += size
    assert found.problems == []
    assert found.reader.kept == 0
    assert len(found.requests) == len(sent)
    for read, (request, body, _) in zip(found.requests, sent, strict=True):
        headers: dict[str, str] = {}
        for raw_name, raw_value in request.headers:
            name, value = raw_name.decode(), raw_value.decode()
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        assert (read.method, read.target) == (request.method.decode(), request.target)
        assert (read.headers, bytes(read.body), read.keep_alive) == (headers, b"".join(body), True)


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(0, 300))
def test_no_bytes_are_too_odd(noise: bytes, at: int) -> None:
    """Whatever stands in the middle of requests: each is read or refused, none raises, and no byte stays counted."""
    wire = post() * 2
    found = Found()
    for piece in (wire[:at], noise, wire[at:]):
        if not found.reader.refusing:
            found.reader.feed(piece)
    assert len(found.problems) <= 1
    found.reader.close()
    assert found.reader.kept == 0


@pytest.mark.parametrize("request_", [HEALTH, post(), post(b"{"), b"HEAD /x HTTP/1.1\r\nhost: x\r\n\r\n", b"?\r\n\r\n"])
def test_another_library_reads_our_answers(server: Server, client: Client, request_: bytes) -> None:
    reader = h11.Connection(h11.CLIENT)
    method = "HEAD" if request_.startswith(b"HEAD") else "GET"
    reader.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    reader.send(h11.EndOfMessage())
    client.send(request_)
    events: list[Any] = []
    while not events or not isinstance(events[-1], h11.EndOfMessage):
        if (event := reader.next_event()) is h11.NEED_DATA:
            reader.receive_data(client.socket.recv(1000))
        else:
            events.append(event)
    response, *body, _ = events
    assert isinstance(response, h11.Response)
    text = b"".join(bytes(part.data) for part in body)
    assert (text == b"") == (method == "HEAD")
    assert not text or json.loads(text)
    assert dict(response.headers)[b"date"].endswith(b" GMT")
