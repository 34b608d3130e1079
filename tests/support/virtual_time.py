"""The real poller, breakers, queue, table and settlement in time that passes when nothing else is left to do, so that a
day takes seconds. Only the disk's thread and the worker processes are replaced. For tests only."""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from decoupled.core.outcomes import Decision
from decoupled.core.workload import Message, Workloads
from decoupled.engines.sqlite import ordered
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.ends import SqliteEnds
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.table import SqliteTable
from decoupled.pipeline.processor import decide
from decoupled.pipeline.settlement import Policy
from decoupled.server.counting import Counting
from decoupled.server.options import Options
from decoupled.server.scheduling.claims import Poller
from decoupled.server.watches import Watches
from decoupled.server.workers.child import Batch
from decoupled.server.workers.crew import WorkerCrew
from decoupled.server.workers.pool import Worker

T = TypeVar("T")

EPOCH_MS = 1_795_000_000_000


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Where another loop would wait, this one moves its clock."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self.now


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self.loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(0)
        if not events:
            assert timeout is not None, "nothing is left to do, and nothing will ever happen"
            self.loop.now += max(timeout, 0)
        return events


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run it in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


class InlineWriter:
    """The writer's part that the poller knows: each operation in a transaction of its own, which takes `takes_s`."""

    def __init__(self, database: Database, takes_s: Callable[[], float] = lambda: 0.0) -> None:
        self.database = database
        self.takes_s = takes_s
        self.loop = asyncio.get_running_loop()
        self.counting = Counting()

    def run(self, operation: Callable[[], T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.loop.create_future()
        self.loop.call_later(self.takes_s(), self._run, operation, future)
        return future

    def gives_way(self) -> bool:
        return False

    def take_spare(self, wanted: int) -> int:
        """All of them: no front competes."""
        return wanted

    def _run(self, operation: Callable[[], T], future: asyncio.Future[T]) -> None:
        try:
            with self.database.transaction():
                result = operation()
        except Exception as error:  # noqa: BLE001  as the writer does
            future.set_exception(error)
        else:
            future.set_result(result)


class _InProcessWorker:
    """Decides here what a worker process would, one batch after the other; `slow` tells how long a message takes."""

    def __init__(self, poller: EmbeddedInVirtualTime) -> None:
        self.poller = poller
        self.batches: deque[Batch] = deque()
        self.expected_s = 0.0
        self.ready = self.proven = True
        self.gone = False

    def give(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.expected_s += batch.expected_s
        if len(self.batches) == 1:
            self._begin()

    def flush(self) -> None:
        pass

    def kill(self, cause: str) -> None:
        pass

    def _begin(self) -> None:
        took_s = sum(self.poller.slow(delivery.message) for delivery in self.batches[0].deliveries)
        self.poller.loop.call_later(took_s, self._decided, took_s)

    def _decided(self, took_s: float) -> None:
        batch = self.batches.popleft()
        self.expected_s = max(0.0, self.expected_s - batch.expected_s)
        decisions: list[Decision] = [
            decide(delivery.message, self.poller.workloads, 30.0) for delivery in batch.deliveries
        ]
        if self.batches:
            self._begin()
        self.poller._decided(batch, decisions, took_s)


class _InProcessCrew(WorkerCrew[Worker]):
    """Of workers that are no processes."""

    def __init__(self, poller: EmbeddedInVirtualTime) -> None:
        super().__init__(
            Worker, poller.options.concurrency, poller.options, poller.loop, poller._decided, poller._lost, poller.wake
        )
        self.poller = poller

    async def _start(self, _worker: Worker) -> None:
        self.workers.append(_InProcessWorker(self.poller))  # type: ignore[arg-type]  # it stands for a Worker
        self.poller.wake()


class EmbeddedInVirtualTime(Poller):
    """A server without its sockets and processes. `outage` tells why the table is unavailable at a time, or None."""

    def __init__(
        self,
        workloads: Workloads,
        outage: Callable[[float], str | None] = lambda _: None,
        spread: Callable[[], float] = lambda: 0.5,
        message_s: float = 0.001,
        commit_s: Callable[[], float] = lambda: 0.0,
        file: Path | str = ":memory:",
    ) -> None:
        loop = asyncio.get_running_loop()
        self.database = Database(file)
        ordered.adopt(self.database, workloads)
        self.workloads = workloads
        self.slow: Callable[[Message], float] = lambda _: message_s
        clock_ms = lambda: EPOCH_MS + int(loop.time() * 1000)  # noqa: E731
        writer = InlineWriter(self.database, commit_s)
        options = Options(workloads=tuple(workloads))
        super().__init__(
            writer,  # type: ignore[arg-type]  # it stands for the Writer
            SqliteQueue(self.database, clock_ms),
            SqliteTable(self.database, lambda: outage(loop.time()), clock_ms),
            Watches(SqliteEnds(self.database), writer.run),
            Policy(options.max_attempts, clock_ms, spread),
            options,
            workloads,
        )
        self.crew = _InProcessCrew(self)

    def send(self, messages: Sequence[Message]) -> None:
        """Accept them, as the gateway would."""
        assert self.queue.send(messages) == [None] * len(messages)

    def statuses(self) -> dict[str, int]:
        """How many messages have each status."""
        return dict(self.database.execute("SELECT status, count(*) FROM messages GROUP BY status").fetchall())

    def finished_after_s(self, group: str) -> float:
        """How long a group's messages took, from when the first of them was visible: the longest."""
        (longest,) = self.database.execute(
            "SELECT max(finished_at) FROM messages WHERE message_group = ?", (group,)
        ).fetchone()
        return float(longest - EPOCH_MS) / 1000

    def receive_counts(self) -> list[int]:
        """Of each message."""
        return [count for (count,) in self.database.execute("SELECT receive_count FROM messages ORDER BY seq")]

    async def until_finished(self, within_s: float) -> None:
        """Let time pass until no message is queued."""
        deadline = self.loop.time() + within_s
        while "queued" in (statuses := self.statuses()):
            assert self.loop.time() < deadline, f"not within {within_s} s: {statuses}"
            await asyncio.sleep(10)
        self.stopping = True
