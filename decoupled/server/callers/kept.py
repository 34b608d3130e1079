"""What a file keeps of callers, as a front sees it: looked at again and again, and told of while it cannot be read. The
file is somebody else's to read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sized
from typing import Generic, TypeVar

from decoupled.core import limits
from decoupled.core.api_keys import KeysError
from decoupled.core.problem import Problem
from decoupled.server.health import Trouble

log = logging.getLogger("decoupled.callers")

S = TypeVar("S", bound=Sized)


class Kept(Generic[S]):
    """
    the file changes ─ look, at most a second later ─▶ `take`
    it is unreadable ─ look ─▶ what was taken before counts, if that is anything, and `trouble`; else nothing does
    """

    def __init__(self, noun: str, read: Callable[[], S | None], take: Callable[[S], None]) -> None:
        """`read` gives it when it has changed, else None; raises KeysError."""
        self._noun = noun
        self._read = read
        self._take = take
        self._taken = False
        self._why: str | None = None  # it cannot be read
        self.look()

    def require(self) -> None:
        """Raises Problem 503 while nothing is known of it."""
        if not self._taken:
            raise Problem(503, f"The {self._noun} cannot be read, so that nobody can be let in.", resend="safe")

    def look(self) -> None:
        """See whether it has changed."""
        kept, why = None, None
        try:
            kept = self._read()
        except KeysError as error:
            why = str(error)
        if why is not None and self._why is None:
            log.error(f"the {self._noun} cannot be read", extra={"error": why})
        self._why = why
        if kept is not None:
            self._take(kept)
            self._taken = True
            log.info(f"{self._noun} are read", extra={"count": len(kept)})

    def look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on again and again."""
        self.look()
        loop.call_later(limits.API_KEYS_LOOK_S, self.look_again, loop)

    def trouble(self) -> Trouble | None:
        """It cannot be read."""
        if self._why is None:
            return None
        if not self._taken:
            return Trouble(f"nobody can be let in: {self._why}", refuses=True)
        return Trouble(f"{self._noun} count as they were: {self._why}")
