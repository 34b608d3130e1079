"""The crew of fronts, as the writer's process has it: starts them, replaces those that end, renews them one by one
without a request being dropped, and takes them down first when the server stops.

The writer's process has the listener too, and takes no client from it: those that come while no front is there wait."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

from decoupled.core import limits
from decoupled.core.metrics import Numbers
from decoupled.server.certificate import Served
from decoupled.server.crew import Crew
from decoupled.server.door import Sender
from decoupled.server.fronts.child import FrontProcess, Given
from decoupled.server.fronts.seats import Seats
from decoupled.server.health import Trouble
from decoupled.server.watches import Watches

log = logging.getLogger("decoupled.fronts")

LOOK_S = 0.25
POLL_S = 0.01  # between two looks at whether a front has come or gone

Health = Callable[[], tuple[int, str]]
"""The server's, as an HTTP status and a JSON text."""


class Fronts(Crew[FrontProcess]):
    """Implements Door; owns the fronts.

    one ends ──▶ another one, later each time in a row, and `trouble` until all are there and last
    SIGHUP   ──▶ a new one is ready ──▶ the old one lets nobody in, and ends in its own time; then the next"""

    client: tuple[type[Any], ...] = ()  # none in this process

    def __init__(
        self,
        size: int,
        listener: socket.socket,
        given: Callable[[], dict[str, Any]],
        sender: Sender,
        watches: Watches,
        health: Health,
        loop: asyncio.AbstractEventLoop,
        certificate: Served | None = None,
        counted: Callable[[Numbers | None], None] = lambda _: None,
    ) -> None:
        """`given`: what each is told when it starts, beside its place here. `counted` hears what they count. Raises
        OSError."""
        super().__init__(size, ("a front", "fronts"), loop, log)
        self.sender = sender
        self.watches = watches
        self.health = health
        self.counted = counted
        self._listener = listener
        self._given = given
        self._certificate = certificate
        self._seats, self._seats_file = Seats.make()
        self._renewing: asyncio.Task[None] | None = None
        self._again = False  # as soon as that is done

    async def start(self) -> None:
        """Start them, and wait until one of them is ready; not for ever."""
        self.fill()
        self._look()
        await self._until(lambda: self.ready() > 0, limits.WORKER_SLOW_START_S)

    def _make(self) -> FrontProcess:
        certificate = None if self._certificate is None else self._certificate.file
        given = Given(self._listener, self._seats_file.fileno(), self._seats.take(), self._given(), certificate)
        return FrontProcess(self, given, self.loop)

    async def _start_one(self) -> FrontProcess:
        front = self._make()
        try:
            await self._start(front)
        except BaseException:
            self._seats.vacate(front.seat)
            raise
        return front

    def lost(self, front: FrontProcess, cause: str) -> None:
        """Its connections are gone with it. What it had sent is on the queue or not; what it had not, is not."""
        self._seats.vacate(front.seat)
        if not self._is_gone(front) and not self._stopping:
            self._failed(f"a front ended: {cause}")
            self.fill()

    # --- health ---------------------------------------------------------------

    def _look(self) -> None:
        """Counted in looks, for who is late may be this process."""
        if not self._stopping:
            self.loop.call_later(LOOK_S, self._look)
        self.look()
        for front in [*self.members, *self.departing]:
            front.silent += front.ready
            if front.gone:
                continue
            if front.silent * LOOK_S > limits.FRONT_SILENT_S:
                front.kill(f"it was silent for {limits.FRONT_SILENT_S:g} s")
            elif self.loop.time() > front.leave_by:
                front.kill("it did not end in its own time")

    def trouble(self) -> Trouble | None:
        """Why there are fewer than there should be, and what is wrong in those that are there."""
        told = {detail: refuses for front in self.members for detail, refuses in front.troubles}
        details = [*self._details(), *told]
        return Trouble("; ".join(details), refuses=any(told.values())) if details else None

    def _details(self) -> Iterator[str]:
        yield from super()._details()
        if self._renewing is not None and self._renewing.done() and (error := self._renewing.exception()) is not None:
            yield f"the fronts are not renewed: {error}"

    # --- others in their place ------------------------------------------------

    def renew(self) -> None:
        """Replace all fronts that are there now, one by one. If that is being done, it is done once more after that:
        what they should find may have come when some had already begun."""
        if self._stopping:
            return
        if self._certificate is not None:
            self._certificate.renew()
        self._again = self._renewing is not None and not self._renewing.done()
        if self._again:
            return
        self._renewing = self.loop.create_task(self._renew())
        self._renewing.add_done_callback(self._renewed)

    async def _renew(self) -> None:
        # Those that are being started were given what there was before, and are to go, too.
        await self._until(lambda: self._filling is None, limits.WORKER_START_S)
        for old in list(self.members):
            await self._until_one_has_left()
            new = await self._start_one()
            if not await self._until(lambda new=new: new.ready or new.gone, limits.WORKER_START_S) or new.gone:  # type: ignore[misc]
                raise ChildProcessError("a new one was not ready; those from before go on")
            if old in self.members:
                self._retire(old)
        while len(self.members) > self.size:  # one of them had ended by itself, and was replaced meanwhile
            self._retire(self.members[0])
        log.info("all fronts are renewed", extra={"processes": self.size})

    def _renewed(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        if isinstance(error := task.exception(), OSError):
            log.error("the fronts are not renewed", extra={"error": str(error)})
        elif error is not None:
            raise error  # in the loop, whose last resort it is
        self.fill()  # a new one may have been lost while there was one more than there should be
        if self._again:
            self.renew()

    def _retire(self, front: FrontProcess) -> None:
        self.members.remove(front)
        self.departing.append(front)
        front.leave_by = self.loop.time() + limits.FRONT_LEAVE_S
        front.leave(at_once=False)

    async def _until_one_has_left(self) -> None:
        """No more end in their own time than there are others. To hurry them would close connections that wait, when
        the next request may be on its way."""
        await self._until(lambda: len(self.departing) < self.size, limits.FRONT_LEAVE_S + limits.WORKER_END_S)

    # --- the end --------------------------------------------------------------

    async def leave(self, gently_s: float = 0.0) -> None:
        """Ask all to end: what is whole is answered. Those that do not in time are killed."""
        self._stopping = True
        for task in (self._filling, self._renewing):
            if task is not None:
                task.cancel()
        for at_once, within_s in ((False, gently_s), (True, limits.FRONT_END_S)):
            if within_s:
                for front in [*self.members, *self.departing]:
                    front.leave(at_once)
                await self._until(lambda: not (self.members or self.departing), within_s)
        self.stop()

    async def _until(self, there: Callable[[], bool], seconds: float) -> bool:
        until = self.loop.time() + seconds
        while not there() and self.loop.time() < until:
            await asyncio.sleep(POLL_S)
        return there()
