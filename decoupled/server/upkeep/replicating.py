"""Whether what is accepted here gets to its replica elsewhere, which Litestream makes: for how long, and how many bytes
of the log, it is behind. Litestream's own word is not asked for; what counts is what is at the replica's place, and
which part of the log here that is.

    thread: how far the replica is ─▶ how far the log is ─▶ the lag        every 1 s, or 10
            the keys, if they have changed ─▶ the writer: into the file, so that the replica has them"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from decoupled.core import upkeep_limits
from decoupled.core.limits import MIB
from decoupled.core.replicas import Lag, Place, Reached, nameless, shown
from decoupled.core.times import rfc3339
from decoupled.server.health import Trouble

log = logging.getLogger("decoupled.replica")


class Watched(Protocol):
    """What is looked at, in the thread."""

    every_s: float  # between two looks

    def reached(self) -> Reached:
        """How far the replica is. Raises whatever."""
        ...

    def here(self) -> Place:
        """How far the log is. Raises OSError."""
        ...

    def keys(self) -> tuple[Callable[[], None], Callable[[], None]] | None:
        """What the writer is to run, if the keys have changed, and what is to be called when that is on the disk.
        Raises OSError."""
        ...


class Writing(Protocol):
    """The writer, as far as it is asked here."""

    def run(self, operation: Callable[[], None]) -> asyncio.Future[None]:
        """Do it in a transaction."""
        ...


class Replicating:
    """A piece of the upkeep."""

    name = "replica"

    def __init__(
        self,
        watched: Watched,
        target: str,
        writer: Writing,
        loop: asyncio.AbstractEventLoop,
        clock_ms: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watched = watched
        self._target = target
        self._writer = writer
        self._loop = loop
        self._clock_ms = clock_ms
        self._monotonic = monotonic
        self._began = self._looked_at = monotonic()  # when the last look came to its end
        self._lag = Lag(self._began)
        self._reached: Reached | None = None  # None until it was looked at
        self._looks = 0
        self._mixed = False  # from then on: parts of two are put together, and then nobody can tell them apart
        self._writing = False  # the keys, into the file
        self._why: str | None = None  # it cannot be looked at
        self._told: str | None = None
        self._end = threading.Event()
        self._ended = asyncio.Event()

    def start(self) -> None:
        try:
            threading.Thread(target=self._run, name="replica", daemon=True).start()
        except RuntimeError as error:  # no threads left
            self._why = str(error)
            self._ended.set()

    async def close(self) -> None:
        self._end.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), upkeep_limits.REPLICA_END_S)

    def trouble(self) -> Trouble | None:
        """Another one writes there, or it is behind, or nobody knows, for too long."""
        why = self._wrong()
        return None if why is None else Trouble(why)

    def told(self) -> Mapping[str, Any] | None:
        at = None if self._reached is None else self._reached.at
        return {
            "lag_seconds": round(self._seconds(), 1),
            "lag_bytes": None if self._failure() is not None else self._lag.bytes,
            "at": None if at is None else rfc3339(at),
            "looks": self._looks,
            "failure": self._failure(),
            "says": self._wrong() or self._says(),
        }

    def numbers(self) -> Mapping[str, float]:
        seconds = {"replica_lag_seconds": self._seconds()}
        return seconds if self._failure() is not None else {**seconds, "replica_lag_bytes": self._lag.bytes}

    def _wrong(self) -> str | None:
        late = self._seconds() > upkeep_limits.REPLICA_LATE_S
        grace = self._monotonic() - self._began <= upkeep_limits.REPLICA_LATE_S
        if self._mixed:
            return (
                "another Litestream writes to the replica, or has since this server started, and two make it worthless:"
                " let one run, begin anew in an empty place, and restart"
            )
        if self._reached is not None and self._reached.foreign:
            return "another Litestream writes to the replica: let one run, or give each server a place of its own"
        if grace or not late:
            return None
        if (why := self._failure()) is not None:
            return f"the replica cannot be looked at: {why}; {self._says()}"
        return f"the replica is behind: does Litestream run? {self._says()}"

    def _says(self) -> str:
        if self._reached is None:
            return "nobody knows yet how far it is"
        if self._reached.at is None:
            return "there is none yet"
        if (seconds := self._seconds()) == 0:
            return "all is there"
        behind = f"{seconds:,.0f} s" + f" and {self._lag.bytes / MIB:,.1f} MiB" * (self._failure() is None)
        return f"{behind} are not there; its last change is of {rfc3339(self._reached.at)}"

    def _failure(self) -> str | None:
        """Why nobody knows how far it is: its place refuses, or hangs, as a disk of another machine may."""
        if self._why is not None:
            return nameless(self._why, self._target)
        silent_s = self._monotonic() - self._looked_at
        return f"its place gives no answer, for {silent_s:,.0f} s" if silent_s > upkeep_limits.REPLICA_LATE_S else None

    def _seconds(self) -> float:
        now = self._monotonic()
        return self._lag.seconds(now) if self._failure() is None else max(0.0, now - self._lag.safe_at)

    # --- the thread -------------------------------------------------------------

    def _run(self) -> None:
        wait_s = 0.0
        while not self._end.wait(wait_s):
            try:
                self._look()
                self._why = None
            except Exception as error:  # noqa: BLE001  the edge of the thread: whatever it is, it is told, and tried again
                self._why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            self._tell()
            wait_s = self._watched.every_s
        self._in_loop(self._ended.set)

    def _look(self) -> None:
        if not self._writing and (changed := self._watched.keys()) is not None:
            self._writing = True
            self._in_loop(partial(self._write, *changed))
        reached = self._watched.reached()  # first: what comes meanwhile counts as behind
        now = self._monotonic()
        if self._reached is None and reached.at is not None:  # what was accepted since then may be of an earlier server
            self._lag.safe_at = min(now, now - (self._clock_ms() - reached.at) / 1000)
        self._lag.look(reached.place, self._watched.here(), now)
        self._reached = reached
        self._mixed = self._mixed or reached.mixed
        self._looks += 1
        self._looked_at = now

    def _tell(self) -> None:
        """Once when it begins, and once when it is over."""
        wrong = self._wrong()
        if wrong is not None and self._told is None:
            more = {"error": wrong, "replica": shown(self._target)}  # /health, which asks for no key, says not where
            log.error("the replica is not as it should be", extra=more)
        elif wrong is None and self._told is not None:
            log.info("the replica is as it should be again")
        self._told = wrong

    def _in_loop(self, do: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(do)

    # --- the event loop ---------------------------------------------------------

    def _write(self, write: Callable[[], None], kept: Callable[[], None]) -> None:
        if not self._end.is_set():
            self._writer.run(write).add_done_callback(partial(self._written, kept))

    def _written(self, kept: Callable[[], None], done: asyncio.Future[None]) -> None:
        """Where it failed, the next look tries again."""
        if not done.cancelled() and (error := done.exception()) is not None:
            log.error("the keys could not be put where they are replicated", extra={"error": str(error)})
        elif not done.cancelled():
            kept()
        self._writing = False
