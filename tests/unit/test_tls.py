"""TLS without a socket: OpenSSL's client on the other side, bytes cut as a test says, turns and time as it says."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections import deque
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoupled.core import limits
from decoupled.core.problem import answer
from decoupled.server.certificate import Certificate, not_after_ms
from decoupled.server.http.connection import Connection
from decoupled.server.http.tls import Tls
from decoupled.server.http.turns import Step, Turns
from tests.support.certificates import Files
from tests.support.wire import Clock, Wire

REQUEST = b"POST /orders HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\n[1, 2]"
MANY = REQUEST * 40 + b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 70000\r\n\r\n" + b" " * 70_000


class Loop:
    """As far as TLS asks for it. Time passes when the test says so."""

    def __init__(self) -> None:
        self.later: list[Any] = []

    def call_later(self, seconds: float, call: Any) -> asyncio.TimerHandle:
        assert seconds == limits.HANDSHAKE_S
        handle = asyncio.TimerHandle(seconds, call, (), cast(asyncio.AbstractEventLoop, self))
        self.later.append(handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self.later.remove(handle)

    def get_debug(self) -> bool:
        return False

    def is_too_late(self) -> None:
        for handle in self.later:
            handle._run()


class Host(Clock):
    """A server that speaks TLS."""

    handle: Any

    def __init__(self, context: ssl.SSLContext) -> None:
        self.loop: Any = Loop()
        self.steps: deque[Step] = deque()
        self.handshakes = cast(Turns, self)
        super().__init__()
        self.at_once = answer(202, {"id": "x" * 9_000})
        self.tls_wire = Wire("192.0.2.9")
        self.tls_connection = Connection(self)
        self.tls = Tls(self, self.tls_connection, context)
        self.tls.connection_made(self.tls_wire)

    def take(self, step: Step) -> None:
        self.steps.append(step)

    def turn_all(self) -> None:
        while self.steps or self.in_turn:
            if self.steps:
                assert not self.steps.popleft()()
            self.turn()


class Peer:
    """The client."""

    def __init__(self, host: Host, context: ssl.SSLContext, cuts: Any = None) -> None:
        self.host = host
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self.incoming, self.outgoing, server_hostname="shop.example")
        self.cuts = cuts or (lambda most: most)

    def shake(self) -> None:
        for _ in range(10):
            try:
                self.session.do_handshake()
            except ssl.SSLWantReadError:
                self.exchange()
            else:
                self.exchange()
                return
        raise AssertionError("no end of it")

    def exchange(self) -> None:
        data = self.outgoing.read()
        while data:
            cut = self.cuts(len(data))
            self.host.tls.data_received(data[:cut])
            data = data[cut:]
            self.host.turn_all()
        self.incoming.write(self.host.tls_wire.written)
        self.host.tls_wire.written = b""

    def send(self, data: bytes) -> None:
        self.session.write(data)
        self.exchange()

    def read(self) -> bytes:
        read = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            while part := self.session.read(1 << 20):
                read += part
        return read


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    files = Files(tmp_path_factory.mktemp("certificates"))
    files.issue()
    return files


@pytest.fixture(scope="module")
def context(files: Files) -> ssl.SSLContext:
    return Certificate.read(files.chain, files.key).context()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 32), largest=st.sampled_from([1 << 20, 20_000, 3_000, 300]))
def test_however_records_are_cut_the_answers_are_those_without_tls(
    files: Files, context: ssl.SSLContext, seed: int, largest: int
) -> None:
    drawn = random.Random(seed)
    host = Host(context)
    peer = Peer(host, files.trusts(), lambda most: drawn.randint(1, min(most, largest)))
    peer.shake()
    peer.send(MANY)
    host.turn_all()
    peer.exchange()
    host.connection.data_received(MANY)
    host.turn()
    while host.in_turn:
        host.turn()
    assert peer.read() == host.wire.written
    assert host.tls_connection.kept == host.connection.kept == 0


def test_a_handshake_waits_for_its_turn_and_nothing_is_read_meanwhile(files: Files, context: ssl.SSLContext) -> None:
    host = Host(context)
    peer = Peer(host, files.trusts())
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.session.do_handshake()
    host.tls.data_received(peer.outgoing.read())
    assert (host.tls_wire.written, host.tls_wire.reads) == (b"", False)
    host.turn_all()
    assert host.tls_wire.written
    assert host.tls_wire.reads


def test_who_is_too_slow_is_cut_off_and_who_is_in_time_is_not(files: Files, context: ssl.SSLContext) -> None:
    slow, in_time = Host(context), Host(context)
    Peer(in_time, files.trusts()).shake()
    for host in (slow, in_time):
        host.loop.is_too_late()
    assert (slow.tls_wire.ended, in_time.tls_wire.ended) == ("aborted", "")


def test_the_last_answer_is_followed_by_a_close_notify_and_half_a_close(files: Files, context: ssl.SSLContext) -> None:
    host = Host(context)
    peer = Peer(host, files.trusts())
    peer.shake()
    peer.send(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert peer.read().startswith(b"HTTP/1.1 202 ")
    assert peer.session.read(1) == b""  # a close_notify, and not the end of bytes
    assert host.tls_wire.ended == "half"
    peer.send(b"what nobody reads")
    assert host.tls_wire.ended == "half"
    assert not host.tls.eof_received() or host.tls_wire.ended == "closed"


def test_a_close_notify_of_the_client_ends_what_it_says_and_not_what_it_is_told(
    files: Files, context: ssl.SSLContext
) -> None:
    host = Host(context)
    host.at_once = None
    peer = Peer(host, files.trusts())
    peer.shake()
    peer.session.write(REQUEST)
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.session.unwrap()
    peer.exchange()
    assert host.tls_wire.ended == ""
    (reply,) = host.replies
    host.tls.data_received(b"\x17\x03\x03" + bytes(70_000))
    assert host.tls._incoming.pending == 0  # neither read nor kept
    reply(answer(202, {}))
    assert host.tls_wire.ended == "closed"
    peer.incoming.write(host.tls_wire.written)
    assert peer.session.read(1 << 20).startswith(b"HTTP/1.1 202 ")


def test_a_record_that_was_changed_ends_the_connection(files: Files, context: ssl.SSLContext) -> None:
    host = Host(context)
    peer = Peer(host, files.trusts())
    peer.shake()
    peer.session.write(REQUEST)
    record = bytearray(peer.outgoing.read())
    record[-1] ^= 1
    host.tls.data_received(bytes(record))
    assert host.tls_wire.ended == "aborted"
    host.tls.connection_lost(None)
    assert host.tls_connection not in host.connections


@settings(max_examples=80, deadline=None)
@given(noise=st.binary(max_size=3_000), at=st.integers(0, 3_000))
def test_no_bytes_are_too_odd(files: Files, context: ssl.SSLContext, noise: bytes, at: int) -> None:
    """Before the handshake, in it and behind it."""
    host = Host(context)
    peer = Peer(host, files.trusts())
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.session.do_handshake()
    flight = peer.outgoing.read()
    host.tls.data_received(flight[:at] + noise + flight[at:])
    host.turn_all()
    assert host.tls_wire.ended in ("", "closed", "half", "aborted")


@pytest.mark.parametrize("days", [1, 14, 400, 9_000])
def test_the_end_of_a_certificate_is_what_another_library_says(tmp_path: Path, days: int) -> None:
    from cryptography import x509

    files = Files(tmp_path)
    files.issue(days)
    theirs = x509.load_pem_x509_certificate(files.chain.read_bytes()).not_valid_after_utc
    assert Certificate.read(files.chain, files.key).ends_ms() == theirs.timestamp() * 1000


@given(noise=st.binary(max_size=100))
def test_what_is_no_certificate_has_no_end(noise: bytes) -> None:
    with pytest.raises(ValueError, match=r"no X\.509"):
        not_after_ms(noise)
