"""What the functions measure, as lines of their logs in CloudWatch's Embedded Metric Format, of which CloudWatch makes
metrics. The names and what they mean are those of `core/metrics.py` and `signals.py`. Pure.

One line an invocation, or one of each workload where there are several: of all of them together, and by workload.

    {"_aws": {"Timestamp": 1780000000000, "CloudWatchMetrics": [{"Namespace": "Decoupled/shop",
      "Dimensions": [[], ["Workload"]], "Metrics": [{"Name": "processed", "Unit": "Count"}, ...]}]},
     "Workload": "orders", "processed": 10, "waiting_seconds": [0.041, 0.040, ...]}

The format's limits are in https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/
CloudWatch_Embedded_Metric_Format_Specification.html: 100 metrics a line, 100 values of each, a DimensionSet may be
empty."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import msgspec

from decoupled.core.metrics import METRICS, UNSERVED, Numbers
from decoupled.core.outcomes import Delivery, FailureKind
from decoupled.engines.aws.signals import SIGNALS, note

MAX_VALUES = 100  # of a metric in one line
_DIMENSIONS = {"workload": "Workload", "status": "Status"}
_KNOWN = {**METRICS, **SIGNALS}
_encoder = msgspec.json.Encoder()


class Measured(Numbers):
    """What one invocation has counted, and each duration as it is: CloudWatch makes the percentiles."""

    values: dict[str, dict[str, list[float]]] = {}  # noqa: RUF012  msgspec copies it for each
    now_ms: int = 0

    def put_back(self, delivery: Delivery, kind: FailureKind) -> None:
        """Counted, and noted for the alarms."""
        super().put_back(delivery, kind)
        note(self, delivery, kind, self.now_ms)

    def observe(self, metric: str, value: float, label: str = "", times: int = 1) -> None:
        """A duration, or several of the same."""
        self.values.setdefault(metric, {}).setdefault(label, []).extend([value] * times)


def lines(measured: Numbers, namespace: str, workloads: Collection[str], now_ms: int) -> Iterator[str]:
    """The lines to log, each without its end. `workloads`: those that are served."""
    for (dimension, label), found in _by_dimension(measured, workloads).items():
        while found:
            now = {metric: values[:MAX_VALUES] for metric, values in found.items()}
            found = {metric: rest for metric, values in found.items() if (rest := values[MAX_VALUES:])}
            directive = {
                "Namespace": namespace,
                "Dimensions": [[], [dimension]],
                "Metrics": [{"Name": metric, "Unit": _unit(metric)} for metric in now],
            }
            line: dict[str, Any] = {"_aws": {"Timestamp": now_ms, "CloudWatchMetrics": [directive]}, dimension: label}
            line |= {metric: values[0] if len(values) == 1 else values for metric, values in now.items()}
            yield _encoder.encode(line).decode()


def _by_dimension(measured: Numbers, workloads: Collection[str]) -> dict[tuple[str, str], dict[str, list[float]]]:
    """By the dimension and its value, the values of each metric: of a counter or a gauge, the one that it has."""
    every: list[tuple[str, str, list[float]]] = [
        (metric, label, [value])
        for numbers in (measured.counters, measured.gauges)
        for metric, values in numbers.items()
        for label, value in values.items()
    ]
    durations = measured.values if isinstance(measured, Measured) else {}
    every += [(metric, label, list(it)) for metric, values in durations.items() for label, it in values.items()]
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for metric, label, values in every:
        dimension = _DIMENSIONS[_KNOWN[metric].label]
        value = UNSERVED if dimension == "Workload" and label not in workloads else label
        found.setdefault((dimension, value), {}).setdefault(metric, []).extend(values)
    return found


def _unit(metric: str) -> str:
    return "Seconds" if metric.endswith("_seconds") else "Count"
