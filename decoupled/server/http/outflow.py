"""The way of a stream to its client: its parts, framed as HTTP has them, and its end. What is in the parts, and when
they come, the stream says; what follows its end, the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from decoupled.server.http.answers import LAST_CHUNK, chunk
from decoupled.server.http.request import Request


class Outflow:
    """Implements Sink. `taken` says whether the client has taken what it was sent, `finished` hears of the end."""

    def __init__(
        self,
        transport: asyncio.Transport,
        request: Request,
        taken: Callable[[], bool],
        finished: Callable[[asyncio.Transport, Request], None],
    ) -> None:
        self._transport = transport
        self._request = request
        self._taken = taken
        self._finished = finished

    @property
    def takes_more(self) -> bool:
        return self._taken()

    def send(self, part: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(chunk(part, self._request))

    def finish(self) -> None:
        if not self._transport.is_closing():
            if self._request.version != "1.0":
                self._transport.write(LAST_CHUNK)
            self._finished(self._transport, self._request)
