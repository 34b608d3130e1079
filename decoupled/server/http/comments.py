"""Signs of life in streams: each one gets a comment from time to time, a part of them each second. What a comment is,
the stream says."""

from __future__ import annotations

import asyncio
from itertools import cycle
from typing import Protocol

from decoupled.core import limits


class Commented(Protocol):
    """A stream."""

    def comment(self) -> None:
        """It is time for one."""
        ...


class Comments:
    """Of one process."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._groups: list[set[Commented]] = [set() for _ in range(limits.STREAM_COMMENT_S)]
        self._joining, self._due = cycle(self._groups), cycle(self._groups)
        self._ticking: asyncio.TimerHandle | None = None

    def join(self, stream: Commented) -> None:
        """It gets them from now on."""
        next(self._joining).add(stream)
        if self._ticking is None:
            self._ticking = self._loop.call_later(1, self._tick)

    def leave(self, stream: Commented) -> None:
        """No more. Harmless if it got none."""
        for group in self._groups:
            group.discard(stream)

    def _tick(self) -> None:
        self._ticking = self._loop.call_later(1, self._tick) if any(self._groups) else None
        for stream in list(next(self._due)):
            stream.comment()
