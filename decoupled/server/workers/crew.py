"""The crew: as many worker processes as there should be. Replaces those that end; when one cannot be started, tries
again ever more slowly, and says so for as long as workers are missing. What becomes of their messages is the poller's
to decide."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from decoupled.core import limits
from decoupled.core.backoff import doubled_s
from decoupled.core.outcomes import Decision
from decoupled.server.health import Trouble
from decoupled.server.options import Options
from decoupled.server.workers.child import Batch, WorkerProcess
from decoupled.server.workers.protocol import Leaving

log = logging.getLogger("decoupled.workers")

W = TypeVar("W", bound=WorkerProcess)
Decided = Callable[[Batch, list[Decision], float], None]
Lost = Callable[[Batch | None, list[Batch], str], None]


class Crew(Generic[W]):
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
        self.options = options
        self.loop = loop
        self.size = size
        self.workers: list[W] = []
        self.departing: list[W] = []  # begin nothing more, have something to decide, and are replaced already
        self.replaced: Counter[str] = Counter({"memory": 0, "messages": 0, "stuck": 0})
        self._kind = kind
        self._called = "concurrent workers" if kind.concurrent else "workers"
        self._on_decided = on_decided
        self._on_lost = on_lost
        self._on_room = on_room
        self._spread = spread
        self._stopping = False
        self._filling: asyncio.Task[None] | None = None
        self._failures = 0  # in a row
        self._failed_at = 0.0
        self._retry_at = 0.0
        self._why: str | None = None  # the last of them
        self._short_since: float | None = None  # when workers were first seen to be missing
        self._outgrown_until = 0.0

    def started(self, worker: W) -> None:
        if not worker.gone:
            self._on_room()

    def decided(self, worker: W, batch: Batch, decisions: list[Decision], took_s: float) -> None:
        if self._failures and worker.started_at > self._failed_at:
            self._failures = 0  # one that was started since does its work
        self._on_decided(batch, decisions, took_s)

    # --- enough of them -------------------------------------------------------

    def fill(self) -> None:
        """Start as many workers as are missing, in the background."""
        if self._filling is None and self._missing():
            self._filling = self.loop.create_task(self._fill())
            self._filling.add_done_callback(self._filled)

    def _missing(self) -> bool:
        return not self._stopping and len(self.workers) < self.size

    async def _fill(self) -> None:
        while self._missing():
            if (pause_s := self._retry_at - self.loop.time()) > 0:
                await asyncio.sleep(pause_s)
                continue
            try:
                await self._start_worker()
            except OSError as error:
                self._failed(f"a worker cannot be started: {error.strerror or error}")

    def _filled(self, task: asyncio.Task[None]) -> None:
        self._filling = None
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error  # in the loop, whose last resort it is
        self.fill()  # one may have been lost since the last look

    async def _start_worker(self) -> None:
        worker = self._kind(self.options, self)
        await worker.start()
        if not worker.gone:
            self.workers.append(worker)
            self._on_room()  # it takes what it will decide when it is ready

    def _failed(self, why: str) -> None:
        self._failures += 1
        self._failed_at = time.monotonic()
        pause_s = doubled_s(self._failures, self._spread(), limits.WORKER_RETRY_FIRST_S, limits.WORKER_RETRY_CAP_S)
        self._retry_at = self.loop.time() + pause_s
        if self._why is None:  # once, however long it lasts
            log.error("workers are missing; they are started again, ever more slowly", extra={"cause": why})
        self._why = why

    def leaves(self, worker: W) -> None:
        """Another one takes its place while it decides what it has."""
        if worker in self.workers:
            self.workers.remove(worker)
        self.departing.append(worker)
        if worker.leaving is not None:
            self._left(worker, worker.leaving)
        self.fill()

    def lost(self, worker: W, begun: Batch | None, untouched: list[Batch], cause: str) -> None:
        replaced = worker in self.departing
        for workers in (self.workers, self.departing):
            if worker in workers:
                workers.remove(worker)
        if self._stopping:
            return  # what is left is still on the queue
        if replaced and begun is None:
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

    def stop(self) -> None:
        """End them all."""
        self._stopping = True
        if self._filling is not None:
            self._filling.cancel()
        for worker in [*self.workers, *self.departing]:
            worker.kill("the server stops")

    # --- health ---------------------------------------------------------------

    def ready(self) -> int:
        """How many workers have imported their workloads."""
        return sum(worker.ready and not worker.gone for worker in self.workers)

    def look(self) -> None:
        """Again and again: whether all are there."""
        enough = self.ready() >= self.size
        self._short_since = None if enough else self._short_since or self.loop.time()
        if self._why is not None and enough and all(worker.proven for worker in self.workers):
            log.info("all workers run again", extra={"workers": len(self.workers)})
            self._failures, self._why = 0, None

    def trouble(self) -> Trouble | None:
        """Why there are fewer workers than there should be, or why they do not last."""
        details = [*self._shortage(), *self._too_large()]
        return Trouble("; ".join(details)) if details else None

    def _shortage(self) -> Iterator[str]:
        why = self._why
        if why is None:
            if self._short_since is None or self.loop.time() - self._short_since < limits.WORKER_SLOW_START_S:
                return
            why = "the others are still starting"
        yield f"{self.ready()} of {self.size} {self._called} are ready: {why}"

    def _too_large(self) -> Iterator[str]:
        may_mb = self.options.worker_memory_mb
        if may_mb and (first_mb := max((worker.first_mb for worker in self.workers), default=0)) > may_mb:
            yield f"a worker has {first_mb:,} MB before its first message, and may have {may_mb:,}: it is not replaced"
        elif self.loop.time() < self._outgrown_until:
            yield f"a worker outgrows {may_mb:,} MB within seconds, and is replaced again and again"
