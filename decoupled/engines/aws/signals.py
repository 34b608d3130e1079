"""What the processor tells of itself always, with `Metrics=off` too, and what alarms are on: that messages had to be
put back on the queue, how long they wait by then, and whose fault that is. SQS itself leaves a message's age out after
three receives. Pure.

A line of log (see `emf.py`) for each workload of a batch of which something was put back; else none, so that it costs
nothing while all goes well. A message that waits is seen at each try, every 15 minutes at the latest: alarms remember
for longer than that."""

from __future__ import annotations

from decoupled.core.metrics import Metric, Numbers
from decoupled.core.outcomes import Delivery, FailureKind

SIGNALS = {
    metric.name: metric
    for metric in (
        Metric("oldest_age_seconds", "gauge", "Since the oldest that was put back was accepted, or due.", "workload"),
        Metric("waiting_age_seconds", "gauge", "The same, of those that are not to blame themselves.", "workload"),
        Metric("unavailable_seconds", "gauge", "That the longest is tried, and its backend unavailable.", "workload"),
        Metric("unavailable", "counter", "Put back since a backend is unavailable.", "workload"),
        Metric("failed", "counter", "Put back since they failed on their own, or all alike.", "workload"),
    )
}

_THEIR_OWN: frozenset[FailureKind] = frozenset(("failed", "undecodable", "not_ours"))
_FAILED: frozenset[FailureKind] = _THEIR_OWN | {"held"}


def note(numbers: Numbers, delivery: Delivery, kind: FailureKind, now_ms: int) -> None:
    """One delivery was put back, after a failure of that kind."""
    workload = delivery.message.workload
    since = delivery.waits_since or delivery.message.accepted_at
    _longest(numbers, "oldest_age_seconds", workload, now_ms - since)
    if kind not in _THEIR_OWN:
        _longest(numbers, "waiting_age_seconds", workload, now_ms - since)
    if kind in _FAILED:
        numbers.count("failed", workload)
    elif kind == "unavailable":
        numbers.count("unavailable", workload)
        _longest(numbers, "unavailable_seconds", workload, now_ms - (delivery.tried_since or now_ms))


def _longest(numbers: Numbers, metric: str, workload: str, passed_ms: int) -> None:
    values = numbers.gauges.setdefault(metric, {})
    values[workload] = max(values.get(workload, 0.0), passed_ms / 1000)


class Signals(Numbers):
    """A tally that heeds nothing else."""

    now_ms: int = 0

    def put_back(self, delivery: Delivery, kind: FailureKind) -> None:
        """See `note`."""
        note(self, delivery, kind, self.now_ms)

    def count(self, metric: str, label: str = "", by: int = 1) -> None:
        """Of what is none of the signals, nothing."""
        if metric in SIGNALS:
            super().count(metric, label, by)

    def observe(self, metric: str, value: float, label: str = "", times: int = 1) -> None:
        """Nothing."""
