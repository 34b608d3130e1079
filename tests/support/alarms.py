"""CloudWatch's alarms as its User Guide tells of them, on numbers that a test puts in; and those of the template. Only
what that uses: alarms on one metric each, missing data that breaches or does not. For tests only.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html: an alarm looks at more than
its evaluation periods, at how many more is not said. What is there of these counts, the latest N; what is missing is
filled in only where fewer than N are there. A window of N periods ends now: it slides, a minute at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support import template

Series = tuple[str, str, tuple[tuple[str, str], ...]]
"""Namespace, name and dimensions."""


class Metrics:
    """Of each minute, of each metric, the largest value and the sum."""

    def __init__(self) -> None:
        self.minutes: dict[Series, dict[int, tuple[float, float]]] = defaultdict(dict)

    def put(self, namespace: str, name: str, minute: int, value: float, **dimensions: str) -> None:
        """One value."""
        series = self.minutes[namespace, name, tuple(sorted(dimensions.items()))]
        largest, total = series.get(minute, (value, 0.0))
        series[minute] = (max(largest, value), total + value)


@dataclass
class Alarm:
    """`more`: periods that it looks at beyond its evaluation periods. `changes`: the states that it came into, and in
    which minute; it begins with OK."""

    series: Series
    statistic: str
    minutes: int  # of a period
    periods: int
    datapoints: int
    threshold: float
    missing: str
    more: int = 2
    changes: list[tuple[int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._known: dict[int, float | None] = {}

    def look(self, metrics: Metrics, minute: int) -> None:
        """At the end of a minute."""
        if not (series := metrics.minutes.get(self.series)):
            return
        places = range(self.periods + self.more - 1, -1, -1)
        points = [self._point(series, minute - place * self.minutes) for place in places]
        breaching = [None if point is None else point > self.threshold for point in points]
        state = evaluated(breaching, self.periods, self.datapoints, self.missing)
        if state != (self.changes[-1][1] if self.changes else "OK"):
            self.changes.append((minute, state))

    def _point(self, series: Mapping[int, tuple[float, float]], last: int) -> float | None:
        """Of the period that ends with that minute."""
        if last not in self._known:
            found = [series[at] for at in range(last - self.minutes + 1, last + 1) if at in series]
            largest, total = max((it[0] for it in found), default=None), sum(it[1] for it in found)
            self._known[last] = largest if self.statistic == "Maximum" or not found else total
        return self._known[last]


def evaluated(breaching: Sequence[bool | None], periods: int, datapoints: int, missing: str) -> str:
    """The state, of data points of which the latest comes last, and None is missing."""
    there = [point for point in breaching if point is not None][-periods:]
    filled = there + [missing == "breaching"] * (periods - len(there))
    return "ALARM" if sum(filled) >= datapoints else "OK"


STACK = "shop"


def of_template(parameters: Mapping[str, Any], more: Callable[[int], int]) -> dict[str, Alarm]:
    """The alarms of a stack without ordered workloads, by their names; `more` says of how many periods beyond its own
    one looks at."""

    def resolved(value: Any) -> Any:
        match value:
            case {"Ref": name} if name in parameters:
                return parameters[name]
            case {"Ref": name} | {"Fn::GetAtt": [name, *_]}:
                return name
            case {"Fn::Sub": text}:
                return text.replace("${AWS::StackName}", STACK)
            case {"Fn::FindInMap": [mapping, key, second]}:
                return template.load()["Mappings"][mapping][str(resolved(key))][second]
        return value

    alarms = {}
    for name, resource in template.load()["Resources"].items():
        if resource["Type"] == "AWS::CloudWatch::Alarm" and "Condition" not in resource:
            it = {key: resolved(value) for key, value in resource["Properties"].items()}
            dimensions = [(one["Name"], resolved(one["Value"])) for one in it.get("Dimensions", [])]
            assert it["ComparisonOperator"] == "GreaterThanThreshold"
            alarms[name] = Alarm(
                (it["Namespace"], it["MetricName"], tuple(sorted(dimensions))),
                it["Statistic"],
                it["Period"] // 60,
                it["EvaluationPeriods"],
                it["DatapointsToAlarm"],
                float(it["Threshold"]),
                it["TreatMissingData"],
                more(it["EvaluationPeriods"]),
            )
    return alarms
