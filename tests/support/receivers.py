"""Real servers that receive notifications in tests: HTTP and HTTPS endpoints, and a mail server. Loopback only."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP

Reply = tuple[int, dict[str, str]]


@dataclass
class HttpReceiver:
    """Answers each request with what `reply` says, and keeps what it was sent."""

    port: int = 0
    reply: Callable[[], Reply] = lambda: (204, {})
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)  # path, headers, body
    connections: int = 0


@contextlib.contextmanager
def http_receiver(certificate: trustme.LeafCert | None = None) -> Iterator[HttpReceiver]:
    """Serves on 127.0.0.1, with TLS if there is a certificate."""
    receiver = HttpReceiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept

        def setup(self) -> None:
            super().setup()
            receiver.connections += 1

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            status, headers = receiver.reply()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = _ManyClients(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    receiver.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()


class _ManyClients(ThreadingHTTPServer):
    """Takes connections as fast as they come: a backlog of 5 would have some wait for a second."""

    daemon_threads = True
    request_queue_size = 1_024


@dataclass
class MailReceiver:
    """Keeps the e-mails it was sent. The replies are what it says to each, and in the end."""

    port: int = 0
    recipient_reply: str = "250 OK"
    data_reply: str = "250 OK"
    quit_reply: str = "221 Bye"
    mails: list[tuple[list[str], bytes]] = field(default_factory=list)  # recipients, message

    async def handle_RCPT(self, _server: SMTP, _session: Any, envelope: Any, address: str, _options: list[str]) -> str:  # noqa: N802
        if self.recipient_reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.recipient_reply

    async def handle_DATA(self, _server: SMTP, _session: Any, envelope: Any) -> str:  # noqa: N802
        if self.data_reply.startswith("250"):
            self.mails.append((list(envelope.rcpt_tos), envelope.content))
        return self.data_reply

    async def handle_QUIT(self, _server: SMTP, _session: Any, _envelope: Any) -> str:  # noqa: N802
        return self.quit_reply


@contextlib.contextmanager
def mail_receiver(
    tls: ssl.SSLContext | None = None, *, smtputf8: bool = True, **options: Any
) -> Iterator[MailReceiver]:
    """Serves SMTP on 127.0.0.1; with STARTTLS if there is a context for it."""
    receiver = MailReceiver()
    controller = _AnyPort(receiver, hostname="127.0.0.1", port=0, tls_context=tls, enable_SMTPUTF8=smtputf8, **options)
    controller.start()
    receiver.port = controller.port
    try:
        yield receiver
    finally:
        controller.stop()


class _AnyPort(Controller):
    """Takes the port that the system gives."""

    def _trigger_server(self) -> None:
        assert isinstance(self.server, asyncio.Server)
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]  # aiosmtpd leaves it untyped
