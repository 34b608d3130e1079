"""The audit in a server's background: a block of messages at a time, at a low rate, round after round. What it finds is
shown until a whole round has not found it again.

    thread: the next block ─▶ found, looked at ─▶ event loop: where it has got to, written now and then
               ▲                                                    │
               └──────── rows / rate later; an hour after the last round began, or more
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec

from decoupled.core import acknowledged, upkeep_limits
from decoupled.core.acknowledged import Acknowledged
from decoupled.core.audit import Fault, Mark, Step
from decoupled.core.workload import Unavailable
from decoupled.server.health import Trouble

log = logging.getLogger("decoupled.audit")

YIELD_LOOK_S = 0.25
T = TypeVar("T")

_given = msgspec.msgpack.Decoder(list[Acknowledged])


class Rounds(Protocol):
    """Who reads, in the thread."""

    mark: Mark

    def step(self) -> Step:
        """The next block. Raises Unavailable."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class Writing(Protocol):
    """The writer, as far as it is asked here."""

    def run(self, operation: Callable[[], T]) -> asyncio.Future[T]:
        """Do it in a transaction."""
        ...

    def gives_way(self) -> bool:
        """Whether requests come without a pause."""
        ...


class Auditing:
    """A piece of the upkeep. `writing` makes a mark what the writer is to run."""

    name = "audit"

    def __init__(
        self,
        rounds: Rounds,
        writer: Writing,
        writing: Callable[[Mark], Callable[[], None]],
        loop: asyncio.AbstractEventLoop,
        acknowledge: Callable[[Sequence[Acknowledged]], list[Acknowledged]] = list,
    ) -> None:
        self._keep = acknowledge
        self._rounds = rounds
        self._writer = writer
        self._writing = writing
        self._loop = loop
        self._end = threading.Event()
        self._ended = asyncio.Event()
        self._began = False
        self._looked_at = 0  # since the server started
        self._known: list[Fault] = []  # by the last whole round, and what this one has found until now
        self._why: str | None = None  # it does not go on

    def start(self) -> None:
        try:
            threading.Thread(target=self._run, name="audit", daemon=True).start()
        except RuntimeError as error:  # no threads left
            self._failed(str(error))
            self._ended.set()

    async def close(self) -> None:
        self._end.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), upkeep_limits.AUDIT_END_S)

    def trouble(self) -> Trouble | None:
        if faults := _alarming(self._known):
            more = f", and {len(faults) - 1:,} more faults" if len(faults) > 1 else ""
            return Trouble(f"the audit found {faults[0].says}{more}: `decoupled audit` tells of all")
        return None if self._why is None else Trouble(f"the audit does not go on: {self._why}")

    def told(self) -> Mapping[str, Any] | None:
        if not self._began:
            return None
        rounds, known = self._rounds.mark.rounds, self._known
        faults = _alarming(known)
        found = f"{len(faults):,} kinds of faults" if faults else "nothing wrong"
        if looked_into := len(known) - len(faults):
            found += f"; {looked_into:,} that were looked into"
        return {
            "messages": self._looked_at,
            "rounds": rounds,
            "faults": len(faults),
            "acknowledged": looked_into,
            "says": f"{self._looked_at:,} messages since the start, {rounds:,} rounds; {found}",
        }

    def numbers(self) -> Mapping[str, float]:
        return {"audited": self._looked_at, "audit_faults": len(_alarming(self._known))}

    # --- the thread -------------------------------------------------------------

    def _run(self) -> None:
        pause_s, written, round_began = upkeep_limits.AUDIT_FIRST_S, time.monotonic(), time.monotonic()
        mark, reading_s = self._rounds.mark, 0.0
        while not self._end.wait(pause_s) and self._may_go_on():
            rows, ended = self._step()
            pause_s = max(rows, 1) / upkeep_limits.AUDIT_ROWS_S
            reading_s += pause_s
            if (ended or time.monotonic() - written > upkeep_limits.AUDIT_MARK_S) and mark != self._rounds.mark:
                written, mark = time.monotonic(), self._rounds.mark
                self._in_loop(self._write)
            if ended:
                pause_s = max(pause_s, rest_s(time.monotonic() - round_began, reading_s))
                round_began, reading_s = time.monotonic() + pause_s, 0.0
        self._rounds.close()
        self._in_loop(self._ended.set)

    def _may_go_on(self) -> bool:
        """Once requests leave a pause, or have waited for none for a while."""
        until = time.monotonic() + upkeep_limits.AUDIT_YIELD_S
        while self._writer.gives_way() and time.monotonic() < until:
            if self._end.wait(YIELD_LOOK_S):
                return False
        return True

    def _step(self) -> tuple[int, bool]:
        """How many rows that were, and whether a round has ended; one that failed ends it, too."""
        try:
            step = self._rounds.step()
        except Unavailable as error:
            self._failed(str(error))
            return 0, True
        except Exception as error:  # noqa: BLE001  the edge of the thread: whatever it is, it is told, and asked again
            self._failed(f"{type(error).__name__}: {error}")
            return 0, True
        self._why, self._began = None, True
        self._looked_at += step.rows
        self._learn(step)
        return step.rows, step.ended

    def _learn(self, step: Step) -> None:
        new = [
            fault
            for fault in step.found
            if not any(acknowledged.same(fault, known) for known in _alarming(self._known))
        ]
        for fault in _alarming(new):
            log.error("the audit found a fault", extra={"error": fault.says})
        self._known = (
            list(step.found)
            if step.ended
            else [*(it for it in self._known if not any(acknowledged.same(it, fault) for fault in new)), *new]
        )

    def _failed(self, why: str) -> None:
        if self._why is None:
            log.warning("the audit does not go on", extra={"error": why})
        self._why = why

    def _in_loop(self, do: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(do)

    # --- the event loop ---------------------------------------------------------

    def acknowledge(self, given: msgspec.Raw) -> asyncio.Future[bool]:
        """What tools call: somebody has looked into these."""
        return self._loop.create_task(self._acknowledge(_given.decode(given)))

    async def _acknowledge(self, new: list[Acknowledged]) -> bool:
        known = await self._writer.run(partial(self._keep, new))
        acknowledged.mark(self._known, known)
        for it in new:
            log.info("a fault that the audit found was looked into", extra={"fault": it.key, "by": it.by.by})
        return True

    def _write(self) -> None:
        if not self._end.is_set():
            self._writer.run(self._writing(self._rounds.mark)).add_done_callback(self._written)

    def _written(self, done: asyncio.Future[None]) -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            self._failed(f"where it has got to cannot be written: {error}")


def rest_s(took_s: float, reading_s: float) -> float:
    """Between a round that took so long, so much of it for what it read, and the next; none, where requests have made
    it wait for longer."""
    return max(upkeep_limits.AUDIT_ROUND_S, reading_s / upkeep_limits.AUDIT_PART) - took_s


def _alarming(faults: Sequence[Fault]) -> list[Fault]:
    return [fault for fault in faults if fault.acknowledged is None]
