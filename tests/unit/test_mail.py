"""What is handed to a mail server is the e-mail that was meant: no text of anybody's becomes a header, a second e-mail
or a command, in the eyes of a real server and of two parsers."""

from __future__ import annotations

import email
import email.message
import email.policy
import re
import socket
import threading
from collections.abc import Iterator
from email.header import decode_header, make_header

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from decoupled.core.workload import Rejected, Unavailable
from decoupled.outbound.mail import Mail, compose, send
from decoupled.outbound.settings import NotConfigured
from tests.support.hostile import ENCODED, LINE_ENDS, texts
from tests.support.receivers import MailReceiver, mail_receiver

HEADERS = ["From", "To", "Subject", "Message-ID", "Date", "Auto-Submitted", "MIME-Version", "Content-Type"]
HEADERS.append("Content-Transfer-Encoding")
ADDED = ["X-Peer", "X-MailFrom", "X-RcptTo"]  # by aiosmtpd, behind ours


@pytest.fixture(scope="module")
def server() -> Iterator[MailReceiver]:
    with mail_receiver() as running:
        yield running


def delivered(server: MailReceiver, mail: Mail) -> bytes:
    """The one e-mail that arrives."""
    server.mails.clear()
    send(f"smtp://127.0.0.1:{server.port}", mail)
    ((recipients, raw),) = server.mails
    assert recipients == [mail.recipient]
    return raw


def read(raw: bytes) -> tuple[email.message.Message, email.message.EmailMessage]:
    """An e-mail as two independent parsers read it: with our headers, each once, and one part of text."""
    old = email.message_from_bytes(raw, policy=email.policy.compat32)
    new = email.message_from_bytes(raw, policy=email.policy.default)
    for parsed in (old, new):
        assert [name for name in parsed.keys() if name not in ADDED] == HEADERS  # noqa: SIM118  it is no mapping
        assert parsed.get_content_type() == "text/plain"
        assert not parsed.is_multipart()
        assert parsed.defects == []
    return old, new


def subject_of(old: email.message.Message) -> str:
    return str(make_header(decode_header(old["Subject"])))


def text_of(parsed: email.message.Message) -> str:
    payload = parsed.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode()


def in_a_header(text: str) -> str:
    return re.sub("[\x00-\x1f\x7f-\x9f\u2028\u2029]", "\ufffd", text)


def in_a_body(text: str) -> str:
    lines = re.sub("\r\n|\r", "\n", text).removesuffix("\n") + "\n"
    return re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\ufffd", lines).replace("\n", "\r\n")


@settings(max_examples=200, deadline=None)
@given(texts(200), texts(400))
@example("=?utf-8?q?a?=", ".")
def test_whatever_a_subject_and_a_text_hold_arrives_as_that(server: MailReceiver, subject: str, text: str) -> None:
    raw = delivered(server, compose("Shop <shop@example.com>", "ana@example.com", subject, text, "0123abcd"))
    old, new = read(raw)
    assert subject_of(old) == new["Subject"] == in_a_header(subject)
    assert text_of(old) == text_of(new) == in_a_body(text)


@settings(max_examples=100, deadline=None)
@given(texts(80).filter(lambda name: "=?" not in name), texts(80))
def test_whatever_a_name_holds_is_a_name(name: str, subject: str) -> None:
    mail = compose(f"{name} <shop@example.com>", "ana@example.com", subject, "Hello", "0123abcd")
    assert mail.sender == "shop@example.com"
    _, new = read(mail.content)
    assert [each.addr_spec for each in new["From"].addresses] == ["shop@example.com"]


@given(texts(200), texts(80), texts(400))
def test_a_line_ends_in_crlf_and_holds_nothing_that_ends_one(subject: str, name: str, text: str) -> None:
    """No server in between can take a bare CR or LF, or a dot after one, for the end of the e-mail."""
    try:
        mail = compose(f"{name} <shop@example.com>", "ana@example.com", subject, text, "0123abcd")
    except NotConfigured:
        assert "=?" in name
        return
    assert re.fullmatch(rb"(?:[\t -~]{0,78}\r\n)+", mail.content)


@pytest.mark.parametrize("subject", [*ENCODED, *(f"Hello{end}Bcc: evil@x.y" for end in LINE_ENDS)])
def test_a_subject_is_no_header(server: MailReceiver, subject: str) -> None:
    raw = delivered(server, compose("shop@example.com", "ana@example.com", subject, "Hello", "0123abcd"))
    old, new = read(raw)
    assert subject_of(old) == new["Subject"] == in_a_header(subject)
    assert b"<h1>" not in raw


@pytest.mark.parametrize("end", ["\r\n.\r\n", "\n.\n", "\r.\r", "\n.\r\n", "\r\n.\n", "\r\n.\r", "\r.\r\n", "\0.\0"])
def test_a_text_does_not_end_its_email_early(server: MailReceiver, end: str) -> None:
    """SMTP smuggling: a second e-mail behind an end that only some servers take for one."""
    text = f"Hello{end}MAIL FROM:<evil@x.y>\r\nRCPT TO:<ana@example.com>\r\nDATA\r\nSubject: x\r\n\r\nx{end}"
    raw = delivered(server, compose("shop@example.com", "ana@example.com", "Hello", text, "0123abcd"))
    assert text_of(read(raw)[0]) == in_a_body(text)
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", raw)


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        ("shop@example.com", "shop@example.com"),
        ("<shop@example.com>", "shop@example.com"),
        ("Shop <shop@example.com>", "Shop <shop@example.com>"),
        ('"Shop, Ltd." <shop@example.com>', '"Shop, Ltd." <shop@example.com>'),
        ("Büro ☂ <büro@bücher.de>", "Büro ☂ <büro@xn--bcher-kva.de>"),
        ("Evil <evil@x.y>, Shop <shop@example.com>", '"Evil <evil@x.y>, Shop" <shop@example.com>'),
    ],
)
def test_the_sender_is_one_name_and_one_address(sender: str, expected: str) -> None:
    mail = compose(sender, "ana@example.com", "Hello", "Hello", "0123abcd")
    assert str(read(mail.content)[1]["From"]) == expected
    assert mail.message_id == f"<0123abcd@{mail.sender.rpartition('@')[2]}>"


@pytest.mark.parametrize(
    "sender",
    ["shop", "Shop <shop@example.com", "Shop shop@example.com>", "shop@example.com\r\nBcc: evil@x.y", "<>", "Shop <>"]
    + [f"{each} <shop@example.com>" for each in ENCODED]
    + [f"Shop <shop@example.com{end}Bcc:evil@x.y>" for end in LINE_ENDS],
)
def test_a_sender_that_is_none_says_so(sender: str) -> None:
    with pytest.raises(NotConfigured, match="MAIL_FROM"):
        compose(sender, "ana@example.com", "Hello", "Hello", "0123abcd")


@pytest.mark.parametrize("address", [f"ana@example.com{end}Bcc:evil@x.y" for end in LINE_ENDS] + ENCODED + ["ana"])
def test_an_address_that_is_none_is_not_composed_for(address: str) -> None:
    with pytest.raises(ValueError, match="@"):
        compose("shop@example.com", address, "Hello", "Hello", "0123abcd")


@pytest.mark.parametrize("message_id", ["", "a b", "a@b", "a>b", "a\r\nBcc: evil@x.y", "=?utf-8?q?a?=", "a" * 65])
def test_an_id_that_is_none_becomes_no_header(message_id: str) -> None:
    with pytest.raises(ValueError, match="id of a message"):
        compose("shop@example.com", "ana@example.com", "Hello", "Hello", message_id)


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:25", "http://127.0.0.1", "smtp://", "smtp://:25", "smtp://127.0.0.1:0", "smtp://u:p4ss@host:port",
     "smtp://u:p4ss/word@host", "smtp://" + "a" * 64 + ".example", "smtp://[::1"],
)  # fmt: skip
def test_a_mail_server_that_is_none_says_so_and_not_its_password(url: str) -> None:
    with pytest.raises(NotConfigured, match="SMTP_URL") as caught:
        send(url, compose("shop@example.com", "ana@example.com", "Hello", "Hello", "0123abcd"))
    assert "p4ss" not in str(caught.value)


def test_an_address_beyond_ascii_needs_a_server_that_takes_such() -> None:
    mail = compose("shop@example.com", "josé@bücher.de", "Hello", "Hello", "0123abcd")
    with mail_receiver(smtputf8=False) as server:
        with pytest.raises(Rejected, match="SMTPUTF8"):
            send(f"smtp://127.0.0.1:{server.port}", mail)
        assert server.mails == []
        delivered(server, compose("shop@example.com", "jose@bücher.de", "Hello ☂", "Hello ☂", "0123abcd"))
    with mail_receiver() as server:
        read(delivered(server, mail))


@given(st.text("abcXYZ09!#$%&'*+/=?^_`{|}~-", min_size=1, max_size=64).filter(lambda local: "=?" not in local))
@settings(max_examples=30, deadline=None)
def test_every_local_part_that_is_taken_reaches_its_mailbox(server: MailReceiver, local: str) -> None:
    mail = compose("shop@example.com", f"{local}@example.com", "Hello", "Hello", "0123abcd")
    read(delivered(server, mail))
    assert mail.recipient == f"{local}@example.com"


@pytest.mark.parametrize("reply", ["421 bye", "500 what?"])
def test_what_a_server_says_after_it_took_an_email_changes_nothing(reply: str) -> None:
    with mail_receiver() as server:
        server.quit_reply = reply
        delivered(server, compose("shop@example.com", "ana@example.com", "Hello", "Hello", "0123abcd"))


@pytest.mark.parametrize("greeting", [b"554 no service\r\n", b"220 hello\r\n"])
def test_a_server_that_does_not_serve_us_is_no_fault_of_the_email(greeting: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                connection.sendall(greeting)
                for _ in lines:
                    connection.sendall(b"554 no service\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(Unavailable, match="554"):
            send(
                f"smtp://127.0.0.1:{listener.getsockname()[1]}",
                compose("shop@example.com", "ana@example.com", "Hello", "Hello", "0123abcd"),
            )
        thread.join(5)
