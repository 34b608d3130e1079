"""What becomes of an error that nobody foresaw, in a callback or a task of the event loop. Whatever it broke, a clock
that goes no more or messages that nobody settles, would go unnoticed: so the server ends in order, and says so with its
exit status. What is not settled stays on the queue, and the next start goes on with it.

One client must not be able to bring that about: an error in its connection ends that connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

log = logging.getLogger("decoupled.server")


class UnforeseenError(Exception):
    """The server had to end. The log has the error."""


class _Client(Protocol):
    def abort(self) -> None:
        """Close it at once."""
        ...


class LastResort:
    """The exception handler of the event loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, stop: Callable[[], None], client: tuple[type[_Client], ...] = ()
    ) -> None:
        """`client`: what a connection is an instance of, where there are some."""
        self._client = client
        self._stop = stop
        self.error: BaseException | None = None  # why the server ends
        loop.set_exception_handler(self)

    def __call__(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error, protocol = context.get("exception"), context.get("protocol")
        extra = {"what": context.get("message")}
        if isinstance(protocol, self._client):
            log.error("a connection failed, and is closed", exc_info=error, extra=extra)
            protocol.abort()
        elif error is None or (isinstance(error, OSError) and "transport" in context):
            log.error("the event loop reports", exc_info=error, extra=extra)  # the transport's protocol is told
        else:
            log.critical("an error that nobody foresaw; the server stops", exc_info=error, extra=extra)
            self.error = self.error or error
            self._stop()

    def check(self) -> None:
        """Raises UnforeseenError if there was an error that the server should not have outlived."""
        if self.error is not None:
            raise UnforeseenError(f"the server has stopped for an error that nobody foresaw: {self.error!r}")
