"""What is measured: each metric once, by its name, with its kind, its unit and what it means; and the numbers that a
process keeps of them. Prometheus' text, CloudWatch's EMF, the page's charts and the documents come from here. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from decoupled.core.outcomes import Delivery, FailureKind

UNSERVED = "-"  # stands for workloads that are not served here: of these, nobody says how many there are
LATENCY_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
WAITING_S = (0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0, 86_400.0)
PROCESSING_S = (0.0001, 0.0005, 0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0)
FSYNC_S = (0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0)
SIZES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 5_000.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One of them. `name` as in Prometheus without `decoupled_`, and without `_total` of a counter. `label` is what it
    is told apart by: nothing, or one thing."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    label: str = ""
    buckets: Sequence[float] = ()  # upper bounds of a histogram's, which +Inf follows


METRICS = {
    metric.name: metric
    for metric in (
        # what became of messages; a message is processed, rejected or dead once, and accepted once, by its id
        Metric("accepted", "counter", "Messages put on the queue: by clients, and by other messages.", "workload"),
        Metric("processed", "counter", "Messages whose effects were stored.", "workload"),
        Metric(
            "rejected", "counter", "Messages that a rule said no to, and dead letters that were purged.", "workload"
        ),
        Metric("dead", "counter", "Messages that became dead letters.", "workload"),
        Metric("retried", "counter", "Deliveries that went back to the queue, to be tried again.", "workload"),
        Metric("redriven", "counter", "Dead letters put back on the queue.", "workload"),
        Metric(
            "dead_ended",
            "counter",
            "Dead letters that are none any more: redriven, purged, or processed by a late delivery.",
            "workload",
        ),
        Metric("refused", "counter", "Requests that were answered with an error, by its status.", "status"),
        # how long it took
        Metric("accept_seconds", "histogram", "From a whole request to its 202.", "workload", LATENCY_S),
        Metric(
            "waiting_seconds",
            "histogram",
            "From when a message could be received to its first worker.",
            "workload",
            WAITING_S,
        ),
        Metric("processing_seconds", "histogram", "Of a worker, for one message.", "workload", PROCESSING_S),
        # the group commit
        Metric("commit_messages", "histogram", "Messages accepted in one transaction.", "", SIZES),
        Metric("commit_seconds", "histogram", "Of a transaction's commit, with its fsync.", "", FSYNC_S),
        # as it is now
        Metric("messages", "gauge", "Messages by state: queued, in_flight, delayed, dead.", "state"),
        Metric("unfinished", "gauge", "Messages that have not ended, counted up to 10,000.", "workload"),
        Metric("oldest_age_seconds", "gauge", "Since the oldest unfinished message was accepted."),
        Metric("breaker_open", "gauge", "1 while a workload's backend is taken for sick.", "workload"),
        Metric("held", "gauge", "1 while a workload is held, since its messages fail all alike.", "workload"),
        Metric("sick_groups", "gauge", "Groups of a workload that are not closed.", "workload"),
        Metric("fronts", "gauge", "Processes that take requests; 0 where the main process does."),
        Metric("workers", "gauge", "Worker processes that are ready."),
        Metric("workers_replaced", "counter", "Worker processes replaced, by the cause.", "cause"),
        Metric("wal_bytes", "gauge", "Of the write-ahead log's file."),
        Metric("file_bytes", "gauge", "Of the database's file."),
        Metric("disk_free_bytes", "gauge", "Left on the disk of the database."),
        Metric("upkeep_trouble", "gauge", "1 while something that the server does beside its requests fails.", "piece"),
        Metric("backup_age_seconds", "gauge", "Of the last good backup, where a server makes them by itself."),
        Metric("replica_lag_seconds", "gauge", "For which the replica is behind, where there is one."),
        Metric("replica_lag_bytes", "gauge", "Of the log that are not in the replica yet."),
        Metric("audited", "gauge", "Messages that the audit has looked at since the server started."),
        Metric("audit_faults", "gauge", "Kinds of faults that the audit has found."),
        Metric("log_lines_dropped", "counter", "Lines of the log that nobody read in time."),
        Metric("up", "gauge", "1 while requests are accepted, 0 while they are not."),
    )
}


class Counts(msgspec.Struct, array_like=True):
    """A histogram's observations: `counts` of each bucket (not cumulative), the last one is +Inf's; and their sum."""

    counts: list[int]
    sum: float = 0.0

    def observe(self, bounds: Sequence[float], value: float, times: int = 1) -> None:
        """One observation, or several of the same value."""
        self.counts[bisect_left(bounds, value)] += times
        self.sum += value * times

    def observe_all(self, bounds: Sequence[float], values: Sequence[float]) -> None:
        """Several, at a part of what they cost one by one: the bounds are looked for among them."""
        ascending, within = sorted(values), 0
        highest = bisect_left(bounds, ascending[-1])
        for place in range(bisect_left(bounds, ascending[0]), highest):
            before, within = within, bisect_right(ascending, bounds[place])
            self.counts[place] += within - before
        self.counts[highest] += len(ascending) - within
        self.sum += sum(ascending)

    def add(self, other: Counts) -> None:
        """Those of another process, or of another time."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    def since(self, before: Counts) -> Counts:
        """Those that came after. What has less by now began anew: its server did."""
        if any(a < b for a, b in zip(self.counts, before.counts, strict=True)):
            return self
        return Counts([a - b for a, b in zip(self.counts, before.counts, strict=True)], self.sum - before.sum)


class Numbers(msgspec.Struct):
    """What a process, or a whole server, has counted since it started: by metric, and by what its label says ("" where
    it has none)."""

    counters: dict[str, dict[str, int]] = {}
    gauges: dict[str, dict[str, float]] = {}
    histograms: dict[str, dict[str, Counts]] = {}

    def count(self, metric: str, label: str = "", by: int = 1) -> None:
        """A counter goes up."""
        values = self.counters.setdefault(metric, {})
        values[label] = values.get(label, 0) + by

    def put_back(self, delivery: Delivery, kind: FailureKind) -> None:  # noqa: ARG002  an engine may tell them apart
        """A delivery came to a failure of that kind, and goes back to the queue, to be tried again."""
        self.count("retried", delivery.message.workload)

    def observe(self, metric: str, value: float, label: str = "", times: int = 1) -> None:
        """A histogram's observation, or several of the same value."""
        bounds = METRICS[metric].buckets
        values = self.histograms.setdefault(metric, {})
        if (counts := values.get(label)) is None:
            counts = values[label] = Counts([0] * (len(bounds) + 1))
        counts.observe(bounds, value, times)

    def fits(self) -> bool:
        """Whether its histograms have the buckets that they have here: those of another version need not."""
        return all(
            len(counts.counts) == len(METRICS[metric].buckets) + 1
            for metric, histograms in self.histograms.items()
            if metric in METRICS
            for counts in histograms.values()
        )

    def add(self, other: Numbers) -> None:
        """What another process has counted since it was last added; gauges are left alone."""
        for metric, values in other.counters.items():
            for label, value in values.items():
                self.count(metric, label, value)
        for metric, histograms in other.histograms.items():
            mine = self.histograms.setdefault(metric, {})
            for label, counts in histograms.items():
                if label in mine:
                    mine[label].add(counts)
                else:
                    mine[label] = Counts(list(counts.counts), counts.sum)

    def since(self, before: Numbers) -> Numbers:
        """What was counted in between. What has less by now began anew: its server did."""
        told = Numbers()
        for metric, values in self.counters.items():
            old = before.counters.get(metric, {})
            for label, value in values.items():
                was = old.get(label, 0)
                told.count(metric, label, value - was if value >= was else value)
        for metric, histograms in self.histograms.items():
            older = before.histograms.get(metric, {})
            told.histograms[metric] = {
                label: counts.since(older[label]) if label in older else counts for label, counts in histograms.items()
            }
        return told

    def total(self, counter: str) -> int:
        """Of all that it is told apart by."""
        return sum(self.counters.get(counter, {}).values())

    def together(self, histogram: str) -> Counts:
        """Likewise."""
        counts = Counts([0] * (len(METRICS[histogram].buckets) + 1))
        for some in self.histograms.get(histogram, {}).values():
            counts.add(some)
        return counts


def by_name(names: Sequence[str]) -> Mapping[str, int]:
    """How many of each there are: mostly they are all the same."""
    return {names[0]: len(names)} if names and names.count(names[0]) == len(names) else Counter(names)


def quantile(metric: str, counts: Sequence[int], q: float) -> float | None:
    """The value that a part of `q` of the observations does not exceed, as Prometheus estimates it: linear within a
    bucket; of +Inf's, the last bound. None without observations."""
    total = sum(counts)
    if not total:
        return None
    bounds = METRICS[metric].buckets
    rank, before = q * total, 0
    for place, count in enumerate(counts):
        if count and before + count >= rank:
            if place == len(bounds):
                return float(bounds[-1])
            lower = bounds[place - 1] if place else 0.0
            return lower + (bounds[place] - lower) * (rank - before) / count
        before += count
    return float(bounds[-1])
