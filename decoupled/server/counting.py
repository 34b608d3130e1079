"""What the writer's process counts, of all that `core/metrics.py` names: what became of messages, once that is on the
disk; how long it took; and what fronts have counted. Each metric has its numbers from the start on, and no more of them
than there are workloads here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from decoupled.core import limits
from decoupled.core.dead_letters import DeadLetter, Outcome
from decoupled.core.metrics import (
    FSYNC_S,
    LATENCY_S,
    METRICS,
    PROCESSING_S,
    SIZES,
    UNSERVED,
    WAITING_S,
    Counts,
    Numbers,
    by_name,
)
from decoupled.core.outcomes import Delivery

_OF_CHANGES = {
    "redriven": ("redriven", "dead_ended"),
    "purged": ("rejected", "dead_ended"),
    "imported": ("accepted", "dead"),  # it came from elsewhere, or was given up, and is here again
}


class Requests:
    """What a process that has clients counts of their requests: a front, or the writer itself, into its own numbers. A
    front, which is asked for them once a second, only notes how long each took until then."""

    def __init__(self, numbers: Numbers | None = None) -> None:
        self._most_noted = limits.MAX_NOTED if numbers is None else 1
        self.noted: dict[str, list[float]] = {}  # seconds, by workload
        self._begin(numbers or Numbers())

    def _begin(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._accepted = numbers.histograms.setdefault("accept_seconds", {})
        self._refused = numbers.counters.setdefault("refused", {})

    def accepted(self, workload: str, seconds: float) -> None:
        """One was answered with 202, so long after it was whole."""
        noted = self.noted.get(workload)
        if noted is None:
            noted = self.noted[workload] = []
        noted.append(seconds)
        if len(noted) >= self._most_noted:
            self._count(workload, noted)

    def _count(self, workload: str, noted: list[float]) -> None:
        counts = self._accepted.get(workload)
        if counts is None:
            counts = self._accepted[workload] = Counts([0] * (len(LATENCY_S) + 1))
        counts.observe_all(LATENCY_S, noted)
        noted.clear()

    def refused(self, status: int) -> None:
        """One was answered with an error."""
        label = str(status)
        self._refused[label] = self._refused.get(label, 0) + 1

    def take(self) -> Numbers | None:
        """What was counted since this was last asked; None if that is nothing. Of a front."""
        for workload, noted in self.noted.items():
            if noted:
                self._count(workload, noted)
        if not (self._accepted or self._refused):
            return None
        taken = self._numbers
        self._begin(Numbers())
        return taken


class Counting:
    """Of one server, since it started. `requests`: those that this process takes itself."""

    def __init__(self, workloads: Iterable[str] = ()) -> None:
        self.numbers = Numbers()
        self._served = frozenset(workloads)
        for metric in METRICS.values():
            labels = ("",) if not metric.label else self._served if metric.label == "workload" else ()
            if metric.kind == "counter":
                self.numbers.counters[metric.name] = dict.fromkeys(labels, 0)
            elif metric.kind == "histogram":
                empty = {label: Counts([0] * (len(metric.buckets) + 1)) for label in labels}
                self.numbers.histograms[metric.name] = empty
        self.requests = Requests(self.numbers)
        self._commits = self.numbers.histograms["commit_seconds"][""]
        self._added = self.numbers.histograms["commit_messages"][""]

    def count(self, metric: str, workload: str, by: int = 1) -> None:
        """So many messages of a workload, which is served or not."""
        self.numbers.count(metric, workload if workload in self._served else UNSERVED, by)

    # --- on the disk ----------------------------------------------------------

    def committed(self, added: Sequence[str], took_s: float) -> None:
        """A transaction, with these new messages: of each its workload."""
        self._commits.observe(FSYNC_S, took_s)
        if added:
            self._added.observe(SIZES, len(added))
            for workload, count in by_name(added).items():
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

    def given_up(self, was: Mapping[tuple[str, str], int]) -> None:
        """Messages that a person had forgotten, by workload and what they were: what had not ended is rejected now."""
        for (workload, status), count in was.items():
            if status in ("queued", "dead"):
                self.count("rejected", workload, count)
            if status == "dead":
                self.count("dead_ended", workload, count)

    # --- how long it took -----------------------------------------------------

    def taken(self, workload: str, deliveries: Sequence[Delivery]) -> None:
        """They were claimed from the queue. Only for the first time had they waited for a worker, and for nothing
        else."""
        waited_s = [delivery.waited_ms / 1000 for delivery in deliveries if delivery.receive_count == 1]
        if waited_s:
            self._counts("waiting_seconds", workload).observe_all(WAITING_S, waited_s)

    def taken_at_once(self, workload: str, count: int) -> None:
        """So many were handed out in the transaction that accepted them."""
        self.numbers.observe("waiting_seconds", 0.0, workload, count)

    def decided(self, workload: str, took_s: Sequence[float], each: int = 1) -> None:
        """Workers have decided so many messages, in these times."""
        counts = self._counts("processing_seconds", workload)
        for seconds in took_s:
            counts.observe(PROCESSING_S, seconds, each)

    def _counts(self, metric: str, workload: str) -> Counts:
        values = self.numbers.histograms[metric]
        if (counts := values.get(workload)) is None:
            counts = values.setdefault(UNSERVED, Counts([0] * (len(METRICS[metric].buckets) + 1)))
        return counts

    # --- for those who ask ----------------------------------------------------

    def of_requests(self, numbers: Numbers | None) -> None:
        """What a front has counted since it last told."""
        if numbers is not None:
            self.numbers.add(numbers)

    def told(self, health: Mapping[str, Any], gauges: Mapping[str, float]) -> Numbers:
        """All of them, with those that are as they are now: as GET /health says it, and these gauges, by metric."""
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
            **{metric: {"": value} for metric, value in gauges.items()},
        }
        return numbers
