"""Removes what is due: records and bodies that have been kept for their time, and then what the file does not need.

look at a part of the file, in a thread ─▶ some rows a transaction, which gives way to requests ─▶ the next part
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from decoupled.core import upkeep_limits
from decoupled.core.retention import Found, Looked
from decoupled.core.times import rfc3339
from decoupled.engines.protocols import StoreUnavailable
from decoupled.server.group_commit import Writer
from decoupled.server.health import Trouble

T = TypeVar("T")

log = logging.getLogger("decoupled.retention")


class Store(Protocol):
    """The file. `look` is asked in a thread, the others by the writer, in its transactions."""

    def look(self, now_ms: int, part: int) -> Looked:
        """What is due at the next part, from this one on. Raises StoreUnavailable, as all do."""
        ...

    def looked_before(self, now_ms: int) -> int:
        """When somebody last began to; and remember that it is now."""
        ...

    def remove(self, found: Sequence[Found]) -> Counter[str]:
        """Records; how many, by status."""
        ...

    def remove_bodies(self, found: Sequence[Found]) -> int:
        """Bodies of final messages; how many."""
        ...

    def shrink(self) -> int:
        """Give back some of the file's free pages; how many."""
        ...

    def close(self) -> None:
        """No more looks."""
        ...


class Keeping:
    """A piece of the upkeep. `says`: what people have said, for people; `store` None: nothing is ever due. Both may
    change while it goes on."""

    name = "retention"

    def __init__(self, store: Store | None, says: str, writer: Writer, clock_ms: Callable[[], int]) -> None:
        self._store = store
        self._writer = writer
        self._clock_ms = clock_ms
        self._says = says
        self.rests: Callable[[], bool] = lambda: False  # nothing is removed meanwhile
        self._closing = asyncio.Event()
        self._changed = asyncio.Event()
        self._sweeping: asyncio.Task[None] | None = None
        self._removed: Counter[str] = Counter()
        self._why: str | None = None  # it is not done
        self._waits: str | None = None  # for a person, who may see that the clock is wrong

    def start(self) -> None:
        self._sweeping = self._writer.loop.create_task(self._go_on())

    def change(self, store: Store | None, says: str) -> None:
        """By these rules from now on: nothing more is removed by those of before."""
        self._store, self._says = store, says
        self._changed.set()

    async def close(self) -> None:
        self._closing.set()
        self._changed.set()
        if self._sweeping is not None:
            await self._sweeping

    def trouble(self) -> Trouble | None:
        why = self._why or self._waits
        return None if why is None else Trouble(f"what is due is not removed: {why}")

    def told(self) -> Mapping[str, Any] | None:
        if self._store is None:
            return None
        counts = dict(self._removed)
        removed = ", ".join(f"{count:,} {what}" for what, count in counts.items())
        says = f"removed since the server started: {removed}" if removed else "nothing removed yet"
        return {"kept": self._says, "removed": counts, "says": f"{says} ({self._says})"}

    def numbers(self) -> Mapping[str, float]:
        return {}

    # --- what it does -----------------------------------------------------------

    async def _go_on(self) -> None:
        """As long as there are rules, by those that there are."""
        while not self._closing.is_set():
            self._changed.clear()
            if (store := self._store) is None:
                self._why = self._waits = None
                await self._changed.wait()
                continue
            while not self._is_over(store):
                await self._once(store)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), upkeep_limits.SWEEP_EVERY_S)
            store.close()

    def _is_over(self, store: Store) -> bool:
        """Its rules count no more."""
        return self._closing.is_set() or self._store is not store

    async def _once(self, store: Store) -> None:
        """The edge: whatever goes wrong is its trouble, and it is tried again."""
        before = self._removed.copy()
        try:
            if not self.rests():
                await self._wait_where_the_clock_leapt(store)
                await self._sweep(store)
            self._why = None
        except StoreUnavailable as error:
            self._failed(str(error))
        except Exception as error:  # a bug, of which people must hear
            log.exception("what is due could not be removed")
            self._why = f"{type(error).__name__}: {error}"
        if removed := self._removed - before:
            log.info("what was due is removed", extra=dict(removed))

    def _failed(self, why: str) -> None:
        if self._why is None:
            log.warning("what is due is not removed; it is tried again", extra={"error": why})
        self._why = why

    async def _wait_where_the_clock_leapt(self, store: Store) -> None:
        """A clock that is years ahead would make everything due at once."""
        now_ms = self._clock_ms()
        before_ms = await self._writer.run(partial(store.looked_before, now_ms))
        if now_ms - before_ms <= upkeep_limits.LEAP_S * 1000:
            return
        begins = rfc3339(now_ms + int(upkeep_limits.LEAP_WAIT_S * 1000))
        self._waits = (
            f"the last look for it was at {rfc3339(before_ms)}, and it is {rfc3339(now_ms)} now by the clock;"
            f" if that is right, do nothing: it is removed from {begins} on"
        )
        log.warning("what is due is not removed yet", extra={"error": self._waits})
        await self._pause(upkeep_limits.LEAP_WAIT_S)
        self._waits = None

    async def _sweep(self, store: Store) -> None:
        loop, part = self._writer.loop, 0
        while not self._is_over(store):
            began = loop.time()
            looked = await asyncio.to_thread(store.look, self._clock_ms(), part)
            await self._rest(loop.time() - began)
            for some in _parts(looked.records):
                self._removed += await self._write(store, partial(store.remove, some), Counter())
            for some in _parts(looked.bodies):
                self._removed["bodies"] += await self._write(store, partial(store.remove_bodies, some), 0)
            if looked.following is None:
                break
            part = looked.following
        while await self._write(store, store.shrink, 0):
            pass  # less is free each time

    async def _write(self, store: Store, operation: Callable[[], T], nothing: T) -> T:
        """Requests come first, for a moment; and it takes a part of the time only."""
        loop = self._writer.loop
        until = loop.time() + upkeep_limits.REMOVE_PAUSE_S
        while self._writer.gives_way() and loop.time() < until and not self._is_over(store):
            await asyncio.sleep(0.01)
        if self._is_over(store) or self.rests():
            return nothing
        began = loop.time()
        done = await self._writer.run(lambda: nothing if self._is_over(store) or self.rests() else operation())
        await self._rest(loop.time() - began)
        return done

    async def _rest(self, took_s: float) -> None:
        """After what took so long."""
        await self._pause(min(took_s / upkeep_limits.REMOVE_PART - took_s, upkeep_limits.REMOVE_PAUSE_S))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)


def _parts(found: Sequence[Found]) -> list[Sequence[Found]]:
    size = upkeep_limits.REMOVE_AT_ONCE
    return [found[start : start + size] for start in range(0, len(found), size)]
