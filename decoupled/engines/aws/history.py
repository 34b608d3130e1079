"""The last hour of a stack, for charts: a value a minute, as CloudWatch has them, a minute or two late. What SQS
measures is always there; the rest where the functions measure (`Metrics=on`). Outlives whoever looks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from decoupled.core.overview import CHARTED, History
from decoupled.engines.aws import ages
from decoupled.engines.aws.client import unavailable
from decoupled.engines.aws.cloudwatch import PERIOD_S, Asked, Values, ask, minute, namespace, of_queues
from decoupled.engines.aws.stack import dead_letter_urls, queue_urls, tool_client

HOUR_S = 3_600
KEPT_S = 60.0  # that an answer serves: CloudWatch has nothing new sooner, and bills each question
_RATES = ("accepted", "processed", "rejected", "dead", "retried")
_DURATIONS = ("accept", "waiting", "processing")
_QUANTILES = ("p50", "p99")
_OFF = (
    "The functions of this stack do not measure (Metrics=off): accepted and processed are what SQS took and deleted, "
    "of emitted messages too; how long things took is not known."
)


class AwsPast:
    """Implements Past (dashboard/sources.py). `found`: the stack's outputs."""

    def __init__(
        self,
        stack: str,
        found: Mapping[str, str],
        cloudwatch: Any,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._stack = stack
        self._outputs = found
        self._cloudwatch = cloudwatch
        self._clock_ms = clock_ms
        self._kept: History | None = None
        self._kept_until = 0

    @classmethod
    def of_outputs(cls, stack: str, found: Mapping[str, str]) -> AwsPast:
        """That of the stack that has these outputs."""
        return cls(stack, found, tool_client("cloudwatch"))

    def history(self, seconds: int) -> History:
        """Of the last so many seconds, an hour at most. Raises Unavailable."""
        now = self._clock_ms()
        if self._kept is None or not self._kept_until - KEPT_S * 1000 <= now < self._kept_until:
            self._kept, self._kept_until = self._ask(now), now + round(KEPT_S * 1000)
        return _last(self._kept, min(max(seconds, PERIOD_S), HOUR_S))

    def _ask(self, now: int) -> History:
        end = minute(now)
        first = end - HOUR_S * 1000
        measured = self._outputs.get("Metrics") == "on"
        asked = self._of_queues() + (of_functions(self._stack) if measured else self._sent_and_deleted())
        with unavailable():
            values = ask(self._cloudwatch, [*asked, ages.asked(self._stack)], first, end)
        times = list(range(first, end, PERIOD_S * 1000))
        of_sqs, seen = (values.get(name, {}) for name in ("oldest_age_s", ages.SEEN))
        values["oldest_age_s"] = ages.joined(times, of_sqs, seen, _depth(values))
        series = {name: [found.get(at) for at in times] for name in CHARTED if (found := _charted(name, values))}
        return History(PERIOD_S, times, series, "" if measured else _OFF)

    def _of_queues(self) -> list[Asked]:
        queues, dead = queue_urls(self._outputs), dead_letter_urls(self._outputs)
        count = "ApproximateNumberOfMessages"
        return [
            *of_queues(queues, "queued", f"{count}Visible", "Maximum"),
            *of_queues(queues, "in_flight", f"{count}NotVisible", "Maximum"),
            *of_queues(queues, "delayed", f"{count}Delayed", "Maximum"),
            *of_queues(queues, "oldest_age_s", "ApproximateAgeOfOldestMessage", "Maximum", largest=True),
            *of_queues(dead, "dead", f"{count}Visible", "Maximum"),
        ]

    def _sent_and_deleted(self) -> list[Asked]:
        """What stands for accepted and processed where nothing tells better."""
        queues = queue_urls(self._outputs)
        return [
            *of_queues(queues, "accepted_per_s", "NumberOfMessagesSent", "Sum"),
            *of_queues(queues, "processed_per_s", "NumberOfMessagesDeleted", "Sum"),
        ]


def of_functions(stack: str, workload: str = "") -> list[Asked]:
    """What the functions of a stack measure: how many a period, and how long it took."""
    dimensions = {"Workload": workload} if workload else {}
    where = namespace(stack)
    counted = [Asked(f"{name}_per_s", where, name, "Sum", dimensions) for name in _RATES]
    return counted + [
        Asked(f"{name}_{quantile}_s", where, f"{name}_seconds", quantile, dimensions)
        for name in _DURATIONS
        for quantile in _QUANTILES
    ]


def _depth(values: Values) -> dict[int, float]:
    """Messages that have not ended, of the minutes of which all is known."""
    parts = [values.get(name, {}) for name in ("queued", "in_flight", "delayed")]
    return {at: sum(part[at] for part in parts) for at in parts[0] if all(at in part for part in parts)}


def _charted(name: str, values: Values) -> Mapping[int, float]:
    """One of CHARTED, by its minutes."""
    found = values.get(name, {})
    if name.endswith("_per_s"):
        return {at: round(value / PERIOD_S, 3) for at, value in found.items()}
    return found


def _last(history: History, seconds: int) -> History:
    samples = seconds // PERIOD_S

    def end(values: Sequence[Any]) -> list[Any]:
        return list(values[-samples:])

    series = {name: end(values) for name, values in history.series.items()}
    return History(history.step_s, end(history.times), series, history.note)
