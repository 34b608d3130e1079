"""What the functions of a stack have counted in the last minutes, where they measure (`Metrics=on`): how many messages
of each workload came to what. CloudWatch is a minute or two late."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from decoupled.core.metrics import Numbers
from decoupled.engines.aws.client import AwsError
from decoupled.engines.aws.cloudwatch import Asked, ask, minute, namespace
from decoupled.engines.aws.history import KEPT_S
from decoupled.engines.aws.stack import tool_client

WINDOW_S = 300
COUNTED = ("accepted", "processed", "rejected", "dead", "retried")


class AwsRecent:
    """Of one stack. `found`: its outputs."""

    def __init__(
        self,
        stack: str,
        found: Mapping[str, str],
        clients: Callable[[str], Any] = tool_client,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.workloads = [name for name in found.get("Workloads", "").split(",") if name]
        self.measured = found.get("Metrics") == "on"
        self._stack = stack
        self._cloudwatch = clients("cloudwatch") if self.measured else None
        self._clock_ms = clock_ms
        self._kept: Numbers | None = None
        self._kept_until = 0

    def counted(self) -> tuple[Numbers, float] | None:
        """In the last complete five minutes, that many seconds; None where it is not known."""
        now = self._clock_ms()
        if self.measured and not self._kept_until - KEPT_S * 1000 <= now < self._kept_until:
            self._kept, self._kept_until = self._ask(minute(now)), now + round(KEPT_S * 1000)
        return None if self._kept is None else (self._kept, float(WINDOW_S))

    def _ask(self, end: int) -> Numbers | None:
        where = namespace(self._stack)
        asked = [
            Asked(f"{metric} {workload}", where, metric, "Sum", {"Workload": workload})
            for workload in self.workloads
            for metric in COUNTED
        ]
        try:
            values = ask(self._cloudwatch, asked, end - WINDOW_S * 1000, end)
        except AwsError:
            return None  # the look at SQS's metrics says so
        numbers = Numbers(counters={metric: dict.fromkeys(self.workloads, 0) for metric in COUNTED})
        for name, found in values.items():
            metric, _, workload = name.partition(" ")
            numbers.count(metric, workload, round(sum(found.values())))
        return numbers
