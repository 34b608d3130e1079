"""Turns for reads of the table: all that one turn of the event loop brings share a snapshot, and the loop sees to
others before it would be held up. What is read, those say who ask for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager

from decoupled.server.http.turns import TURN_S

log = logging.getLogger("decoupled.gateway")

Read = Callable[[], None]
"""Reads, and does something about it."""


class Reads:
    """First come, first served. Those that wait are as many as have connections."""

    def __init__(self, loop: asyncio.AbstractEventLoop, snapshot: Callable[[], AbstractContextManager[None]]) -> None:
        """What is read in one `snapshot` costs less; it begins with the first of these reads."""
        self._loop = loop
        self._snapshot = snapshot
        self._waiting: deque[Read] = deque()  # that have come and have had no turn
        self._scheduled = False

    def take(self, read: Read) -> None:
        """When all that this turn of the loop brings is there: whoever was told of a commit and then asked, sees it."""
        self._waiting.append(read)
        self._soon()

    def _soon(self) -> None:
        if not self._scheduled and self._waiting:
            self._scheduled = True
            self._loop.call_soon(self._read_all)

    def _read_all(self) -> None:
        """For a turn's time: a page of a listing takes milliseconds, and a megabyte until the loop has sent it. What a
        read asks for anew has to see what was stored meanwhile, and is no part of this."""
        self._scheduled = False
        until = time.perf_counter() + TURN_S
        left = len(self._waiting)
        with self._snapshot():
            while left and time.perf_counter() < until:
                left -= 1
                read = self._waiting.popleft()
                try:
                    read()
                except Exception:  # one client's trouble must not keep the answer from the others
                    log.exception("an answer could not be given")
        self._soon()
