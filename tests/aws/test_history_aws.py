"""The last hour of a stack out of CloudWatch's answers, and how often it is asked."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import botocore.validate
import pytest
from botocore.exceptions import ClientError

from decoupled.core.overview import CHARTED
from decoupled.core.workload import Unavailable
from decoupled.engines.aws import ages
from decoupled.engines.aws.client import client
from decoupled.engines.aws.history import AwsPast
from tests.support.engines import AwsEngine
from tests.support.model_engine import ManualClock

QUEUES = {"QueueUrl": "https://sqs/1/queue", "DeadLetterQueueUrl": "https://sqs/1/dead", "TableName": "table"}
ORDERED = {"OrderedQueueUrl": "https://sqs/1/queue.fifo", "OrderedDeadLetterQueueUrl": "https://sqs/1/dead.fifo"}
START = 1_780_000_020_000 // 60_000 * 60_000


class CloudWatch:
    """Answers as `values` says, by metric, dimension and statistic, with two points each; checks the request against
    the service's model."""

    def __init__(self, model: Any, values: dict[str, float], per_page: int = 500) -> None:
        self.values = values
        self.asked: list[str] = []
        self.calls = 0
        self._model = model.meta.service_model.operation_model("GetMetricData").input_shape
        self._per_page = per_page

    def get_metric_data(self, **request: Any) -> Any:
        report = botocore.validate.ParamValidator().validate(request, self._model)
        assert not report.has_errors(), report.generate_report()
        self.calls += 1
        start, end = request["StartTime"], request["EndTime"]
        assert (end - start).total_seconds() == 3_600
        times = [datetime.fromtimestamp(end.timestamp() - seconds, UTC) for seconds in (120, 60)]
        results = []
        for query in request["MetricDataQueries"]:
            assert re.fullmatch("[a-z][a-zA-Z0-9_]*", query["Id"])
            metric, stat = query["MetricStat"]["Metric"], query["MetricStat"]["Stat"]
            dimensions = ",".join(dimension["Value"] for dimension in metric["Dimensions"])
            name = f"{metric['Namespace']} {metric['MetricName']} {dimensions} {stat}"
            self.asked.append(name)
            found = [(at, value) for key, value in self.values.items() if key == name for at in times]
            results.append(
                {"Id": query["Id"], "Timestamps": [at for at, _ in found], "Values": [value for _, value in found]}
            )
        first = int(request.get("NextToken", 0))
        answer: dict[str, Any] = {"MetricDataResults": results[first : first + self._per_page]}
        if first + self._per_page < len(results):
            answer["NextToken"] = str(first + self._per_page)
        return answer


@pytest.fixture
def model(moto_engine: AwsEngine) -> Any:
    return client("cloudwatch")


def test_what_sqs_measures_is_charted_by_the_minute(model: Any) -> None:
    cloudwatch = CloudWatch(
        model,
        {
            "AWS/SQS NumberOfMessagesSent queue Sum": 600,
            "AWS/SQS NumberOfMessagesSent queue.fifo Sum": 60,
            "AWS/SQS ApproximateNumberOfMessagesVisible queue Maximum": 7,
            "AWS/SQS ApproximateNumberOfMessagesVisible dead Maximum": 3,
            "AWS/SQS ApproximateNumberOfMessagesVisible dead.fifo Maximum": 1,
            "AWS/SQS ApproximateAgeOfOldestMessage queue Maximum": 40,
            "AWS/SQS ApproximateAgeOfOldestMessage queue.fifo Maximum": 90,
            "Decoupled/shop oldest_age_seconds  Maximum": 30,
        },
        per_page=4,
    )
    past = AwsPast("shop", QUEUES | ORDERED, cloudwatch, lambda: START + 1_234)
    history = past.history(3_600)
    assert history.times == list(range(START - 3_600_000, START, 60_000))
    assert {name: values[-1] for name, values in history.series.items()} == {
        "accepted_per_s": 11,
        "queued": 7,
        "dead": 4,
        "oldest_age_s": 90,  # what was put back a minute before is 90 s old by now, too
    }
    assert all(len(values) == 60 for values in history.series.values())
    assert [values[-3] for values in history.series.values()] == [None] * 4
    assert "Metrics=off" in history.note
    others = {name for name in cloudwatch.asked if not name.startswith("AWS/SQS")}
    assert others == {"Decoupled/shop oldest_age_seconds  Maximum"}


def test_what_sqs_leaves_out_grows_older_until_it_is_seen_again_and_is_let_go_when_it_is_not() -> None:
    minutes = [START + number * 60_000 for number in range(60)]
    seen = {minutes[0]: 7_200.0, minutes[9]: 30.0, minutes[30]: 9_000.0}
    found = ages.joined(minutes, {minutes[9]: 4.0, minutes[50]: 5.0}, seen, {})
    assert [found.get(minutes[place]) for place in (0, 9, 16, 17, 25, 26, 30, 45, 46, 47, 50)] == [
        7_200, 7_740, 8_160, 510, 990, None, 9_000, 9_900, 9_960, None, 5,
    ]  # fmt: skip


def test_what_was_seen_before_nothing_waited_any_more_has_ended() -> None:
    minutes = [START + number * 60_000 for number in range(12)]
    seen = {minutes[0]: 3_600.0, minutes[7]: 20.0}
    found = ages.joined(minutes, {}, seen, {minutes[4]: 9.0, minutes[5]: 0.0, minutes[6]: 2.0})
    assert [found.get(minutes[place]) for place in (0, 4, 5, 6, 7, 8)] == [3_600, 3_840, None, None, 20, 80]


def test_the_depth_that_tells_so_is_that_of_all_queues_together(model: Any) -> None:
    count = "AWS/SQS ApproximateNumberOfMessages"
    values = {f"{count}{kind} queue Maximum": 0.0 for kind in ("Visible", "NotVisible", "Delayed")}
    values["Decoupled/shop oldest_age_seconds  Maximum"] = 3_600.0
    ended = AwsPast("shop", QUEUES, CloudWatch(model, values), lambda: START).history(3_600)
    assert "oldest_age_s" not in ended.series
    values[f"{count}NotVisible queue Maximum"] = 1.0
    waiting = AwsPast("shop", QUEUES, CloudWatch(model, values), lambda: START).history(3_600)
    assert waiting.series["oldest_age_s"][-1] == 3_660


def test_what_the_functions_measure_is_asked_for_where_they_do(model: Any) -> None:
    cloudwatch = CloudWatch(
        model,
        {
            "Decoupled/shop accepted  Sum": 120,
            "Decoupled/shop dead  Sum": 6,
            "Decoupled/shop waiting_seconds  p99": 1.5,
            "AWS/SQS NumberOfMessagesSent queue Sum": 6_000,
        },
    )
    history = AwsPast("shop", QUEUES | {"Metrics": "on"}, cloudwatch, lambda: START).history(3_600)
    assert {name: values[-1] for name, values in history.series.items()} == {
        "accepted_per_s": 2,
        "dead_per_s": 0.1,
        "waiting_p99_s": 1.5,
    }
    assert history.note == ""
    assert history.series.keys() <= set(CHARTED)


def test_cloudwatch_is_asked_once_a_minute_however_many_look(model: Any) -> None:
    clock, cloudwatch = ManualClock(), CloudWatch(model, {})
    past = AwsPast("shop", QUEUES, cloudwatch, clock)
    for seconds in (0, 20, 20, 19):
        clock.advance(seconds)
        assert len(past.history(600).times) == 10
    assert cloudwatch.calls == 1
    clock.advance(1)
    past.history(3_600)
    assert cloudwatch.calls == 2
    assert Counter(cloudwatch.asked).most_common(1)[0][1] == 2


def test_a_cloudwatch_that_refuses_is_unavailable_and_asked_again(model: Any) -> None:
    class Sick:
        calls = 0

        def get_metric_data(self, **_: Any) -> Any:
            self.calls += 1
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetMetricData")

    sick = Sick()
    past = AwsPast("shop", QUEUES, sick, lambda: START)
    for _ in range(2):
        with pytest.raises(Unavailable, match="AccessDenied"):
            past.history(3_600)
    assert sick.calls == 2


def test_another_emulator_of_cloudwatch_answers_too(moto_engine: AwsEngine) -> None:
    cloudwatch = client("cloudwatch")
    cloudwatch.put_metric_data(
        Namespace="Decoupled/shop",
        MetricData=[
            {
                "MetricName": "processed",
                "Value": 30.0,
                "Timestamp": datetime.fromtimestamp((START - 90_000) / 1000, UTC),
            }
        ],
    )
    history = AwsPast("shop", QUEUES | {"Metrics": "on"}, cloudwatch, lambda: START).history(600)
    assert history.series["processed_per_s"][-2] == 0.5
