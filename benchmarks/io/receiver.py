"""The receiver of the webhooks that `make bench-io` has delivered, on as many hosts as are wanted: each is an address
of the loopback. Runs in the loop of whoever sends, and keeps when each id came."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import cast

import httptools

PORT_TRIES = 20  # another program may have the port at one of the hosts
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
NO_CONTENT_AND_BYE = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"


class Receiver:
    """Answers each request 204 after `answer_s`; those to a host that hangs, when it is healed.

    `came`: the loop's time at which each webhook-id first came, if it was answered. `answered`: how often it was."""

    def __init__(self, answer_s: float = 0.0) -> None:
        self.answer_s = answer_s
        self.hanging: set[str] = set()
        self.came: dict[str, float] = {}
        self.answered: Counter[str] = Counter()
        self.port = 0
        self._held: list[tuple[_Connection, float]] = []
        self._servers: list[asyncio.Server] = []

    async def listen(self, *hosts: str) -> None:
        """At one port of all these hosts."""
        for attempt in range(PORT_TRIES):
            try:
                for host in hosts:
                    self._servers.append(await self._listen(host))
            except OSError:
                self.close()
                if attempt + 1 == PORT_TRIES:
                    raise
            else:
                return

    async def _listen(self, host: str) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(self, host), host, self.port, backlog=4_096)
        self.port = server.sockets[0].getsockname()[1]
        return server

    def close(self) -> None:
        """Take no further connections."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        self.port = 0

    def url(self, host: str) -> str:
        """Where notifications for that host go."""
        return f"http://{host}:{self.port}/hook"

    def heal(self) -> None:
        """No host hangs any more; who still waits is answered."""
        self.hanging.clear()
        held, self._held = self._held, []
        for connection, came_at in held:
            self._answer(connection, came_at)

    def take(self, connection: _Connection) -> None:
        """A whole request is there."""
        loop = asyncio.get_running_loop()
        if connection.host in self.hanging:
            self._held.append((connection, loop.time()))
        elif self.answer_s:
            loop.call_later(self.answer_s, self._answer, connection, loop.time())
        else:
            self._answer(connection, loop.time())

    def _answer(self, connection: _Connection, came_at: float) -> None:
        if connection.answer():
            self.came.setdefault(connection.webhook_id, came_at)
            self.answered[connection.webhook_id] += 1


class _Connection(asyncio.Protocol):
    """One request after the other; nobody pipelines webhooks."""

    transport: asyncio.Transport

    def __init__(self, receiver: Receiver, host: str) -> None:
        self.receiver, self.host = receiver, host
        self.webhook_id = ""
        self.keep_alive = True
        self.parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"webhook-id":
            self.webhook_id = value.decode()

    def on_message_complete(self) -> None:
        self.keep_alive = self.parser.should_keep_alive()
        self.receiver.take(self)

    def answer(self) -> bool:
        """Whether the client still was there."""
        if self.transport.is_closing():
            return False
        if self.keep_alive:
            self.transport.write(NO_CONTENT)
        else:
            self.transport.write(NO_CONTENT_AND_BYE)
            self.transport.close()
        return True
