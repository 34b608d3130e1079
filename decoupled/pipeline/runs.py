"""Runs of the same failure, where no server can hold the queue: on Lambda, in the memory of one environment. Of a run
of messages that fail alike, with none among them that does not, the messages are not to blame; from then on those that
fail like it count no attempt, until one does not fail."""

from __future__ import annotations

import msgspec

from decoupled.core import limits
from decoupled.core.outcomes import Decision, Delivery, Failure
from decoupled.pipeline import blame


class Run(msgspec.Struct):
    """So many messages of a workload failed like this, one after the other."""

    alike: str
    messages: int = 0


class Runs:
    """The last one of each workload. A message that failed before is no new evidence."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        self._failed: dict[str, None] = {}  # message ids, the eldest first
        self.held: set[str] = set()  # workloads of which the last message that was judged is held

    def judge(self, delivery: Delivery, decision: Decision) -> Decision:
        """The decision, or `held` if it is a failure like those of a long run."""
        workload = delivery.message.workload
        self.held.discard(workload)
        if not isinstance(decision, Failure):
            self._runs.pop(workload, None)
        elif decision.kind == "failed":
            alike, run = blame.alike(decision), self._runs.get(workload)
            if run is not None and run.alike == alike and run.messages >= limits.HOLD_AFTER:
                self.held.add(workload)
                return blame.held(decision)
            if self._is_new(delivery.message.id):
                if run is None or run.alike != alike:
                    run = self._runs[workload] = Run(alike)
                run.messages += 1
        return decision

    def _is_new(self, message_id: str) -> bool:
        if message_id in self._failed:
            return False
        self._failed[message_id] = None
        if len(self._failed) > limits.MAX_FAILED_KNOWN:
            del self._failed[next(iter(self._failed))]
        return True
