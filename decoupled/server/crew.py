"""A crew: as many processes of one kind as there should be. Replaces those that end; when one cannot be started, or
does not last, tries again ever more slowly, and says so for as long as some are missing."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from decoupled.core import limits, tracing
from decoupled.core.backoff import doubled_s
from decoupled.server.child import ChildProcess
from decoupled.server.health import Trouble

C = TypeVar("C", bound=ChildProcess)


class Crew(Generic[C]):
    """Owns the processes."""

    def __init__(
        self,
        size: int,
        called: tuple[str, str],
        loop: asyncio.AbstractEventLoop,
        log: logging.Logger,
        spread: Callable[[], float] = random.random,
    ) -> None:
        """Of `size` processes; `called` is what people call one of them, and several."""
        self.loop = loop
        self.size = size
        self.members: list[C] = []
        self.departing: list[C] = []  # begin nothing more, have something to finish, and are replaced already
        self._one, self._several = called
        self._log = log
        self._spread = spread
        self._stopping = False
        self._filling: asyncio.Task[None] | None = None
        self._failures = 0  # in a row
        self._failed_at = 0.0
        self._retry_at = 0.0
        self._why: str | None = None  # the last of them
        self._short_since: float | None = None  # when some were first seen to be missing

    def _make(self) -> C:
        """Another process, not started yet."""
        raise NotImplementedError

    def _joined(self) -> None:
        """There is one more."""

    # --- enough of them -------------------------------------------------------

    def fill(self) -> None:
        """Start as many as are missing, in the background."""
        if self._filling is None and self._missing():
            self._filling = self.loop.create_task(self._fill())
            self._filling.add_done_callback(self._filled)

    def _missing(self) -> bool:
        return not self._stopping and len(self.members) < self.size

    async def _fill(self) -> None:
        while self._missing():
            if (pause_s := self._retry_at - self.loop.time()) > 0:
                await asyncio.sleep(pause_s)
                continue
            try:
                await self._start_one()
            except OSError as error:
                self._failed(f"{self._one} cannot be started: {error.strerror or error}")

    def _filled(self, task: asyncio.Task[None]) -> None:
        self._filling = None
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error  # in the loop, whose last resort it is
        self.fill()  # one may have been lost since the last look

    async def _start_one(self) -> C:
        member = self._make()
        await self._start(member)
        return member

    async def _start(self, member: C) -> None:
        await member.start()
        if not member.gone:
            self.members.append(member)
            self._joined()  # it takes what it will do when it is ready

    def _failed(self, why: str) -> None:
        self._failures += 1
        self._failed_at = time.monotonic()
        pause_s = doubled_s(self._failures, self._spread(), limits.WORKER_RETRY_FIRST_S, limits.WORKER_RETRY_CAP_S)
        self._retry_at = self.loop.time() + pause_s
        if self._why is None:  # once, however long it lasts
            what = f"{self._several} are missing; they are started again, ever more slowly"
            self._log.error(what, extra={"cause": why})
        self._why = why

    def _is_gone(self, member: C) -> bool:
        """It has ended. Whether it had been replaced before."""
        replaced = member in self.departing
        for some in (self.members, self.departing):
            if member in some:
                some.remove(member)
        return replaced

    async def end(self) -> None:
        """End them all, once they have nothing to do any more. Where there are traces, they send what they have of
        them."""
        self._stopping = True
        if tracing.active is not None:
            for member in [*self.members, *self.departing]:
                member.hang_up()
            until = self.loop.time() + limits.TRACE_END_S
            while (self.members or self.departing) and self.loop.time() < until:
                await asyncio.sleep(0.01)
        self.stop()

    def stop(self) -> None:
        """End them all, at once."""
        self._stopping = True
        if self._filling is not None:
            self._filling.cancel()
        for member in [*self.members, *self.departing]:
            member.kill("the server stops")

    # --- health ---------------------------------------------------------------

    def ready(self) -> int:
        """How many have imported their workloads."""
        return sum(member.ready and not member.gone for member in self.members)

    def look(self) -> None:
        """Again and again: whether all are there."""
        enough = self.ready() >= self.size
        self._short_since = None if enough else self._short_since or self.loop.time()
        if self._why is not None and enough and all(member.proven for member in self.members):
            self._log.info(f"all {self._several} run again", extra={"processes": len(self.members)})
            self._failures, self._why = 0, None

    def trouble(self) -> Trouble | None:
        """Why there are fewer than there should be, or why they do not last."""
        details = list(self._details())
        return Trouble("; ".join(details)) if details else None

    def _details(self) -> Iterator[str]:
        why = self._why
        if why is None:
            if self._short_since is None or self.loop.time() - self._short_since < limits.WORKER_SLOW_START_S:
                return
            why = "the others are still starting"
        yield f"{self.ready()} of {self.size} {self._several} are ready: {why}"
