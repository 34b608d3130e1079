"""Counts the messages of a stack: what SQS, DynamoDB's index of dead records and CloudWatch say. Approximate, as SQS
is, and a minute or two behind where CloudWatch is asked."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from decoupled.core.overview import Overview
from decoupled.core.releases import Serving
from decoupled.engines.aws import ages, records
from decoupled.engines.aws.attributes import encode_time
from decoupled.engines.aws.client import AwsError, detail, unavailable
from decoupled.engines.aws.cloudwatch import ask, minute
from decoupled.engines.aws.stack import dead_letter_urls, outputs, queue_urls, tool_client

_SUMS = ("sent", "deleted")
MAX_ALARMS = 100  # AWS: of a page; a stack of 30 queues has 77
WINDOW_S = 300  # of CloudWatch's metrics: the last complete five minutes

PART_OF = {
    "ServerErrorsAlarm": "front",
    "QueueAgeAlarm": "queue",
    "BacklogAlarm": "queue",
    "InFlightAlarm": "queue",
    "OwnBacklogAlarm": "queue",
    "OwnInFlightAlarm": "queue",
    "OrderedQueueAgeAlarm": "queue",
    "OrderedInFlightAlarm": "queue",
    "UnavailableAlarm": "processor",
    "FailuresAlarm": "processor",
    "ProcessorErrorsAlarm": "processor",
    "ProcessorThrottlesAlarm": "processor",
    "TableWriteThrottlesAlarm": "table",
    "TableReadThrottlesAlarm": "table",
    "DeadIndexThrottlesAlarm": "table",
    "DeadLettersAlarm": "dead",
    "DeadLettersAgeAlarm": "dead",
    "OrderedDeadLettersAlarm": "dead",
    "OrderedDeadLettersAgeAlarm": "dead",
}
"""Of the template's alarms, by the name that each has there up to the workload, the part of the picture that it is
about."""


def part_of(alarm: str) -> str:
    """Of an alarm that is called so after its stack's name: OwnBacklogAlarmorders-1ABC."""
    name, found, _ = alarm.partition("Alarm")
    return PART_OF.get(name + found, "processor")


def of_another(alarm: str) -> bool:
    """Whether an alarm that begins as those of a stack do is one of a stack whose name goes on: shop-eu's, of shop."""
    name, found, _ = alarm.partition("Alarm")
    stack, _, own = f"{name}{found}".rpartition("-")
    return bool(stack) and own in PART_OF


class AwsStats:
    """Implements Stats."""

    def __init__(
        self,
        stack: str,
        outputs_: dict[str, str],
        clients: Callable[[str], Any] = tool_client,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._stack = stack
        self._outputs = outputs_
        self._sqs, self._dynamodb, self._cloudwatch = (clients(name) for name in ("sqs", "dynamodb", "cloudwatch"))
        self._clock_ms = clock_ms
        self.alarms: Sequence[tuple[str, str]] = ()  # that sounded at the last look: see core/overview.Look

    @classmethod
    def of_stack(cls, stack: str) -> AwsStats:
        """That of a stack. Raises ValueError or Unavailable."""
        return cls(stack, dict(outputs(stack)))

    def look(self) -> Overview:
        """SQS counts what waits out a backoff as in flight: to SQS both are hidden."""
        queue = self._depth(queue_urls(self._outputs))
        dead_letter_queue = self._depth(dead_letter_urls(self._outputs))
        on_queue, recorded = sum(dead_letter_queue), self._recorded()
        notes = []
        if on_queue > recorded:
            notes.append(f"{on_queue - recorded} on the dead-letter queue have no record: `decoupled dead list` tells")
        age, sent, deleted = self._metrics(notes)
        serving = Serving.of(self._outputs)
        if serving is not None and serving.percent_before:
            notes.append(f"release {serving}: `decoupled deploy` goes on with that, `decoupled rollback` goes back")
        return Overview(
            taken_at=self._clock_ms(),
            queued=queue[0],
            in_flight=queue[1],
            delayed=queue[2],
            dead=max(on_queue, recorded),
            oldest_age_s=age if any(queue) else None,  # what was seen a while ago has ended meanwhile
            accepted_per_s=sent,
            processed_per_s=deleted,
            alarms=self._alarms(notes),
            notes=notes,
        )

    def _depth(self, urls: Sequence[str]) -> tuple[int, int, int]:
        """Visible, hidden and delayed messages of these queues."""
        names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
        total: Counter[str] = Counter()
        for url in urls:
            with unavailable():
                answer = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
            total.update({name: int(answer.get(name, 0)) for name in names})
        return total[names[0]], total[names[1]], total[names[2]]

    def dead_lately(self) -> int:
        """Dead records of the last hour."""
        return self._recorded(self._clock_ms() - 3_600_000)

    def _recorded(self, since_ms: int = 0) -> int:
        request: dict[str, Any] = {
            "TableName": self._outputs["TableName"],
            "IndexName": records.DEAD_INDEX,
            "KeyConditionExpression": "dead = :dead AND dead_at >= :since",
            "ExpressionAttributeValues": {":dead": records.DEAD_KEY, ":since": encode_time(since_ms)},
            "Select": "COUNT",
        }
        total: int = 0
        while True:
            with unavailable():
                page = self._dynamodb.query(**request)
            total += page["Count"]
            if "LastEvaluatedKey" not in page:
                return total
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def _metrics(self, notes: list[str]) -> tuple[float | None, float | None, float | None]:
        """The oldest message's age, and messages sent and deleted a second."""
        queues = [url.rpartition("/")[2] for url in queue_urls(self._outputs)]
        end = datetime.fromtimestamp(self._clock_ms() / 1000, UTC).replace(second=0, microsecond=0)
        wanted = [
            ("age", "ApproximateAgeOfOldestMessage", "Maximum"),
            ("sent", "NumberOfMessagesSent", "Sum"),
            ("deleted", "NumberOfMessagesDeleted", "Sum"),
        ]
        queries = [
            {
                "Id": f"{metric_id}{number}",
                "MetricStat": {
                    "Metric": {
                        "Namespace": "AWS/SQS",
                        "MetricName": metric,
                        "Dimensions": [{"Name": "QueueName", "Value": name}],
                    },
                    "Period": WINDOW_S,
                    "Stat": stat,
                },
            }
            for number, name in enumerate(queues)
            for metric_id, metric, stat in wanted
        ]
        try:
            answer = self._cloudwatch.get_metric_data(
                MetricDataQueries=queries, StartTime=end - timedelta(seconds=WINDOW_S), EndTime=end
            )
            seen = self._seen()
        except AwsError as error:
            notes.append(f"no metrics: {detail(error)}")
            return None, None, None
        values = {result["Id"]: max(result["Values"]) for result in answer["MetricDataResults"] if result["Values"]}

        def of_all(metric_id: str) -> list[float]:
            return [values[key] for number in range(len(queues)) if (key := f"{metric_id}{number}") in values]

        sent, deleted = (round(sum(found) / WINDOW_S, 2) if (found := of_all(name)) else None for name in _SUMS)
        known = [*of_all("age"), *([] if seen is None else [round(seen, 1)])]
        return max(known, default=None), sent, deleted

    def _seen(self) -> float | None:
        """The age of the oldest that the processor put back lately, by now."""
        now = self._clock_ms()
        found = ask(self._cloudwatch, [ages.asked(self._stack)], minute(now) - ages.KEPT_S * 1000, now)
        return ages.at(now, found.get(ages.SEEN, {}))

    def _alarms(self, notes: list[str]) -> list[str]:
        """What sounds, each with what it means; on AWS these are the breakers."""
        prefix = f"{self._stack}-"
        try:
            answer = self._cloudwatch.describe_alarms(AlarmNamePrefix=prefix, StateValue="ALARM", MaxRecords=MAX_ALARMS)
        except AwsError as error:
            notes.append(f"no alarms: {detail(error)}")
            return []
        self.alarms = [
            (
                part_of(alarm["AlarmName"].removeprefix(prefix)),
                alarm.get("AlarmDescription") or alarm["AlarmName"],
            )
            for alarm in answer["MetricAlarms"]
            if not of_another(alarm["AlarmName"].removeprefix(prefix))
        ]
        return [why for _, why in self.alarms]

    def close(self) -> None:
        """Nothing is held."""
