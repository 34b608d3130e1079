"""A server whose messages move to another system: from one moment on it accepts nothing, whatever a client sends. It
stands before all who put messages on the queue, so that there is one door to close; what is kept of it is in the file.

    closed here ─▶ what the writer has by then is on the disk ─▶ so is the mark ─▶ the tool is told
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec

from decoupled.core.departure import Departure, NotPossible, Told, Wanted, following
from decoupled.core.outcomes import NotSent
from decoupled.core.workload import Message
from decoupled.server.door import Sender, Sent
from decoupled.server.health import Trouble

log = logging.getLogger("decoupled.move")

T = TypeVar("T")

_wanted = msgspec.msgpack.Decoder(Wanted)
_text = msgspec.msgpack.Decoder(str)


class Kept(Protocol):
    """The mark in the file."""

    def read(self) -> Departure | None:
        """As it is. Raises StoreUnavailable."""
        ...

    def write(self, departure: Departure | None) -> None:
        """Inside a transaction."""
        ...

    def remember(self, text: str) -> None:
        """Likewise: how far the tool has got."""
        ...


class Writing(Protocol):
    """The writer, as far as it is asked here."""

    loop: asyncio.AbstractEventLoop

    def run(self, operation: Callable[[], T]) -> asyncio.Future[T]:
        """Do it in a transaction."""
        ...

    def sends_wait(self) -> bool:
        """Whether messages that it was given are not written yet."""
        ...


class Taking(Protocol):
    """Who takes messages off the queue."""

    held: bool  # it takes none, until it is woken without that

    def wake(self) -> None:
        """Take what there is."""
        ...

    def in_flight(self) -> bool:
        """Whether some are with workers, or about to be stored."""
        ...


class Departing:
    """A piece of the upkeep; and implements Sender."""

    name = "move"

    def __init__(
        self, kept: Kept, writer: Writing, taking: Taking, sender: Sender, clock_ms: Callable[[], int]
    ) -> None:
        """As the file says. Raises StoreUnavailable."""
        self._kept = kept
        self._writer = writer
        self._taking = taking
        self._sender = sender
        self._clock_ms = clock_ms
        self._one_at_a_time = asyncio.Lock()
        self._refusal: NotSent | None = None
        self.departure: Departure | None = None
        self._set(kept.read())

    def send(self, messages: Sequence[Message], sent: Sent) -> None:
        """Hand over the messages of one request."""
        if self._refusal is None:
            self._sender.send(messages, sent)
        else:
            self._writer.loop.call_soon(_tell, sent, self._refusal)

    def away(self) -> bool:
        """Whether they move, or have moved."""
        return self.departure is not None

    def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def trouble(self) -> Trouble | None:
        return None if self.departure is None else Trouble(self.departure.says())

    def notes(self) -> list[str]:
        """What there is to know when a server starts."""
        return [] if self.departure is None else [self.departure.says()]

    def told(self) -> Mapping[str, Any] | None:
        if self.departure is None:
            return None
        return {**msgspec.structs.asdict(self.departure), "in_flight": self._taking.in_flight()}

    def numbers(self) -> Mapping[str, float]:
        return {}

    # --- what tools ask for -----------------------------------------------------

    def look(self, _given: msgspec.Raw) -> Told:
        """How it is."""
        return self._now()

    def change(self, given: msgspec.Raw) -> asyncio.Future[Told]:
        """Have it be otherwise."""
        return self._writer.loop.create_task(self._change(_wanted.decode(given)))

    def remember(self, given: msgspec.Raw) -> asyncio.Future[bool]:
        """Keep how far the tool has got."""
        text = _text.decode(given)

        def keep() -> bool:
            self._kept.remember(text)
            return True

        return self._writer.run(keep)

    async def _change(self, wanted: Wanted) -> Told:
        async with self._one_at_a_time:
            try:
                after = following(self.departure, wanted, self._clock_ms())
            except NotPossible as why:
                return self._now(str(why))
            if after != self.departure:
                await self._become(after)
        return self._now()

    def _now(self, why_not: str = "") -> Told:
        return Told(self.departure, self._taking.in_flight(), why_not, served=True)

    async def _become(self, after: Departure | None) -> None:
        """Closed before it is written, and open only after it: whatever fails, nothing is accepted that no tool will
        find."""
        try:
            if after is not None:
                self._set(after)
                while self._writer.sends_wait():  # what came before, and no more comes
                    await self._writer.run(_nothing)
            await self._writer.run(partial(self._kept.write, after))
        except Exception:
            self._set(self._kept.read())  # whether it was written, the file knows
            raise
        self._set(after)
        told = {} if after is None else msgspec.structs.asdict(after)
        log.warning("requests are accepted again" if after is None else "nothing is accepted any more", extra=told)

    def _set(self, departure: Departure | None) -> None:
        self.departure = departure
        self._refusal = None if departure is None else departure.refusal()
        before, self._taking.held = self._taking.held, departure is not None and not departure.takes
        if before and not self._taking.held:
            self._taking.wake()


def _nothing() -> None:
    pass


def _tell(sent: Sent, refusal: NotSent) -> None:
    try:
        sent(refusal)
    except Exception:  # one client's trouble must not keep the answer from the others
        log.exception("an answer could not be given")
