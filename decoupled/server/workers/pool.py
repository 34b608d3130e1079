"""Workers that decide their batches one after the other, as the main process sees them: hands out batches, and says
what a dead worker left undone. How many there are is the crew's affair, what becomes of the messages the poller's."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from decoupled.core.outcomes import Decision
from decoupled.server.options import Options
from decoupled.server.workers.child import GRACE_S, Batch, Owner, WorkerProcess
from decoupled.server.workers.protocol import pack_messages, unpack_reply

AHEAD_S = 0.05  # of work that a worker may have ahead of it: little enough to take back when the worker dies
MAX_WINDOW = 32  # batches that a worker may have ahead of it; 4 starved it while the main process served 256 clients


class Worker(WorkerProcess):
    """Batches are decided in the order given; `batches[0]` is the one being worked on."""

    concurrent = False

    def __init__(self, options: Options, owner: Owner) -> None:
        super().__init__(options, owner)
        self.batches: deque[Batch] = deque()
        self.expected_s = 0.0
        self._head_started = 0.0

    @property
    def busy(self) -> bool:
        return bool(self.batches)

    def give(self, batch: Batch) -> None:
        """Hand over a batch."""
        self.send(pack_messages([delivery.message for delivery in batch.deliveries]))
        self.batches.append(batch)
        self.expected_s += batch.expected_s
        if len(self.batches) == 1:
            self._watch_head()

    def _watch_head(self) -> None:
        self._head_started = time.monotonic()
        if self.ready:
            self._watch()

    def _time_left_s(self) -> float | None:
        if not self.batches:
            return None
        return self._head_started + self.options.function_timeout_s + GRACE_S - time.monotonic()

    def _said(self, frame: memoryview) -> None:
        """Decisions, a frame for each batch in turn."""
        decisions, leaving, _ = unpack_reply(frame)
        if not self.batches or len(decisions) != len(self.batches[0].deliveries):
            self.kill("what it says cannot be read: it answers what it was not asked")
            return
        self.leaving = leaving
        self._decided(decisions)
        if leaving is not None:
            self.kill(leaving.detail)

    def _decided(self, decisions: list[Decision]) -> None:
        batch = self.batches.popleft()
        self.expected_s = max(0.0, self.expected_s - batch.expected_s)
        self.useful = True
        took_s = time.monotonic() - self._head_started
        self._watch_head()
        self.owner.decided(self, batch, decisions, took_s)

    def _left(self) -> tuple[Batch | None, list[Batch]]:
        left, self.batches = list(self.batches), deque()
        self.expected_s = 0.0
        if left and self.ready and self.leaving is None:
            return left[0], left[1:]
        return None, left


def roomy(workers: Sequence[Worker]) -> Worker | None:
    """The first that has nothing to do, or little: work is packed, so that idle workers stay idle."""
    for worker in workers:
        if _has_room(worker) or not (worker.batches or worker.gone):
            return worker
    return None


def room_s(workers: Sequence[Worker]) -> float:
    """How much more work they may have ahead of them."""
    return sum(AHEAD_S - worker.expected_s for worker in workers if _has_room(worker))


def _has_room(worker: Worker) -> bool:
    return worker.expected_s < AHEAD_S and len(worker.batches) < MAX_WINDOW and not worker.gone
