"""The text of /metrics: all that `core/metrics.py` names, as Prometheus and those like it read it. The library that
writes it is loaded when somebody asks. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any, cast

from decoupled.core.metrics import METRICS, UNSERVED, Counts, Metric, Numbers
from decoupled.core.overview import Overview
from decoupled.core.problem import Response

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family
    from prometheus_client.registry import Collector

PREFIX = "decoupled_"


def render(
    numbers: Numbers | None, overview: Overview | None, health: Mapping[str, Any] | None, accept: str = ""
) -> Response:
    """What a server has counted (None: it does not run, or does not answer), what its file holds (None: it cannot be
    read), and what GET /health says (less where the writer hangs); in the format that the client asks for. Each metric
    is there that is known, with a number for each workload that is served."""
    from prometheus_client.registry import CollectorRegistry

    told = numbers or Numbers(gauges={"up": {"": 0.0}})
    gauges = {**told.gauges, **_gauges(overview, (health or {}).get("workloads", ()))}
    registry = CollectorRegistry(auto_describe=False)
    registry.register(cast("Collector", _Families(told, gauges)))
    encode, content_type = _encoder(accept)
    return Response(200, {"content-type": content_type}, encode(cast("Collector", registry)))


def _encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """What writes it, and what that is called."""
    from prometheus_client.exposition import choose_encoder

    try:
        return choose_encoder(accept)
    except TypeError:  # of a version that is no number; the library compares it with some
        return choose_encoder("")


def _gauges(overview: Overview | None, workloads: Iterable[str]) -> dict[str, dict[str, float]]:
    """Those that the engine counts, whoever asks."""
    if overview is None:
        return {}
    unfinished: dict[str, float] = dict.fromkeys(workloads, 0)
    for name, count in (overview.queued_by_workload or {}).items():
        label = name if name in unfinished else UNSERVED
        unfinished[label] = unfinished.get(label, 0) + count
    states = {state: getattr(overview, state) for state in ("queued", "in_flight", "delayed", "dead")}
    return {
        "messages": states,
        "unfinished": unfinished,
        "oldest_age_seconds": {"": overview.oldest_age_s or 0.0},
    }


class _Families:
    """A collector of the library's."""

    def __init__(self, numbers: Numbers, gauges: Mapping[str, Mapping[str, float]]) -> None:
        self._numbers = numbers
        self._gauges = gauges

    def collect(self) -> Iterator[Family]:
        """In the order in which they are named."""
        for metric in METRICS.values():
            family = self._family(metric)
            if family.samples:
                yield family

    def _family(self, metric: Metric) -> Family:
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        labels = [metric.label] if metric.label else []
        name = PREFIX + metric.name
        match metric.kind:
            case "counter":
                counter = CounterMetricFamily(name, metric.help, labels=labels)
                for label, count in self._numbers.counters.get(metric.name, {}).items():
                    counter.add_metric([label] if labels else [], count)
                return counter
            case "gauge":
                gauge = GaugeMetricFamily(name, metric.help, labels=labels)
                for label, value in self._gauges.get(metric.name, {}).items():
                    gauge.add_metric([label] if labels else [], value)
                return gauge
            case "histogram":
                histogram = HistogramMetricFamily(name, metric.help, labels=labels)
                for label, counts in self._numbers.histograms.get(metric.name, {}).items():
                    histogram.add_metric([label] if labels else [], _buckets(metric, counts), counts.sum)
                return histogram


def _buckets(metric: Metric, counts: Counts) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus has them."""
    from prometheus_client.utils import floatToGoString

    bounds = [*map(floatToGoString, metric.buckets), "+Inf"]
    return list(zip(bounds, accumulate(counts.counts), strict=True))
