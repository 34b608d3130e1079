"""Notifications reach real HTTP and mail servers, signed and once in effect; what must not be reached is not."""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import functools
import ipaddress
import json
import socket
import threading
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
import trustme
from aiosmtpd.smtp import AuthResult, LoginPassword
from standardwebhooks import Webhook as Verifier

from decoupled.core import limits
from decoupled.core.callbacks import callback
from decoupled.core.effects import encode
from decoupled.core.outcomes import Commit, Record, Reject
from decoupled.core.shown import view
from decoupled.core.validation import faults
from decoupled.core.workload import Effects, Message, Rejected, Unavailable
from decoupled.outbound import connections
from decoupled.outbound import settings as outbound_settings
from decoupled.outbound import webhook as outbound_webhook
from decoupled.pipeline.loading import load
from decoupled.workloads.notifications import GIVE_UP_AFTER_S, WORKLOAD, Notification, process
from tests.support.hostile import ENCODED, LINE_ENDS
from tests.support.receivers import HttpReceiver, MailReceiver, Reply, http_receiver, mail_receiver

T = TypeVar("T")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW_MS = int(datetime.now(UTC).timestamp() * 1000)


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("WEBHOOK_TRUSTED_HOSTS", "127.0.0.1,hooks.example")
    monkeypatch.setenv("MAIL_FROM", "Shop <shop@example.com>")


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as running:
        yield running


@pytest.fixture
def mail_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MailReceiver]:
    with mail_receiver() as running:
        monkeypatch.setenv("SMTP_URL", f"smtp://127.0.0.1:{running.port}")
        yield running


def notify(*to: dict[str, str], accepted_at: int = NOW_MS, **changes: Any) -> Effects:
    entry = {
        "to": list(to),
        "type": "order.shipped",
        "subject": "On its way ☂",
        "text": "It comes tomorrow.\n",
    } | changes
    notification = msgspec.json.decode(json.dumps(entry), type=Notification)
    message = Message("0123abcd", "notifications", json.dumps(entry), "anonymous", accepted_at)
    effects = run(process(notification, message))
    encode(effects, message, load(["notifications"]))  # no engine would refuse them
    return effects


def run(exchange: Coroutine[Any, Any, T]) -> T:
    """In an event loop of its own, whose connections end with it."""

    async def to_its_end() -> T:
        try:
            return await exchange
        finally:
            for kept in connections._kept.pop(asyncio.get_running_loop(), {}).values():
                await kept.session.close()

    return asyncio.run(to_its_end())


def webhook(port: int, host: str = "127.0.0.1", scheme: str = "http", path: str = "/hook?a=1") -> dict[str, str]:
    return {"kind": "webhook", "url": f"{scheme}://{host}:{port}{path}"}


def mail_to(address: str) -> dict[str, str]:
    return {"kind": "email", "address": address}


# --- webhooks -------------------------------------------------------------------


def test_a_webhook_is_signed_as_standard_webhooks_asks(receiver: HttpReceiver) -> None:
    effects = notify(webhook(receiver.port), data={"order": 17})
    ((path, headers, body),) = receiver.requests
    assert path == "/hook?a=1"
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    content = Verifier(SECRET).verify(body, headers)
    assert content["type"] == "order.shipped"
    assert content["data"] == {"subject": "On its way ☂", "text": "It comes tomorrow.\n", "order": 17}
    assert content["timestamp"].startswith(datetime.fromtimestamp(NOW_MS / 1000, UTC).isoformat()[:19])
    assert effects.result == {"delivered_to": "127.0.0.1", "http_status": 204}


def test_every_delivery_of_one_message_carries_the_same_webhook_id(receiver: HttpReceiver) -> None:
    notify(webhook(receiver.port))
    notify(webhook(receiver.port))
    assert [headers["webhook-id"] for _, headers, _ in receiver.requests] == ["0123abcd"] * 2
    assert receiver.requests[0][2] == receiver.requests[1][2]


def test_data_reaches_a_webhook_digit_by_digit(receiver: HttpReceiver) -> None:
    to = json.dumps([webhook(receiver.port)])
    entry = f"""{{"to": {to}, "type": "a", "subject": "s",
                 "text": "t", "data": {{"exact": 1234567890123.4567890123456789, "deep": [1e400, {{"a": "☂"}}]}}}}"""
    notification = msgspec.json.decode(entry, type=Notification)
    run(process(notification, Message("0123abcd", "notifications", entry, "anonymous", NOW_MS)))
    assert b'"exact":1234567890123.4567890123456789,"deep":[1e400, {"a": "\xe2\x98\x82"}]' in receiver.requests[0][2]


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422, 499])
def test_a_4xx_is_final(receiver: HttpReceiver, status: int) -> None:
    receiver.reply = lambda: (status, {"retry-after": "5"})
    with pytest.raises(Rejected, match=f"answered {status}"):
        notify(webhook(receiver.port))


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
def test_a_429_or_5xx_is_tried_again(receiver: HttpReceiver, status: int) -> None:
    receiver.reply = lambda: (status, {})
    with pytest.raises(Unavailable) as caught:
        notify(webhook(receiver.port))
    assert caught.value.retry_after_s is None


def test_retry_after_is_honoured_in_seconds_and_as_a_date(receiver: HttpReceiver) -> None:
    asked: list[float | None] = []
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)

    def reply(value: str) -> Reply:
        return 503, {"retry-after": value}

    for value in ("120", at, past, "soon", "-5", "\u00b2"):
        receiver.reply = functools.partial(reply, value)
        with pytest.raises(Unavailable) as caught:
            notify(webhook(receiver.port))
        asked.append(caught.value.retry_after_s)
    seconds, date, in_the_past, *neither = asked
    assert seconds == 120
    assert date is not None
    assert 80 < date <= 90
    assert in_the_past == 0
    assert neither == [None, None, None]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(receiver: HttpReceiver, status: int) -> None:
    receiver.reply = lambda: (status, {"location": f"http://127.0.0.1:{receiver.port}/elsewhere"})
    with pytest.raises(Rejected, match=f"answered {status}"):
        notify(webhook(receiver.port))
    assert [path for path, _, _ in receiver.requests] == ["/hook?a=1"]


def test_a_refused_connection_is_tried_again() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match="refused"):
            notify(webhook(closed.getsockname()[1]))


def test_an_unknown_host_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(Unavailable, match="not known"):
        notify(webhook(443, "nowhere.example", "https"))


@contextlib.contextmanager
def raw_server(answer: bytes, pause_between_bytes: threading.Event | None = None) -> Iterator[int]:
    """Sends those bytes to whoever connects; with a pause, one by one until the event is set."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    if pause_between_bytes is None:
                        connection.recv(65_536)
                        connection.sendall(answer)
                        return
                    for byte in answer:
                        connection.sendall(bytes([byte]))
                        if pause_between_bytes.wait(0.02):
                            return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        if pause_between_bytes is not None:
            pause_between_bytes.set()
        thread.join(5)


def test_a_receiver_that_drips_is_cut_off_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUTBOUND_TIMEOUT_S", 0.3)
    endless = b"HTTP/1.1 200 OK\r\nx: " + b"y" * 60_000
    with raw_server(endless, threading.Event()) as port, pytest.raises(Unavailable, match="timed out"):
        notify(webhook(port))


@pytest.mark.parametrize(
    "answer",
    [b"", b"hello\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 500 + b"\r\n", b"HTTP/1.1 200 " + b"x" * 70_000],
)
def test_what_is_not_a_bounded_http_answer_is_tried_again(answer: bytes) -> None:
    with raw_server(answer) as port, pytest.raises(Unavailable):
        notify(webhook(port))


def test_an_endless_answer_body_is_not_read() -> None:
    with raw_server(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_000) as port:
        assert notify(webhook(port)).result["http_status"] == 200


# --- where a webhook may not go -------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.8.8.8", "169.254.169.254", "172.16.0.1", "192.0.0.1",
        "192.168.1.1", "198.18.0.1", "203.0.113.9", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1", "100::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1", "2002:7f00:1::", "fc00::1",
        "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1",
        "0.1.2.3", "100.127.255.255", "172.31.255.255", "192.0.0.8", "192.0.0.11", "192.0.0.170", "192.0.0.255",
        "192.0.2.1", "192.88.99.1", "192.88.99.2", "198.19.255.255", "198.51.100.1", "224.0.0.0",
        "100:0:0:1::1", "2001:1::4", "2001:2::1", "2001:4:111::1", "2001:10::1", "2001:1ff::1", "2002::1", "3fff::1",
        "3fff:fff:ffff::1", "5f00::1", "64:ff9b::c058:6301", "::ffff:192.88.99.1", "::ffff:0:1.1.1.1", "4000::1",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not outbound_webhook.is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101",
        "100.63.255.255", "100.128.0.1", "172.32.0.1", "192.0.0.9", "192.0.0.10", "192.0.1.1", "192.31.196.1",
        "192.52.193.1", "192.88.98.1", "192.175.48.1", "198.17.0.1", "198.20.0.1", "223.255.255.255",
        "2001:1::1", "2001:1::2", "2001:1::3", "2001:3::1", "2001:4:112::1", "2001:20::1", "2001:30::1", "2001:200::1",
        "2001:db9::1", "2003::1", "2620:4f:8000::1", "3fff:1000::1", "2a00::1",
    ],
)  # fmt: skip
def test_a_public_address_is_allowed(address: str) -> None:
    assert outbound_webhook.is_public(address)


def test_what_is_public_does_not_depend_on_the_age_of_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (ipaddress.IPv4Address, ipaddress.IPv6Address):
        for name in ("is_global", "is_private", "is_reserved", "is_multicast", "is_loopback", "is_link_local"):
            monkeypatch.setattr(kind, name, property(lambda _: pytest.fail("asked the interpreter")))
    assert outbound_webhook.is_public("1.1.1.1")
    assert outbound_webhook.is_public("2606:4700::1111")
    assert not outbound_webhook.is_public("192.0.0.8")
    assert not outbound_webhook.is_public("3fff::1")


def test_the_address_of_each_socket_is_checked_whatever_was_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(_resolver: Any, host: str, port: int = 0, **_: Any) -> Any:
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 0, "proto": 0, "flags": 0}]

    monkeypatch.setattr(connections._Resolver, "resolve", resolve)
    with http_receiver() as trap:
        with pytest.raises(Rejected, match="not a public address"):
            notify(webhook(trap.port, "rebind.example", "https"))
        assert trap.connections == 0


# --- connections that are kept ---------------------------------------------------


def deliver(*targets: dict[str, str], at_once: bool = False) -> list[Effects | BaseException]:
    """Several notifications by one process: one after the other, or at once."""

    def one(to: dict[str, str]) -> Coroutine[Any, Any, Effects]:
        entry = {"to": [to], "type": "order.shipped", "subject": "s", "text": "t"}
        message = Message("0123abcd", "notifications", json.dumps(entry), "anonymous", NOW_MS)
        return process(msgspec.convert(entry, Notification), message)

    async def all_of_them() -> list[Effects | BaseException]:
        if at_once:
            return await asyncio.gather(*map(one, targets), return_exceptions=True)
        return [(await asyncio.gather(one(to), return_exceptions=True))[0] for to in targets]

    return run(all_of_them())


def test_deliveries_to_one_receiver_share_a_connection(receiver: HttpReceiver) -> None:
    outcomes = deliver(*[webhook(receiver.port)] * 20)
    assert all(isinstance(outcome, Effects) for outcome in outcomes)
    assert len(receiver.requests) == 20
    assert receiver.connections == 1


def test_deliveries_at_once_each_have_a_connection(receiver: HttpReceiver) -> None:
    everybody = threading.Barrier(20)

    def reply() -> Reply:
        everybody.wait(10)
        return 204, {}

    receiver.reply = reply
    assert all(isinstance(outcome, Effects) for outcome in deliver(*[webhook(receiver.port)] * 20, at_once=True))
    assert receiver.connections == 20


@contextlib.contextmanager
def closing_server(answers: int) -> Iterator[int]:
    """Closes each connection without an answer, after so many."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        for _ in range(answers):
                            connection.recv(65_536)
                            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                        connection.recv(65_536)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def test_a_kept_connection_that_was_closed_meanwhile_costs_no_attempt() -> None:
    with closing_server(1) as port:
        outcomes = deliver(*[webhook(port)] * 5)
    assert all(isinstance(outcome, Effects) for outcome in outcomes)


def test_a_new_connection_that_is_closed_is_not_tried_again_at_once() -> None:
    with closing_server(0) as port:
        (outcome,) = deliver(webhook(port))
    assert isinstance(outcome, Unavailable)


def test_a_name_that_is_not_known_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def unknown(host: str, *_: Any, **__: Any) -> Any:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(Unavailable, match="not known"):
        notify(webhook(443, "nowhere.example", "https"))
    assert asked == ["nowhere.example"]


def test_an_answer_with_a_long_body_costs_its_connection_and_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ANSWER_BODY_S", 0.1)
    with raw_server(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123") as port:
        assert notify(webhook(port)).result["http_status"] == 200


def test_names_whose_servers_are_silent_keep_no_other_waiting(
    receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "OUTBOUND_TIMEOUT_S", 1.0)
    monkeypatch.setattr(limits, "MAX_LOOKUPS", 4)
    answered, really = threading.Event(), socket.getaddrinfo

    def look_up(host: str, *args: Any, **options: Any) -> Any:
        if "silent" in host:
            answered.wait(20)
        return really("127.0.0.1", *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    silent = [webhook(443, f"silent{index}.example", "https") for index in range(3)]
    outcomes = deliver(*silent * 20, webhook(receiver.port, "hooks.example"), at_once=True)
    assert isinstance(outcomes.pop(), Effects)
    assert all(isinstance(outcome, Unavailable) and "timed out" in str(outcome) for outcome in outcomes)
    many = [webhook(443, f"silent{index}.example", "https") for index in range(8)]
    told = [str(outcome) for outcome in deliver(*many, at_once=True)]
    assert sum("DNS has not answered for many other names yet" in text for text in told) == 4
    answered.set()


def test_the_group_is_the_receiver() -> None:
    def group(*to: dict[str, str]) -> str:
        entry = {"to": list(to), "type": "a", "subject": "s", "text": "t"}
        return WORKLOAD.group_of(msgspec.convert(entry, Notification), "shop")

    assert group(webhook(1, "Hooks.Example")) == group(webhook(2, "hooks.example", "https")) == "hooks.example"
    assert group(mail_to("ana@exámple.com")) == group(mail_to("bo@xn--exmple-qta.com")) == "xn--exmple-qta.com"
    assert group(webhook(1), mail_to("ana@example.com")) == ""


# --- what does not become a header ----------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example/\r\nx: y",
        "https://hooks.example\r\n/",
        "https://hooks.example/?a=b c",
        "https://hö.example",
        "https://hooks.example\x00/",
        "https://hooks.example\u2028/",
        "https://user@hooks.example/",
        "gopher://hooks.example",
    ],
)
def test_a_url_that_is_none_is_not_posted_to(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        run(outbound_webhook.post(url, {}, b"", ["hooks.example"]))


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\r\n folded", "a\n\tfolded", "a\x00", "é", "\u2028"])
def test_a_header_that_is_more_than_a_line_is_not_sent(receiver: HttpReceiver, value: str) -> None:
    for headers in ({"webhook-id": value}, {value: "a"}):
        with pytest.raises(ValueError, match="header"):
            run(outbound_webhook.post(f"http://127.0.0.1:{receiver.port}/", headers, b"", ["127.0.0.1"]))
    assert receiver.requests == []


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"],
)
def test_no_spelling_of_loopback_is_reached(host: str) -> None:
    with http_receiver() as trap:
        with pytest.raises((Rejected, Unavailable)) as caught:
            notify(webhook(trap.port, host, "https"))
        assert caught.type is Rejected or "gaierror" in str(caught.value)  # not every system reads every spelling
        assert trap.requests == []


def test_http_without_tls_is_refused(receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_TRUSTED_HOSTS", "")
    with pytest.raises(Rejected, match="only https"):
        notify(webhook(receiver.port))
    assert receiver.requests == []


def test_a_name_with_any_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "93.184.216.34", "10.0.0.1")
    with pytest.raises(Rejected, match="not a public address"):
        notify(webhook(443, "rebind.example", "https"))


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is public when it is checked and private when it is used again (DNS rebinding)."""
    asked = resolve_to(monkeypatch, "93.184.216.34")
    connected: list[Any] = []

    async def connect(_loop: Any, _socket: socket.socket, address: Any) -> None:
        connected.append(address)
        resolve_to(monkeypatch, "127.0.0.1")
        raise ConnectionRefusedError("as far as this test goes")

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", connect)
    with pytest.raises(Unavailable):
        notify(webhook(443, "rebind.example", "https"))
    assert asked == ["rebind.example"]
    assert connected == [("93.184.216.34", 443)]


def test_no_proxy_is_asked(receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    notify(webhook(receiver.port))
    assert len(receiver.requests) == 1


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    asked: list[str] = []
    really = socket.getaddrinfo

    def look_up(host: str, port: int, *args: Any, **options: Any) -> Any:
        if host in addresses:
            return really(host, port, *args, **options)
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


# --- TLS -------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[trustme.CA]:
    """A certificate authority that this process trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    outbound_settings.tls.cache_clear()
    yield authority
    outbound_settings.tls.cache_clear()


def test_tls_is_verified_by_the_name_in_the_url(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.1")
    with http_receiver(authority.issue_cert("hooks.example")) as receiver:
        notify(webhook(receiver.port, "hooks.example", "https"))
        assert receiver.requests[0][1]["host"] == f"hooks.example:{receiver.port}"


def test_a_certificate_for_another_name_is_refused(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.1")
    with http_receiver(authority.issue_cert("other.example")) as receiver:
        with pytest.raises(Unavailable, match="certificate"):
            notify(webhook(receiver.port, "hooks.example", "https"))
        assert receiver.requests == []


# --- e-mail ------------------------------------------------------------------------


def test_an_email_arrives_with_the_message_id_as_its_own(mail_server: MailReceiver) -> None:
    effects = notify(mail_to("ana@example.com"))
    ((recipients, raw),) = mail_server.mails
    mail = email.message_from_bytes(raw, policy=email.policy.default)
    assert recipients == ["ana@example.com"]
    assert mail["From"] == "Shop <shop@example.com>"
    assert mail["To"] == "ana@example.com"
    assert mail["Subject"] == "On its way ☂"
    assert mail["Message-ID"] == "<0123abcd@example.com>"
    assert mail.get_content() == "It comes tomorrow.\r\n"
    assert effects.result == {"delivered_to": "ana@example.com", "message_id": "<0123abcd@example.com>"}


def test_an_address_beyond_ascii_arrives(mail_server: MailReceiver) -> None:
    notify(mail_to("josé@exámple.com"))
    assert mail_server.mails[0][0] == ["josé@xn--exmple-qta.com"]


@pytest.mark.parametrize("reply", ["550 no such user", "551 moved", "553 not allowed"])
def test_a_recipient_that_the_mail_server_refuses_is_final(mail_server: MailReceiver, reply: str) -> None:
    mail_server.recipient_reply = reply
    with pytest.raises(Rejected, match=reply):
        notify(mail_to("nobody@example.com"))


@pytest.mark.parametrize("reply", ["450 mailbox busy", "452 too many"])
def test_a_recipient_that_the_mail_server_postpones_is_tried_again(mail_server: MailReceiver, reply: str) -> None:
    mail_server.recipient_reply = reply
    with pytest.raises(Unavailable, match=reply):
        notify(mail_to("ana@example.com"))


def test_a_message_that_the_mail_server_refuses_is_final_or_tried_again(mail_server: MailReceiver) -> None:
    mail_server.data_reply = "554 spam"
    with pytest.raises(Rejected, match="spam"):
        notify(mail_to("ana@example.com"))
    mail_server.data_reply = "451 disk full"
    with pytest.raises(Unavailable, match="disk full"):
        notify(mail_to("ana@example.com"))


def test_a_mail_server_that_is_down_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("SMTP_URL", f"smtp://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(Unavailable, match="refused"):
            notify(mail_to("ana@example.com"))


def test_a_password_is_never_sent_without_encryption(
    mail_server: MailReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMTP_URL", f"smtp://shop:secret@127.0.0.1:{mail_server.port}")
    with pytest.raises(Unavailable, match="no encryption"):
        notify(mail_to("ana@example.com"))


def test_a_password_goes_over_starttls_and_a_wrong_one_waits(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ssl

    def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: LoginPassword) -> AuthResult:
        return AuthResult(success=data.password == b"p@ss", handled=False)

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    with mail_receiver(tls, authenticator=authenticate, auth_required=True) as server:
        monkeypatch.setenv("SMTP_URL", f"smtp://shop:p%40ss@localhost:{server.port}")
        notify(mail_to("ana@example.com"))
        assert len(server.mails) == 1
        monkeypatch.setenv("SMTP_URL", f"smtp://shop:wrong@localhost:{server.port}")
        with pytest.raises(Unavailable, match="password"):
            notify(mail_to("ana@example.com"))


# --- several recipients, and the rest ------------------------------------------------


def test_each_of_several_recipients_gets_a_message_and_a_record_of_its_own(receiver: HttpReceiver) -> None:
    effects = notify(webhook(receiver.port), mail_to("ana@example.com"))
    assert receiver.requests == []  # they go out by their own messages
    message = Message("0123abcd", "notifications", "", "anonymous", NOW_MS)
    emitted = encode(effects, message, load(["notifications"])).emits
    assert [f"/notifications/{each.id}" for each in emitted] == effects.result["deliveries"]
    alone = [msgspec.json.decode(each.body)["to"] for each in emitted]
    assert alone == [[webhook(receiver.port)], [mail_to("ana@example.com")]]


def test_the_largest_fan_out_that_is_accepted_fits_an_engine() -> None:
    notify(*[mail_to(f"{index}@example.com") for index in range(50)], text="x" * 2_000)


def test_a_fan_out_that_no_record_could_hold_is_refused() -> None:
    entry = {"to": [mail_to("a@example.com")] * 50, "type": "a", "subject": "s", "text": "x" * 20_000}
    assert [fault["pointer"] for fault in faults(entry, Notification)] == ["#/to"]


def test_after_three_days_a_recipient_is_given_up(receiver: HttpReceiver) -> None:
    receiver.reply = lambda: (503, {})
    with pytest.raises(Rejected, match="3 days"):
        notify(webhook(receiver.port), accepted_at=NOW_MS - (GIVE_UP_AFTER_S + 60) * 1000)


@pytest.mark.parametrize("missing", ["SMTP_URL", "MAIL_FROM", "WEBHOOK_SECRET"])
def test_what_is_not_configured_says_so(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setenv("SMTP_URL", "smtp://127.0.0.1")
    monkeypatch.delenv(missing)
    with pytest.raises(outbound_settings.NotConfigured, match=missing):
        notify({"kind": "webhook", "url": "https://hooks.example/"} if "HOOK" in missing else mail_to("a@example.com"))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/", "https://", "https:///path", "https://user:pw@example.com/", "https://example.com/#part",
        "https://example.com:99999/", "https://example.com:0/", "https://exa mple.com/", "https://example.com/\r\nx: y",
        "https://good.example\\@evil.example/", "https://[::1/", "//example.com/", "javascript:alert(1)",
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_posted_to_is_refused_at_the_door(url: str) -> None:
    entry = {"to": [{"kind": "webhook", "url": url}], "type": "a", "subject": "s", "text": "t"}
    assert [fault["pointer"] for fault in faults(entry, Notification)] == ["#/to/0/url"]


@pytest.mark.parametrize("field", ["subject", "type"])
@pytest.mark.parametrize("end", LINE_ENDS)
def test_a_line_end_is_refused_at_the_door(field: str, end: str) -> None:
    entry = {"to": [mail_to("a@example.com")], "type": "a", "subject": "s", "text": "t"}
    entry[field] = f"hello{end}Bcc: all@example.com"
    assert [fault["pointer"] for fault in faults(entry, Notification)] == [f"#/{field}"]


@pytest.mark.parametrize("subject", ENCODED)
def test_what_looks_encoded_is_no_header_and_arrives_as_it_is(mail_server: MailReceiver, subject: str) -> None:
    notify(mail_to("ana@example.com"), subject=subject)
    ((recipients, raw),) = mail_server.mails
    mail = email.message_from_bytes(raw, policy=email.policy.default)
    assert recipients == ["ana@example.com"]
    assert mail["Subject"] == subject
    assert mail["Bcc"] is mail["Reply-To"] is None
    assert mail.get_content() == "It comes tomorrow.\r\n"


# --- callbacks ------------------------------------------------------------------


def call_back(port: int, message_id: str | None = None, **changes: Any) -> Effects:
    """Deliver what tells of a processed order, under its own id or another one."""
    order = Message("5e5e", "orders", "{}", "anonymous", NOW_MS - 5, callback=f"http://127.0.0.1:{port}/hook")
    told = callback(order, Commit('{"total":79.80,"n":1234567890123.4567890123456789}'), NOW_MS)
    told = msgspec.structs.replace(told, **({"id": message_id} if message_id else {}))
    entry = json.loads(told.body) | changes
    notification = msgspec.json.decode(json.dumps(entry) if changes else told.body, type=Notification)
    return run(process(notification, told))


def test_a_callback_says_what_get_shows_signed_as_standard_webhooks_asks(receiver: HttpReceiver) -> None:
    effects = call_back(receiver.port)
    ((_, headers, body),) = receiver.requests
    content = Verifier(SECRET).verify(body, headers)
    assert content.keys() == {"type", "timestamp", "data"}
    assert content["type"] == "orders.processed"
    record = Record("5e5e", "orders", "processed", NOW_MS - 5, result='{"total":79.8}', finished_at=NOW_MS)
    shown = json.loads(msgspec.json.encode(view(record)))
    assert content["data"] | {"result": shown["result"]} == shown
    assert b'"total":79.80,"n":1234567890123.4567890123456789' in body
    assert content["timestamp"].startswith(shown["processed_at"][:23])
    assert effects.result == {"delivered_to": "127.0.0.1", "http_status": 204}


@pytest.mark.parametrize("changes", [{}, {"data": {"id": 5, "workload": "orders", "status": "processed"}}])
def test_what_only_looks_like_a_callback_is_not_delivered(receiver: HttpReceiver, changes: dict[str, Any]) -> None:
    with pytest.raises(Rejected, match="only a callback"):
        call_back(receiver.port, message_id="0123abcd", **changes)
    assert receiver.requests == []


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({}, "#/subject"),
        ({"subject": "s"}, "#/text"),
        ({"text": "t"}, "#/subject"),
        ({"subject": None, "text": None}, "#/subject"),
        ({"data": {"id": "a", "status": "processed"}}, "#/subject"),
    ],
)
def test_whoever_forgets_subject_or_text_is_told_at_once(changes: dict[str, Any], pointer: str) -> None:
    entry = {"to": [{"kind": "webhook", "url": "https://hooks.example/"}], "type": "a"} | changes
    assert [fault["pointer"] for fault in faults(entry, Notification)] == [pointer]


def test_an_e_mail_is_no_callback() -> None:
    data = {"id": "a", "workload": "orders", "status": "processed"}
    entry = {"to": [mail_to("ana@example.com")], "type": "orders.processed", "data": data}
    assert [fault["pointer"] for fault in faults(entry, Notification)] == ["#/subject"]


def test_a_callback_is_given_up_three_days_after_the_end_and_not_after_the_beginning(receiver: HttpReceiver) -> None:
    receiver.reply = lambda: (503, {})
    order = Message("a", "orders", "{}", "anonymous", 1, callback=f"http://127.0.0.1:{receiver.port}/")
    for finished_at, given_up in ((NOW_MS, Unavailable), (NOW_MS - (GIVE_UP_AFTER_S + 60) * 1000, Rejected)):
        told = callback(order, Reject("no"), finished_at)
        with pytest.raises(given_up):
            run(process(msgspec.json.decode(told.body, type=Notification), told))
