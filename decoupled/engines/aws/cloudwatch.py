"""CloudWatch's metrics of a stack, for tools: what SQS measures of its queues, and what the functions measure with
`Metrics=on` (see `emf.py`). One GetMetricData call for all of them, which is billed by the metric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

PERIOD_S = 60
MAX_PAGES = 10  # of one answer; an hour of a stack's metrics is one


@dataclass(frozen=True, slots=True)
class Asked:
    """A statistic of one metric; of several queues, say, those with the same `name` are added up, or of their values
    the largest counts. `name` is ours."""

    name: str
    namespace: str
    metric: str
    statistic: str  # Sum, Maximum, p50
    dimensions: Mapping[str, str]
    largest: bool = False


Values = dict[str, dict[int, float]]
"""By name, the values of the times that have one: milliseconds since the epoch, the beginnings of the periods."""


def of_queues(urls: Iterable[str], name: str, metric: str, statistic: str, largest: bool = False) -> list[Asked]:
    """What SQS measures of these queues together."""
    queues = [url.rpartition("/")[2] for url in urls]
    return [Asked(name, "AWS/SQS", metric, statistic, {"QueueName": queue}, largest) for queue in queues]


def namespace(stack: str) -> str:
    """Where a stack's own metrics are, those of the log filters too."""
    return f"Decoupled/{stack}"


def ask(cloudwatch: Any, asked: Sequence[Asked], first_ms: int, end_ms: int, period_s: int = PERIOD_S) -> Values:
    """What was measured from `first_ms` on, before `end_ms`. Raises AwsError."""
    if not asked:
        return {}
    request: dict[str, Any] = {
        "MetricDataQueries": [
            {"Id": f"m{number}", "MetricStat": _statistic(one, period_s)} for number, one in enumerate(asked)
        ],
        "StartTime": _datetime(first_ms),
        "EndTime": _datetime(end_ms),
        "ScanBy": "TimestampAscending",
    }
    values: Values = {}
    for _ in range(MAX_PAGES):
        answer = cloudwatch.get_metric_data(**request)
        for result in answer["MetricDataResults"]:
            one = asked[int(result["Id"][1:])]
            _add(values.setdefault(one.name, {}), one, result)
        if not (token := answer.get("NextToken")):
            break
        request["NextToken"] = token
    return values


def _add(found: dict[int, float], one: Asked, result: Mapping[str, Any]) -> None:
    for time, value in zip(result["Timestamps"], result["Values"], strict=True):
        at = round(time.timestamp() * 1000)
        if at not in found:
            found[at] = value
        else:
            found[at] = max(found[at], value) if one.largest else found[at] + value


def _statistic(one: Asked, period_s: int) -> dict[str, Any]:
    dimensions = [{"Name": name, "Value": value} for name, value in one.dimensions.items()]
    metric = {"Namespace": one.namespace, "MetricName": one.metric, "Dimensions": dimensions}
    return {"Metric": metric, "Period": period_s, "Stat": one.statistic}


def _datetime(ms: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)


def minute(ms: int) -> int:
    """The beginning of the minute that a time is in."""
    return ms - ms % (PERIOD_S * 1000)
