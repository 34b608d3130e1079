"""One e-mail through the operator's mail server. Knows nothing of what is sent, or why.

Its headers are written here, byte by byte, and nothing is parsed on the way: the standard library's `email` decodes
what looks encoded in its input, and older ones fold a line end that comes out of that into a header of its own."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import functools
import re
import smtplib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import SplitResult, unquote, urlsplit

from decoupled.core import limits, tracing
from decoupled.core.identifiers import is_id
from decoupled.core.workload import Rejected, Unavailable
from decoupled.outbound.addresses import mailbox
from decoupled.outbound.settings import NotConfigured, tls

ONE_LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+\Z"
"""The pattern of a text that may stand in a header: no control character, and nothing that ends a line anywhere."""


@dataclass(frozen=True, slots=True)
class Mail:
    """An e-mail, ready to go out. Both addresses are as `mailbox` makes them."""

    sender: str
    recipient: str
    message_id: str  # with its angle brackets
    content: bytes  # ASCII but for addresses that are not; every line ends in CRLF


def compose(sender: str, address: str, subject: str, text: str, message_id: str) -> Mail:
    """A plain-text e-mail that no machine should answer. `sender` is an address, or `Shop <shop@example.com>`;
    `message_id` is an id of ours, and goes out at the sender's domain. Control characters become U+FFFD.

    Raises NotConfigured for a sender that is none, ValueError for an address or an id that is none."""
    name, from_address = _sender(sender)
    if not is_id(message_id):
        raise ValueError(f"not the id of a message: {message_id[: limits.MAX_ID_CHARS]!r}")
    to_address = mailbox(address)
    message_id = f"<{message_id}@{from_address.rpartition('@')[2]}>"
    lines = [
        *_folded("From", [*_phrase(name), f"<{from_address}>"] if name else [from_address]),
        f"To: {to_address}",
        *_folded("Subject", _unstructured(subject)),
        f"Message-ID: {message_id}",
        f"Date: {format_datetime(datetime.now(UTC))}",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: quoted-printable",
        "",
        *_quoted_printable(text),
    ]
    for line in lines:  # whatever the above lets through: a line is a line, for every reader of it
        if not _LINE.fullmatch(line):
            raise ValueError(f"no line of an e-mail: {line[:80]!r}")
    return Mail(from_address, to_address, message_id, "".join(f"{line}\r\n" for line in lines).encode())


def host(address: str) -> str:
    """The domain of an address that can be mailed, as it stands in DNS."""
    return mailbox(address).rpartition("@")[2]


def send(server_url: str, mail: Mail) -> None:
    """Hand an e-mail to the mail server at smtp://user:password@host:port (STARTTLS where it is offered; never a
    password without it) or smtps://.

    Raises Rejected when the server refuses the recipient or the message for good, NotConfigured for a URL that is
    none, else Unavailable."""
    server = _server(server_url)
    connect = smtplib.SMTP_SSL if server.scheme == "smtps" else smtplib.SMTP
    port = server.port or (465 if server.scheme == "smtps" else 25)
    try:
        with contextlib.closing(connect(server.hostname or "", port, timeout=limits.OUTBOUND_TIMEOUT_S)) as smtp:
            _log_in(smtp, server.scheme, unquote(server.username or ""), unquote(server.password or ""))
            _hand_over(smtp, mail)
            with contextlib.suppress(smtplib.SMTPException, OSError):
                smtp.quit()  # it has the mail, whatever it says to this
    except smtplib.SMTPRecipientsRefused as refused:
        ((code, text),) = refused.recipients.values()
        _refuse(code, text)
    except smtplib.SMTPAuthenticationError as error:
        raise Unavailable(f"the mail server refuses our password: {error.smtp_code}") from error  # waits for a new one
    except (smtplib.SMTPConnectError, smtplib.SMTPHeloError) as error:  # us, and so no fault of the message
        raise Unavailable(f"the mail server does not serve us: {error.smtp_code}") from error
    except smtplib.SMTPResponseException as error:  # the sender, or the message itself
        _refuse(error.smtp_code, error.smtp_error)
    except UnicodeError:
        raise NotConfigured("the mail server (SMTP_URL): its name, the user or the password is not usable") from None
    except (smtplib.SMTPException, OSError) as error:
        raise Unavailable(f"the mail server: {type(error).__name__}: {error}") from error


async def send_in_thread(server_url: str, mail: Mail) -> None:
    """`send`, in one of a few threads: while they all wait for the mail server, so do further e-mails."""
    server = _server(server_url)
    try:
        sent = asyncio.get_running_loop().run_in_executor(_threads(), send, server_url, mail)
    except RuntimeError as error:  # the system's limit is reached
        raise Unavailable(f"no thread can be started: {error}") from error
    with tracing.mailing(server.hostname or "", server.port):
        await sent


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(limits.MAX_MAIL_THREADS, thread_name_prefix="mail")


# --- an e-mail's lines


# Visible ASCII, spaces and tabs, and of the rest what only an address has (RFC 6532); RFC 5322's longest line.
_LINE = re.compile(r"[\t -~\xa0-\u2027\u202a-\U0010ffff]{0,998}")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CONTROLS_OF_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/^_`{|}~-]+)*")
_WORDS = re.compile(r"(?:[!-~]+(?: [!-~]+)*)?")
_SHORT = 60  # characters of a text that is written as it is; with its header's name it fits a line of 78


def _sender(text: str) -> tuple[str, str]:
    """The name and the address of `Shop <shop@example.com>`. The name may be in quotes, or missing; it is written as it
    is, not as an encoded-word."""
    name, bracket, address = text.strip().rpartition("<")
    if "=?" not in name and address.endswith(">") == bool(bracket):
        with contextlib.suppress(ValueError):
            return name.strip().strip('"'), mailbox(address.removesuffix(">"))
    raise NotConfigured(f"the sender (MAIL_FROM) is not like `Shop <shop@example.com>`: {text[:100]!r}")


def _phrase(text: str) -> list[str]:
    """A display name: as it is where it is plain words without a mark that means something, else encoded."""
    return [text] if len(text) <= _SHORT and _ATOMS.fullmatch(text) else _encoded(text)


def _unstructured(text: str) -> list[str]:
    """A subject: as it is where that can only be read as it is, else encoded."""
    return [text] if len(text) <= _SHORT and _WORDS.fullmatch(text) and "=?" not in text else _encoded(text)


def _encoded(text: str) -> list[str]:
    """Encoded-words (RFC 2047). Each holds whole characters, at most 39 octets of them: with the name of its header
    before it, it fits a line of 76."""
    parts = [b""]
    for character in _CONTROLS.sub("\ufffd", text):
        octets = character.encode(errors="replace")
        if len(parts[-1]) + len(octets) > 39:
            parts.append(b"")
        parts[-1] += octets
    return [f"=?utf-8?b?{base64.b64encode(part).decode()}?=" for part in parts]


def _folded(name: str, words: list[str]) -> list[str]:
    """A header's lines, a word on each: between encoded-words, a line's end is not part of the text."""
    return [f"{name}: {words[0]}", *(f" {word}" for word in words[1:])]


def _quoted_printable(text: str) -> list[str]:
    """A body's lines, of 76 characters at most, in ASCII. Whatever ends a line in the text ends one here, and nothing
    else does: there is no bare CR or LF left that one server takes for an end and another does not."""
    text = re.sub("\r\n?", "\n", text).removesuffix("\n")
    whole = [_CONTROLS_OF_TEXT.sub("\ufffd", line).encode(errors="replace") for line in text.split("\n")]
    return [part for line in whole for part in binascii.b2a_qp(line, istext=False).decode().split("\n")]


# --- the mail server


def _server(url: str) -> SplitResult:
    """The parts of the server's URL, which is not repeated when it is none: it holds a password."""
    with contextlib.suppress(ValueError):  # of the port
        parts = urlsplit(url)
        if parts.scheme in ("smtp", "smtps") and parts.hostname and parts.port != 0:
            return parts
    raise NotConfigured("the mail server (SMTP_URL) is not smtp://host or smtps://host, with special characters as %40")


def _log_in(smtp: smtplib.SMTP, scheme: str, user: str, password: str) -> None:
    smtp.ehlo_or_helo_if_needed()
    encrypted = scheme == "smtps"
    if not encrypted and smtp.has_extn("starttls"):
        smtp.starttls(context=tls())
        smtp.ehlo_or_helo_if_needed()
        encrypted = True
    if user:
        if not encrypted:
            raise Unavailable("the mail server offers no encryption, and the password is not sent without it")
        smtp.login(user, password)


def _hand_over(smtp: smtplib.SMTP, mail: Mail) -> None:
    beyond_ascii = not mail.content.isascii()
    if beyond_ascii and not smtp.has_extn("smtputf8"):
        raise Rejected("the mail server cannot send this: it takes no addresses beyond ASCII (SMTPUTF8)")
    smtp.sendmail(mail.sender, [mail.recipient], mail.content, ["SMTPUTF8", "BODY=8BITMIME"] if beyond_ascii else [])


def _refuse(code: int, text: bytes | str) -> None:
    said = f"the mail server said {code} {text.decode(errors='replace') if isinstance(text, bytes) else text}"
    if 500 <= code < 600:
        raise Rejected(said)
    raise Unavailable(said)
