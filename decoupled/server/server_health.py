"""What GET /health says of a whole server: what is wrong, how many processes there are, and who is kept waiting. Those
are asked who know each of that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from decoupled.core.metrics import Numbers
from decoupled.core.workload import Workloads
from decoupled.server.health import Look, summary
from decoupled.server.outlet import standard_error
from decoupled.server.quotas import Quotas
from decoupled.server.scheduling.claims import Poller
from decoupled.server.scheduling.unserved import Unserved


class Told(Protocol):
    """What the server does beside its requests."""

    def told(self) -> Mapping[str, Mapping[str, Any]]:
        """How it goes, as plain data, by name."""
        ...

    def numbers(self) -> Mapping[str, float]:
        """Gauges, by their metrics."""
        ...

    def troubled(self) -> Mapping[str, float]:
        """1 for each that fails, by name."""
        ...


class ServerHealth:
    """Of the whole server. `looks`: who is asked."""

    def __init__(self, poller: Poller, unserved: Unserved, workloads: Workloads, quotas: Quotas) -> None:
        self.looks: list[Look] = [*(crew.trouble for crew in poller.crews), poller.groups.trouble]
        self.looks.append(standard_error.trouble)
        self.fronts: Callable[[], int] = lambda: 0
        self.sizes: Callable[[], Mapping[str, int]] = dict  # of files, by their metrics
        self.upkeep: Told | None = None
        self.unserved = unserved
        self._poller = poller
        self._workloads = workloads
        self._quotas = quotas

    def answer(self) -> tuple[int, str]:
        """An HTTP status, and a JSON text."""
        told = self._told()
        return 503 if told["status"] == "unavailable" else 200, msgspec.json.encode(told).decode()

    def look(self) -> tuple[Numbers, dict[str, Any]]:
        """What is counted, and the same as `answer` says."""
        told = self._told()
        gauges = {**self.sizes(), **({} if self.upkeep is None else self.upkeep.numbers())}
        numbers = self._poller.writer.counting.told(told, gauges)
        if self.upkeep is not None:
            numbers.gauges["upkeep_trouble"] = dict(self.upkeep.troubled())
        return numbers, told

    def _told(self) -> dict[str, Any]:
        poller = self._poller
        return {
            **summary(self.looks),
            "workloads": list(self._workloads),
            "fronts": self.fronts(),
            "workers": sum(crew.ready() for crew in poller.crews),
            "workers_replaced": {
                over: sum(crew.replaced[over] for crew in poller.crews) for over in poller.crew.replaced
            },
            "breakers": poller.breakers.states(),
            "limited": self._quotas.told(),
            "not_served": self.unserved.look(),
            "upkeep": {} if self.upkeep is None else self.upkeep.told(),
            "log_lines_dropped": standard_error.dropped,
        }
