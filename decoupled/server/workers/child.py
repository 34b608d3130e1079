"""The writer's side of any worker process: which batches it has, and that they come back. How long they may take, and
what becomes of those that it leaves undone, the two kinds of workers say: `pool.py` and `concurrent.py`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from decoupled.core import limits
from decoupled.core.outcomes import Decision, Delivery
from decoupled.server.child import ChildProcess
from decoupled.server.options import Options
from decoupled.server.workers.protocol import Leaving, unpack_ready

GRACE_S = 1.0  # beyond the function timeout, for the worker itself to interrupt what runs too long


@dataclass(slots=True)
class Batch:
    """Deliveries of one workload, decided together. `expected_s`: how long that should take. `took_s`: how long each
    took, where they were begun one by one."""

    workload: str
    deliveries: Sequence[Delivery]
    expected_s: float = 0.0
    took_s: Sequence[float] = ()


class Owner(Protocol):
    """Who is told what a worker does."""

    def started(self, worker: Any) -> None:
        """It is ready."""
        ...

    def decided(self, worker: Any, batch: Batch, decisions: list[Decision], took_s: float) -> None:
        """A batch came back."""
        ...

    def leaves(self, worker: Any) -> None:
        """It begins nothing more, and ends when it has decided what it has."""
        ...

    def lost(self, worker: Any, begun: Batch | None, untouched: list[Batch], cause: str) -> None:
        """It has ended. These did not come back: what it was at work on, of any workload, and what it had not begun."""
        ...


class WorkerProcess(ChildProcess):
    """One process. Of its two kinds, each says what it does with a reply (`_said`), how long it may stay silent
    (`_time_left_s`), and what it leaves undone (`_left`).

    ready ── decides ──▶ leaving: replaced by a new one"""

    module = "decoupled.server.workers.process"
    most_bytes = limits.MAX_REPLY_BYTES
    concurrent: ClassVar[bool]  # whether it decides many messages at once

    def __init__(self, options: Options, owner: Owner) -> None:
        super().__init__()
        self.options = options
        self.owner = owner
        self.useful = False  # has decided something
        self.leaving: Leaving | None = None  # why it begins nothing more, by its own account
        self.first_mb = 0  # of memory, before its first message

    @property
    def proven(self) -> bool:
        """It does not end as soon as it is there."""
        return self.useful or super().proven

    @property
    def busy(self) -> bool:
        """Whether it has anything to decide."""
        raise NotImplementedError

    def _left(self) -> tuple[Batch | None, list[Batch]]:
        """What it had begun, and what it had not, now that it has ended."""
        raise NotImplementedError

    def _arguments(self) -> list[str]:
        options = self.options
        more = {
            "workloads": options.workloads,
            "root": options.root and str(options.root),
            "log_level": options.log_level,
            "memory_mb": options.worker_memory_mb,
            "messages": options.worker_messages,
            "concurrent": self.concurrent,
        }
        return [str(options.function_timeout_s), json.dumps(more)]

    def _begun(self, frame: memoryview) -> None:
        self.first_mb = unpack_ready(frame)

    def _started(self) -> None:
        self.owner.started(self)

    def _hung(self) -> str:
        return f"it did not return within the function timeout of {self.options.function_timeout_s:g} s"

    def _ended(self, cause: str) -> None:
        self.owner.lost(self, *self._left(), cause)
