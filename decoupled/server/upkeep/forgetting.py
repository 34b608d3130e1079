"""Forgetting that a tool asks for: one at a time, in a thread of its own, which reads by itself and has the writer
write, some rows a transaction, after the requests that come."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

import msgspec

from decoupled.core import limits, upkeep_limits
from decoupled.core.forgetting import Asked, Told
from decoupled.core.workload import Unavailable
from decoupled.server.group_commit import Writer
from decoupled.server.health import Trouble

T = TypeVar("T")

log = logging.getLogger("decoupled.forgetting")

_asked = msgspec.msgpack.Decoder(Asked)
_YIELD_LOOK_S = 0.01


class Running(Protocol):
    """One that goes on."""

    def run(self) -> None:
        """All of it; does not raise but for a bug, which it has told of by then."""
        ...

    def told(self) -> Told:
        """How it goes; in any thread."""
        ...


class Owning:
    """The writer, as a thread beside it asks it to write. Implements the engine's Owner."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.ending = threading.Event()

    def write(self, operation: Callable[[], T]) -> T:
        """Requests come first, for a moment; and it takes a part of the time only."""
        until = time.monotonic() + upkeep_limits.FORGET_PAUSE_S
        while self._writer.gives_way() and time.monotonic() < until:
            self.ending.wait(_YIELD_LOOK_S)
        began = time.monotonic()

        async def done() -> T:
            return await self._writer.run(operation)

        result: T = self._wait(done)
        took = time.monotonic() - began
        self.ending.wait(min(took / upkeep_limits.FORGET_PART - took, upkeep_limits.FORGET_PAUSE_S))
        return result

    def between(self, do: Callable[[], T]) -> T:
        """In the event loop, where no transaction is open."""

        async def done() -> T:
            return do()

        return self._wait(done)

    def _wait(self, do: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self.ending.is_set():
            raise Unavailable("the server ends; what was erased is erased, and asked again the rest is")
        try:
            return asyncio.run_coroutine_threadsafe(do(), self._writer.loop).result(limits.ANSWER_S)
        except TimeoutError:
            raise Unavailable("the server did not write in time; ask again") from None


class Forgettings:
    """A piece of the upkeep."""

    name = "forgetting"

    def __init__(self, owning: Owning, make: Callable[[Asked], Running]) -> None:
        self._owning = owning
        self._make = make
        self._last: Running | None = None
        self._asked: Asked | None = None  # of that
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        pass

    async def close(self) -> None:
        self._owning.ending.set()
        if (thread := self._thread) is not None:
            loop = asyncio.get_running_loop()
            until = loop.time() + upkeep_limits.BACKUP_LEAVE_S
            while thread.is_alive() and loop.time() < until:
                await asyncio.sleep(upkeep_limits.BACKUP_LOOK_S)

    def trouble(self) -> Trouble | None:
        return None

    def told(self) -> Mapping[str, Any] | None:
        """Whose data it is, is not said here: others read that."""
        if self._last is None or (told := self._last.told()).ended:
            return None
        return {"running": told.what, "says": f"somebody's data is erased: {told.what}"}

    def numbers(self) -> Mapping[str, float]:
        return {}

    # --- what tools ask for -----------------------------------------------------

    def begin(self, given: msgspec.Raw) -> Told:
        """Begin one, or find the same one going on."""
        asked = _asked.decode(given)
        if self._last is not None and not (told := self._last.told()).ended:
            why = "another one goes on, or the same with other options; one is done at a time"
            return told if asked == self._asked else Told(of=asked.says, what="refused", error=why)
        running = self._make(asked)
        self._thread = threading.Thread(target=self._run, args=(running,), name="forgetting", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # no threads left
            self._thread = None
            return Told(of=asked.says, what="refused", error=str(error))
        self._last, self._asked = running, asked
        return running.told()

    def look(self, given: msgspec.Raw) -> Told:
        """How it goes, or went."""
        asked = _asked.decode(given)
        if self._last is None or (told := self._last.told()).of != asked.says:
            return Told(of=asked.says, what="unknown", error="the server knows nothing of it any more: ask again")
        return told

    def _run(self, running: Running) -> None:
        try:
            running.run()
        except Exception:  # the edge of the thread; whoever asked is told, too
            log.exception("forgetting met an internal error")
            return
        told = running.told()
        if told.report is not None:
            log.info("somebody's data was erased", extra={"erased": told.report.erased, "proven": told.report.proven})
        else:
            log.warning("data was not erased", extra={"error": told.what})
