"""One worker process outside of a server, which decides a message at a time: what crashes or hangs there is a verdict
on its message, and the next one gets a new process. Nothing that it decides is stored."""

from __future__ import annotations

import asyncio

from decoupled.core.outcomes import Decision, Delivery
from decoupled.core.workload import Message
from decoupled.pipeline import blame
from decoupled.server.options import Options
from decoupled.server.workers.child import Batch
from decoupled.server.workers.pool import Worker


class Single:
    """Implements Owner of the worker that there is."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._worker: Worker | None = None
        self._waiting: asyncio.Future[Decision]

    async def decide(self, message: Message) -> Decision:
        """What it comes to, within the function timeout. Raises ValueError if there can be no worker."""
        self._waiting = asyncio.get_running_loop().create_future()
        if self._worker is None or self._worker.gone:
            self._worker = Worker(self._options, self)
            await self._worker.start()
        self._worker.give(Batch(message.workload, [Delivery(message, "", 1)]))
        self._worker.flush()
        return await self._waiting

    async def close(self) -> None:
        """End it."""
        if self._worker is not None and not self._worker.gone:
            self._worker.kill("it is not needed any more")

    def started(self, worker: Worker) -> None:
        """It is ready."""

    def decided(self, _worker: Worker, _batch: Batch, decisions: list[Decision], _took_s: float) -> None:
        """The message came back."""
        self._waiting.set_result(decisions[0])

    def leaves(self, worker: Worker) -> None:
        """It is killed, and the next message gets a new one."""

    def lost(self, _worker: Worker, begun: Batch | None, untouched: list[Batch], cause: str) -> None:
        """It has ended; of its message it may have begun to decide."""
        if begun is not None and (failure := blame.after_crash(begun.deliveries, cause)) is not None:
            self._waiting.set_result(failure)
        elif begun is not None or untouched:
            self._waiting.set_exception(ValueError(f"a worker cannot be started: {cause}"))
