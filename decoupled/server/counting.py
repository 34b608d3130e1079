"""What the writer's process counts, of all that `core/metrics.py` names: what became of messages, once that is on the
disk; how long it took; and what fronts have counted. Each metric has its numbers from the start on, and no more of them
than there are workloads here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from decoupled.core.dead_letters import DeadLetter, Outcome
from decoupled.core.metrics import METRICS, UNSERVED, Counts, Numbers

_OF_CHANGES = {
    "redriven": ("redriven", "dead_ended"),
    "purged": ("rejected", "dead_ended"),
    "imported": ("accepted", "dead"),  # it came from elsewhere, or was given up, and is here again
}


class Counting:
    """Of one server, since it started."""

    def __init__(self, workloads: Iterable[str] = ()) -> None:
        self.numbers = Numbers()
        self._served = frozenset(workloads)
        for metric in METRICS.values():
            labels = self._served if metric.label == "workload" else () if metric.label else ("",)
            if metric.kind == "counter":
                self.numbers.counters[metric.name] = dict.fromkeys(labels, 0)
            elif metric.kind == "histogram":
                empty = {label: Counts([0] * (len(metric.buckets) + 1)) for label in labels}
                self.numbers.histograms[metric.name] = empty

    def count(self, metric: str, workload: str, by: int = 1) -> None:
        """So many messages of a workload, which is served or not."""
        self.numbers.count(metric, workload if workload in self._served else UNSERVED, by)

    # --- on the disk ----------------------------------------------------------

    def committed(self, added: Sequence[str], took_s: float) -> None:
        """A transaction, with these new messages: of each its workload."""
        self.numbers.observe("commit_seconds", took_s)
        if added:
            self.numbers.observe("commit_messages", len(added))
            for workload, count in Counter(added).items():
                self.count("accepted", workload, count)

    def settled(self, tally: Numbers) -> None:
        """What `pipeline.settlement.settle` has told."""
        for metric, values in tally.counters.items():
            for workload, by in values.items():
                self.count(metric, workload, by)

    def changed(self, letters: Sequence[DeadLetter], outcomes: Sequence[Outcome]) -> None:
        """Dead letters, by a tool."""
        for letter, outcome in zip(letters, outcomes, strict=True):
            for metric in _OF_CHANGES.get(outcome.done or "", ()):
                self.count(metric, letter.workload)

    # --- for those who ask ----------------------------------------------------

    def told(self, health: Mapping[str, Any], sizes: Mapping[str, int]) -> Numbers:
        """All of them, with those that are as they are now: as GET /health says it, and files have it in bytes."""
        numbers, breakers = self.numbers, health["breakers"]
        numbers.counters["workers_replaced"] = dict(health["workers_replaced"])
        numbers.counters["log_lines_dropped"] = {"": health["log_lines_dropped"]}
        numbers.gauges = {
            "up": {"": float(health["status"] != "unavailable")},
            "fronts": {"": health["fronts"]},
            "workers": {"": health["workers"]},
            "breaker_open": {name: float(it["state"] == "open") for name, it in breakers.items()},
            "held": {name: float(it["state"] == "held") for name, it in breakers.items()},
            "sick_groups": {name: it.get("sick_groups", 0) for name, it in breakers.items()},
            **{metric: {"": size} for metric, size in sizes.items()},
        }
        return numbers
