"""TLS between a client's socket and its connection: ciphertext on one side, HTTP on the other, and OpenSSL in between.

    socket ─ bytes ─▶ Tls ─ after the handshake ─▶ Connection
           ◀─ bytes ─     ◀─ write, write_eof, close ─

To the connection it is a transport like the one below it, which has an end for each direction: a close_notify is the
half-close that lets a client take the last answer. From the moment that a client is let in it counts as one, whether it
shakes hands or not: what it may keep from others, and for how long, the connection and its server decide. uvloop's own
TLS has neither, and keeps 256 KiB for each client.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from typing import Any, Protocol, cast

from decoupled.core import limits
from decoupled.core.problem import Problem
from decoupled.server.http.answers import encode
from decoupled.server.http.connection import Connection
from decoupled.server.http.exchange import alone
from decoupled.server.http.turns import Turns

log = logging.getLogger("decoupled.http_server")


class Server(Protocol):
    """What this needs of the server."""

    loop: asyncio.AbstractEventLoop
    date: str  # of the header
    handshakes: Turns  # each is a millisecond's work, and thousands may come at once


class Tls(asyncio.Transport, asyncio.Protocol):
    """Of one client: the protocol of its socket, and its connection's transport."""

    def __init__(self, server: Server, connection: Connection, context: ssl.SSLContext) -> None:
        super().__init__()
        self._server = server
        self._connection = connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._lower: asyncio.Transport | None = None
        self._early = b""  # that came, and waits for its turn with the handshake
        self._shaken = False  # hands
        self._sent_last = False  # nothing is written any more, and what comes is not looked at
        self._heard_last = False
        self._too_slow: asyncio.TimerHandle | None = server.loop.call_later(limits.HANDSHAKE_S, self.abort)

    # --- the socket -----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._lower = cast(asyncio.Transport, transport)
        self._connection.connection_made(self)

    def data_received(self, data: bytes) -> None:
        """Read on; of the handshake, when it is its turn."""
        if self._sent_last:
            if self._shaken:
                self._connection.data_received(data)  # which only counts it
        elif self._shaken:
            if not self._heard_last:
                self._read(data)
        elif self._lower is not None:
            self._lower.pause_reading()
            self._early = data
            self._server.handshakes.take(self._shake_in_turn)

    def eof_received(self) -> bool:
        """The client sends no more. Without a close_notify that may be somebody else's doing: but a request says itself
        where it ends, and one that is not whole is refused."""
        if self._shaken:
            self._hear_last()
        else:
            self.close()
        return True  # it is closed here, or by the connection

    def connection_lost(self, error: Exception | None) -> None:
        """It has ended."""
        self._lower = None
        self._be_in_time()
        self._connection.connection_lost(error)

    def pause_writing(self) -> None:
        """The client takes no answers."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        self._connection.resume_writing()

    # --- hands are shaken -----------------------------------------------------

    def _shake_in_turn(self) -> bool:
        """A step of turns: there is never another one at once."""
        alone(self._connection, self._shake)
        return False

    def _shake(self) -> None:
        data, self._early = self._early, b""
        lower = self._lower
        if lower is None or lower.is_closing():
            return
        rest = memoryview(data)
        try:
            while len(rest) and not self._shaken:
                self._incoming.write(rest[: limits.TLS_PIECE_BYTES])
                rest = rest[limits.TLS_PIECE_BYTES :]
                with contextlib.suppress(ssl.SSLWantReadError):
                    self._session.do_handshake()
                    self._shaken = True
        except ssl.SSLError as error:
            self._refuse(lower, error)
            return
        self._flush()
        lower.resume_reading()
        if self._shaken:
            self._be_in_time()
            self._read(rest)

    def _refuse(self, lower: asyncio.Transport, error: ssl.SSLError) -> None:
        """What it gets is TLS's alert; or, where it speaks HTTP, an answer in that."""
        log.debug("a client does not speak our TLS", extra={"error": error.reason})
        if error.reason == "HTTP_REQUEST":
            problem = Problem(400, "This port speaks HTTPS: ask for https://.", resend="safe")
            lower.write(encode(problem.response(), None, True, self._server.date))
            self._sent_last = True  # and it has until the handshake should have been done to take it
            lower.write_eof()
            lower.resume_reading()
        else:
            self._flush()
            lower.close()

    def _be_in_time(self) -> None:
        if self._too_slow is not None:
            self._too_slow.cancel()
            self._too_slow = None

    # --- in -------------------------------------------------------------------

    def _read(self, data: bytes | memoryview) -> None:
        """A piece at a time, so that OpenSSL keeps little; and all that comes of it at once, as without TLS."""
        parts: list[bytes] = []
        rest = memoryview(data)
        session, incoming = self._session, self._incoming
        try:
            while True:
                if len(rest):
                    incoming.write(rest[: limits.TLS_PIECE_BYTES])
                    rest = rest[limits.TLS_PIECE_BYTES :]
                with contextlib.suppress(ssl.SSLWantReadError):
                    while incoming.pending or session.pending():
                        if not (part := session.read(limits.TLS_RECORD_BYTES)):
                            self._told_last(parts)
                            return
                        parts.append(part)
                if not len(rest):
                    break
        except ssl.SSLError as error:
            log.debug("a client breaks TLS", extra={"error": error.reason})
            self.abort()
            return
        self._deliver(parts)

    def _told_last(self, parts: list[bytes]) -> None:
        self._deliver(parts)
        self._hear_last()

    def _deliver(self, parts: list[bytes]) -> None:
        if self._outgoing.pending:  # OpenSSL's own answers: to a new key, say
            self._flush()
        if parts and self._lower is not None:
            self._connection.data_received(b"".join(parts))

    def _hear_last(self) -> None:
        if not self._heard_last and self._lower is not None:
            self._heard_last = True
            if not self._connection.eof_received():
                self.close()

    # --- out ------------------------------------------------------------------

    def write(self, data: Any) -> None:
        """Of an answer."""
        if self._sent_last or self._lower is None:
            return
        rest = memoryview(data)
        parts = []
        try:
            while len(rest):
                rest = rest[self._session.write(rest[: limits.TLS_PIECE_BYTES]) :]
                parts.append(self._outgoing.read())
        except ssl.SSLError as error:
            log.debug("a client breaks TLS", extra={"error": error.reason})
            self.abort()
            return
        self._lower.write(b"".join(parts))

    def _flush(self) -> None:
        if self._lower is not None and (unsent := self._outgoing.read()):
            self._lower.write(unsent)

    def _send_last(self) -> None:
        """The close_notify. Whether the client sends its own is not waited for here."""
        if self._shaken and not self._sent_last:
            self._sent_last = True
            with contextlib.suppress(ssl.SSLError):
                self._session.unwrap()
            self._flush()

    # --- what the connection asks of its transport ----------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """The socket's."""
        return default if self._lower is None else self._lower.get_extra_info(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """In bytes, encrypted."""
        if self._lower is not None:
            self._lower.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """In bytes, encrypted: nothing is kept but below."""
        return 0 if self._lower is None else self._lower.get_write_buffer_size()

    def pause_reading(self) -> None:
        """All that was read has been delivered."""
        if self._lower is not None:
            self._lower.pause_reading()

    def resume_reading(self) -> None:
        """More may come."""
        if self._lower is not None:
            self._lower.resume_reading()

    def is_closing(self) -> bool:
        """Or it is closed."""
        return self._lower is None or self._lower.is_closing()

    def write_eof(self) -> None:
        """That was the last answer; the client may still send, and take it."""
        if self._lower is not None:
            self._send_last()
            self._lower.write_eof()

    def close(self) -> None:
        """When all is sent. In the middle of the handshake there is nothing to send."""
        if self._lower is not None:
            self._send_last()
            self._lower.close()

    def abort(self) -> None:
        """Whatever is unsent."""
        if self._lower is not None:
            self._lower.abort()
