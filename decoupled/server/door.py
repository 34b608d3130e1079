"""The door: where clients come in, as the writer's process has it. Processes beside it (`fronts/crew.py`), or itself
(`http/inside.py`)."""

from __future__ import annotations

from typing import Any, Protocol

from decoupled.server.health import Trouble


class Door(Protocol):
    """On a socket that listens."""

    client: type[Any] | None  # what a client's connection is an instance of, where it is in this process

    async def start(self) -> None:
        """Let clients in. Returns when the first one can be answered, or that takes too long."""
        ...

    def renew(self) -> None:
        """Have others serve from now on, if that can be done."""
        ...

    async def leave(self) -> None:
        """Let no more in; requests that are whole get their answers, within a bounded time."""
        ...

    def trouble(self) -> Trouble | None:
        """Why no further client is let in, or what is wrong for those that are there."""
        ...

    def ready(self) -> int:
        """How many processes take requests."""
        ...
