"""The crew of workers of one kind: those that end are replaced, and those that make way. What becomes of their messages
is the poller's to decide."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeVar

from decoupled.core import limits
from decoupled.core.outcomes import Decision
from decoupled.server.crew import Crew
from decoupled.server.options import Options
from decoupled.server.workers.child import Batch, WorkerProcess
from decoupled.server.workers.protocol import Leaving

log = logging.getLogger("decoupled.workers")

W = TypeVar("W", bound=WorkerProcess)
Decided = Callable[[Batch, list[Decision], float], None]
Lost = Callable[[Batch | None, list[Batch], str], None]


class WorkerCrew(Crew[W]):
    """Owns the workers.

    ends after it had decided something, or at work on a batch ──▶ another one at once
    cannot be started, or ends before that                     ──▶ another one later, and later, and `trouble`"""

    def __init__(
        self,
        kind: type[W],
        size: int,
        options: Options,
        loop: asyncio.AbstractEventLoop,
        on_decided: Decided,
        on_lost: Lost,
        on_room: Callable[[], None],
        spread: Callable[[], float] = random.random,
    ) -> None:
        """Of `size` workers of a kind. `on_lost` is told the batch that a worker was at work on, those that it had not
        begun, and the cause; `on_room`, that there is a worker more."""
        super().__init__(size, ("a worker", "concurrent workers" if kind.concurrent else "workers"), loop, log, spread)
        self.options = options
        self.replaced: Counter[str] = Counter({"memory": 0, "messages": 0, "stuck": 0})
        self._kind = kind
        self._on_decided = on_decided
        self._on_lost = on_lost
        self._on_room = on_room
        self._outgrown_until = 0.0

    @property
    def workers(self) -> list[W]:
        """Those that take messages."""
        return self.members

    def _make(self) -> W:
        return self._kind(self.options, self)

    def _joined(self) -> None:
        self._on_room()

    def reorder(self, options: Options) -> None:
        """As many workers as these options say, which log as they say: those that are too many, or log otherwise,
        decide what they have, and end."""
        otherwise = options.log_level != self.options.log_level
        self.options = options
        self.size = options.concurrency if self.size else 0
        leaving = self.members if otherwise else self.members[self.size :]
        for worker in list(leaving):
            self.members.remove(worker)
            self.departing.append(worker)
            self._end_if_done(worker)
        self.fill()

    def _end_if_done(self, worker: W) -> None:
        if worker in self.departing and worker.leaving is None and not (worker.busy or worker.gone):
            worker.kill("it is not needed any more")

    # --- what a worker tells its owner ----------------------------------------

    def started(self, worker: W) -> None:
        if not worker.gone:
            self._on_room()

    def decided(self, worker: W, batch: Batch, decisions: list[Decision], took_s: float) -> None:
        if self._failures and worker.started_at > self._failed_at:
            self._failures = 0  # one that was started since does its work
        self._on_decided(batch, decisions, took_s)
        self._end_if_done(worker)

    def leaves(self, worker: W) -> None:
        """Another one takes its place while it decides what it has."""
        if worker in self.members:
            self.members.remove(worker)
        self.departing.append(worker)
        if worker.leaving is not None:
            self._left(worker, worker.leaving)
        self.fill()

    def lost(self, worker: W, begun: Batch | None, untouched: list[Batch], cause: str) -> None:
        replaced = self._is_gone(worker)
        if self._stopping:
            return  # what is left is still on the queue
        if replaced and begun is None and not untouched:
            return
        if worker.leaving is not None and not replaced:
            self._left(worker, worker.leaving)
        elif worker.useful or begun is not None:
            log.error("worker lost", extra={"cause": cause, "batches": len(untouched) + (begun is not None)})
        else:
            self._failed(f"a worker ended before it had done anything: {cause}")
        self._on_lost(begun, untouched, cause)
        self.fill()

    def _left(self, worker: W, why: Leaving) -> None:
        self.replaced[why.over] += 1
        log.log(
            logging.WARNING if why.over == "stuck" else logging.INFO, "worker replaced", extra={"cause": why.detail}
        )
        lived_s = time.monotonic() - worker.started_at
        if why.over == "memory" and lived_s < limits.WORKER_SHORT_LIFE_S:
            self._outgrown_until = self.loop.time() + limits.WORKER_SHORT_LIFE_S

    # --- health ---------------------------------------------------------------

    def _details(self) -> Iterator[str]:
        yield from super()._details()
        may_mb = self.options.worker_memory_mb
        if may_mb and (first_mb := max((worker.first_mb for worker in self.members), default=0)) > may_mb:
            yield f"a worker has {first_mb:,} MB before its first message, and may have {may_mb:,}: it is not replaced"
        elif self.loop.time() < self._outgrown_until:
            yield f"a worker outgrows {may_mb:,} MB within seconds, and is replaced again and again"
