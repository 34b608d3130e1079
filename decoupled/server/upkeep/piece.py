"""What a piece of a server's upkeep is: something that it does beside its requests, for the years."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from decoupled.server.health import Trouble


class Piece(Protocol):
    """Goes on by itself once it is started, and owns what it has begun: a failure of it is its `trouble`, and is not
    raised. It never holds up the event loop: it reads in a thread, by a connection of its own, and writes in small
    operations of the writer, which give way to the front."""

    name: str

    def start(self) -> None:
        """The server accepts requests from now on."""
        ...

    async def close(self) -> None:
        """Begin nothing more. What is being done is given up, or done within a moment."""
        ...

    def trouble(self) -> Trouble | None:
        """What a person on call should know; asked at each request for /health."""
        ...

    def told(self) -> Mapping[str, Any] | None:
        """How it goes, as plain data, for /health; its `says` is one sentence, for `status`. None: it has nothing to do
        in this server."""
        ...

    def numbers(self) -> Mapping[str, float]:
        """Gauges, by their metrics."""
        ...
