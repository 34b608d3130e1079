"""One e-mail through the operator's mail server. Knows nothing of what is sent, or why."""

from __future__ import annotations

import smtplib
from datetime import UTC, datetime
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

from decoupled.core import limits
from decoupled.core.workload import Rejected, Unavailable
from decoupled.outbound.settings import tls


def compose(sender: str, address: str, subject: str, text: str, message_id: str) -> EmailMessage:
    """A plain-text e-mail that no machine should answer. `message_id` is its Message-ID, at the sender's domain."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = sender, address, subject
    mail["Message-ID"] = f"<{message_id}@{sender.rpartition('@')[2].rstrip('>')}>"
    mail["Date"] = datetime.now(UTC)
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(text)
    return mail


def send(server_url: str, mail: EmailMessage) -> None:
    """Hand an e-mail to the mail server at smtp://user:password@host:port (STARTTLS where it is offered; never a
    password without it) or smtps://.

    Raises Rejected when the server refuses the recipient or the message for good, else Unavailable."""
    server = urlsplit(server_url)
    connect = smtplib.SMTP_SSL if server.scheme == "smtps" else smtplib.SMTP
    port = server.port or (465 if server.scheme == "smtps" else 25)
    try:
        with connect(server.hostname or "", port, timeout=limits.OUTBOUND_TIMEOUT_S) as smtp:
            _log_in(smtp, server.scheme, unquote(server.username or ""), unquote(server.password or ""))
            smtp.send_message(mail)
    except smtplib.SMTPRecipientsRefused as refused:
        ((code, text),) = refused.recipients.values()
        _refuse(code, text)
    except smtplib.SMTPAuthenticationError as error:
        raise Unavailable(f"the mail server refuses our password: {error.smtp_code}") from error  # waits for a new one
    except smtplib.SMTPResponseException as error:  # the sender, or the message itself
        _refuse(error.smtp_code, error.smtp_error)
    except smtplib.SMTPNotSupportedError as error:
        raise Rejected(f"the mail server cannot send this: {error}") from error
    except (smtplib.SMTPException, OSError) as error:
        raise Unavailable(f"the mail server: {type(error).__name__}: {error}") from error


def _log_in(smtp: smtplib.SMTP, scheme: str, user: str, password: str) -> None:
    smtp.ehlo_or_helo_if_needed()
    encrypted = scheme == "smtps"
    if not encrypted and smtp.has_extn("starttls"):
        smtp.starttls(context=tls())
        encrypted = True
    if user:
        if not encrypted:
            raise Unavailable("the mail server offers no encryption, and the password is not sent without it")
        smtp.login(user, password)


def _refuse(code: int, text: bytes | str) -> None:
    said = f"the mail server said {code} {text.decode(errors='replace') if isinstance(text, bytes) else text}"
    if 500 <= code < 600:
        raise Rejected(said)
    raise Unavailable(said)
