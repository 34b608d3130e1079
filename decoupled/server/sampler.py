"""Takes a sample of how the server does every few seconds, for charts: what was counted since the last one, as rates
and quantiles, and how many messages wait. It has a thread, because it counts in the file and writes to the disk, and
what is slow there must not hold up the event loop.

    event loop: what is counted ─▶ thread: how many wait ─▶ difference to before ─▶ kept
                     ▲                                                              │
                     └────────────── 5 s later, or 50 times what that took ─────────┘
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import msgspec

from decoupled.core import limits
from decoupled.core.metrics import Numbers, quantile
from decoupled.core.overview import CHARTED, Sample
from decoupled.core.workload import Unavailable
from decoupled.server.health import Trouble

log = logging.getLogger("decoupled.sampler")

RATES = ("accepted", "processed", "rejected", "dead", "retried")
QUANTILES = {
    "accept_p50_s": ("accept_seconds", 0.5),
    "accept_p99_s": ("accept_seconds", 0.99),
    "waiting_p50_s": ("waiting_seconds", 0.5),
    "waiting_p99_s": ("waiting_seconds", 0.99),
    "processing_p50_s": ("processing_seconds", 0.5),
    "processing_p99_s": ("processing_seconds", 0.99),
    "commit_p99_s": ("commit_seconds", 0.99),
}


class Depths(Protocol):
    """Counts messages, in the thread."""

    def __call__(self, now_ms: int) -> Mapping[str, float | None]:
        """By the names of CHARTED. Raises Unavailable."""
        ...

    def give_up(self) -> None:
        """The look that there is, if any; asked by the event loop."""
        ...

    def close(self) -> None:
        """Let go of all."""
        ...


class Kept(Protocol):
    """Where samples are kept."""

    def add(self, sample: Sample) -> None:
        """In the thread. Raises OSError."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


@dataclass(frozen=True, slots=True)
class _Counted:
    """At a time, which is told by two clocks."""

    at_ms: int
    steady_s: float
    numbers: Numbers


class Sampler:
    """Of a server that runs. `numbers`: what it has counted since it started."""

    def __init__(
        self,
        numbers: Numbers,
        depths: Depths,
        kept: Kept,
        loop: asyncio.AbstractEventLoop,
        clock_ms: Callable[[], int],
        step_s: float = limits.HISTORY_STEP_S,
    ) -> None:
        self._numbers = numbers
        self._depths = depths
        self._kept = kept
        self._loop = loop
        self._clock_ms = clock_ms
        self._step_s = step_s
        self._end = threading.Event()
        self._ended = asyncio.Event()
        self._why: str | None = None

    def start(self) -> None:
        """Take the first one in a few seconds."""
        thread = threading.Thread(target=self._run, args=(self._count(),), name="sampler", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no threads left
            self._failed(str(error))
            self._ended.set()

    def trouble(self) -> Trouble | None:
        """Charts miss something."""
        return None if self._why is None else Trouble(f"charts have gaps: {self._why}")

    async def close(self) -> None:
        """Take no further one. What is being done is given up, or left behind."""
        self._end.set()
        self._depths.give_up()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), limits.HISTORY_END_S)

    # --- the thread -----------------------------------------------------------

    def _run(self, before: _Counted) -> None:
        pause_s = self._step_s
        while not self._end.wait(pause_s):
            began = time.monotonic()
            try:
                counted = self._ask_loop()
                self._take(before, counted)
                before = counted
            except Exception as error:  # noqa: BLE001  whatever it is: charts are worth no server that ends
                if not self._end.is_set():
                    self._failed(f"{type(error).__name__}: {error}")
            took_s = time.monotonic() - began
            pause_s = pause(self._step_s, took_s)
        self._depths.close()
        self._kept.close()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._ended.set)

    def _take(self, before: _Counted, counted: _Counted) -> None:
        why = None
        try:
            depths = self._depths(counted.at_ms)
        except Unavailable as error:
            why, depths = f"messages cannot be counted: {error}", {}
        seconds = counted.steady_s - before.steady_s
        values = charted(before.numbers, counted.numbers, seconds, depths)
        try:
            self._kept.add(Sample(counted.at_ms, round(seconds * 1000), values))
        except OSError as error:
            why = f"they cannot be written: {error.strerror or error}"
        if why is not None and not self._end.is_set():
            self._failed(why)
        else:
            self._why = None

    def _failed(self, why: str) -> None:
        if self._why is None:
            log.warning("charts have gaps from now on", extra={"error": why})
        self._why = why

    def _ask_loop(self) -> _Counted:
        asked: Future[_Counted] = Future()

        def answer() -> None:
            try:
                asked.set_result(self._count())
            except Exception as error:  # noqa: BLE001  the thread tells of it; in the loop, it would end the server
                asked.set_exception(error)

        self._loop.call_soon_threadsafe(answer)
        return asked.result(limits.WRITER_SILENT_S)

    # --- the event loop -------------------------------------------------------

    def _count(self) -> _Counted:
        """A copy of what is counted, made in a few microseconds."""
        copied = msgspec.msgpack.decode(msgspec.msgpack.encode(self._numbers), type=Numbers)
        return _Counted(self._clock_ms(), time.monotonic(), copied)


def pause(step_s: float, took_s: float) -> float:
    """Until the next look: of all the time, looks take no more than a part."""
    return max(step_s, took_s / limits.HISTORY_LOOK_PART) - took_s


def charted(
    before: Numbers, now: Numbers, seconds: float, depths: Mapping[str, float | None]
) -> tuple[float | None, ...]:
    """What a sample has of what was counted in between, of all workloads together."""
    values, lately = dict(depths), now.since(before)
    for name in RATES:
        values[f"{name}_per_s"] = lately.total(name) / max(seconds, 0.001)
    for name, (metric, part) in QUANTILES.items():
        values[name] = quantile(metric, lately.together(metric).counts, part)
    commits = lately.together("commit_messages")
    values["commit_messages"] = commits.sum / sum(commits.counts) if any(commits.counts) else None
    return tuple(values.get(name) for name in CHARTED)
