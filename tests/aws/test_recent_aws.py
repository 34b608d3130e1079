"""What a stack's functions have counted lately, by workload; and which of its alarms is about what."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from decoupled.engines.aws.recent import COUNTED, AwsRecent
from decoupled.engines.aws.stats import AwsStats
from tests.support.contract import message
from tests.support.engines import AwsEngine
from tests.support.model_engine import ManualClock

ON = {"Metrics": "on", "Workloads": "orders,notifications"}


class CloudWatch:
    """Says of each minute as many as `says` has for the metric and the workload."""

    def __init__(self, says: Mapping[tuple[str, str], float]) -> None:
        self.says = says
        self.asked: list[int] = []

    def get_metric_data(self, **request: Any) -> Any:
        self.asked.append(len(request["MetricDataQueries"]))
        end = request["EndTime"].timestamp()
        results = []
        for query in request["MetricDataQueries"]:
            metric = query["MetricStat"]["Metric"]
            value = self.says.get((metric["MetricName"], metric["Dimensions"][0]["Value"]))
            times = [] if value is None else [datetime.fromtimestamp(end - 60 * n, UTC) for n in range(1, 4)]
            results.append({"Id": query["Id"], "Timestamps": times, "Values": [value] * len(times)})
        return {"MetricDataResults": results}


def recent(cloudwatch: Any, clock: Any = ManualClock, found: Mapping[str, str] = ON) -> AwsRecent:
    return AwsRecent("shop", found, lambda _service: cloudwatch, clock() if clock is ManualClock else clock)


def test_each_workload_has_what_it_came_to_in_the_last_five_minutes() -> None:
    counted = recent(CloudWatch({("accepted", "orders"): 100.0, ("dead", "notifications"): 1.0})).counted()
    assert counted is not None
    numbers, seconds = counted
    assert seconds == 300
    assert numbers.counters["accepted"] == {"orders": 300, "notifications": 0}
    assert numbers.counters["dead"] == {"orders": 0, "notifications": 3}
    assert numbers.counters.keys() == {*COUNTED}


def test_it_is_asked_once_a_minute_and_not_at_all_where_nothing_is_measured() -> None:
    clock, cloudwatch = ManualClock(), CloudWatch({})
    on = recent(cloudwatch, clock)
    for _ in range(3):
        on.counted()
    assert cloudwatch.asked == [10]
    clock.advance(60)
    on.counted()
    assert cloudwatch.asked == [10, 10]
    assert recent(cloudwatch, found={**ON, "Metrics": "off"}).counted() is None
    assert cloudwatch.asked == [10, 10]


def test_a_cloudwatch_that_refuses_leaves_it_unknown() -> None:
    class Sick:
        def get_metric_data(self, **_: Any) -> Any:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetMetricData")

    assert recent(Sick()).counted() is None


@pytest.mark.parametrize(
    ("name", "part"),
    [("QueueAgeAlarm-1ABC", "queue"), ("TableReadThrottlesAlarm-2", "table"), ("TheirOwnAlarm-3", "processor")],
)
def test_an_alarm_colours_the_part_that_it_is_about(moto_engine: AwsEngine, name: str, part: str) -> None:
    class Alarms:
        def get_metric_data(self, **_: Any) -> Any:
            return {"MetricDataResults": []}

        def describe_alarms(self, **request: Any) -> Any:
            assert request["AlarmNamePrefix"] == "shop-"
            return {"MetricAlarms": [{"AlarmName": f"shop-{name}", "AlarmDescription": "Look at it."}]}

    outputs = {
        "QueueUrl": moto_engine.queue_url,
        "DeadLetterQueueUrl": moto_engine.dead_letter_queue_url,
        "TableName": moto_engine.table_name,
    }
    clients = {"sqs": moto_engine.sqs, "dynamodb": moto_engine.dynamodb, "cloudwatch": Alarms()}
    stats = AwsStats("shop", outputs, clients.__getitem__)
    assert stats.look().alarms == ["Look at it."]
    assert stats.alarms == [(part, "Look at it.")]


def test_a_stack_is_not_told_of_alarms_of_another_one_whose_name_goes_on(moto_engine: AwsEngine) -> None:
    """Nor is one left out that comes after the fifty that CloudWatch tells of unless it is asked for more."""

    class Alarms:
        def get_metric_data(self, **_: Any) -> Any:
            return {"MetricDataResults": []}

        def describe_alarms(self, **request: Any) -> Any:
            names = [
                "eu-QueueAgeAlarm-1",
                "eu-west-OwnBacklogAlarmorders-2",
                *[f"OwnBacklogAlarmw{n}-3" for n in range(60)],
            ]
            found = [{"AlarmName": f"shop-{name}", "AlarmDescription": name} for name in names]
            return {"MetricAlarms": found[: request.get("MaxRecords", 50)]}

    outputs = {
        "QueueUrl": moto_engine.queue_url,
        "DeadLetterQueueUrl": moto_engine.dead_letter_queue_url,
        "TableName": moto_engine.table_name,
    }
    clients = {"sqs": moto_engine.sqs, "dynamodb": moto_engine.dynamodb, "cloudwatch": Alarms()}
    assert AwsStats("shop", outputs, clients.__getitem__).look().alarms == [f"OwnBacklogAlarmw{n}-3" for n in range(60)]


def test_nothing_that_waits_has_no_age_though_the_processor_saw_one_lately(moto_engine: AwsEngine) -> None:
    class CloudWatch:
        def get_metric_data(self, **_: Any) -> Any:
            seen = {"Id": "m0", "Timestamps": [datetime.now(UTC) - timedelta(seconds=120)], "Values": [7_000.0]}
            return {"MetricDataResults": [seen]}

        def describe_alarms(self, **_: Any) -> Any:
            return {"MetricAlarms": []}

    outputs = {
        "QueueUrl": moto_engine.queue_url,
        "DeadLetterQueueUrl": moto_engine.dead_letter_queue_url,
        "TableName": moto_engine.table_name,
    }
    clients = {"sqs": moto_engine.sqs, "dynamodb": moto_engine.dynamodb, "cloudwatch": CloudWatch()}
    stats = AwsStats("shop", outputs, clients.__getitem__)
    assert stats.look().oldest_age_s is None
    moto_engine.queue.send([message()])
    assert (stats.look().oldest_age_s or 0) > 7_000


def test_dead_records_of_the_last_hour_are_counted(moto_engine: AwsEngine) -> None:
    from tests.support.dead_letters import bury

    outputs = {
        "QueueUrl": moto_engine.queue_url,
        "DeadLetterQueueUrl": moto_engine.dead_letter_queue_url,
        "TableName": moto_engine.table_name,
    }
    clients = {"sqs": moto_engine.sqs, "dynamodb": moto_engine.dynamodb, "cloudwatch": CloudWatch({})}
    bury(moto_engine)
    assert AwsStats("shop", outputs, clients.__getitem__).dead_lately() == 1
    later = ManualClock()
    later.now_ms = 4_000_000_000_000
    assert AwsStats("shop", outputs, clients.__getitem__, later).dead_lately() == 0
