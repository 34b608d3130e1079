"""The door: where clients come in, as the writer's process has it. Processes beside it (`fronts/crew.py`), or itself
(`http/inside.py`). And where what they bring goes from there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from decoupled.core.outcomes import Together
from decoupled.core.workload import Message
from decoupled.server.health import Trouble

Sent = Callable[[Together], None]
"""Told once what came of the messages: those of which it hears nothing else are on the disk."""


class Sender(Protocol):
    """Who puts messages on the queue: the writer, a link to it, or who stands before it and may refuse."""

    def send(self, messages: Sequence[Message], sent: Sent) -> None:
        """Those of one request, all or none, but for those that are refused each for itself; `sent` hears of it once,
        when they are on the disk or known not to be."""
        ...


class Door(Protocol):
    """On a socket that listens."""

    client: tuple[type[Any], ...]  # what a client's connection is an instance of, where it is in this process

    async def start(self) -> None:
        """Let clients in. Returns when the first one can be answered, or that takes too long."""
        ...

    def renew(self) -> None:
        """Serve with what has changed from now on: the certificate, and the fronts where there are some."""
        ...

    async def leave(self, gently_s: float = 0.0) -> None:
        """Let no more in. For so long, whoever is there may send one more request, and goes with its answer; then
        requests that are whole get their answers, within a bounded time."""
        ...

    def trouble(self) -> Trouble | None:
        """Why no further client is let in, or what is wrong for those that are there."""
        ...

    def ready(self) -> int:
        """How many processes take requests."""
        ...
