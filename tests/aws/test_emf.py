"""What the functions measure: lines of the Embedded Metric Format, held to the schema that its specification publishes;
and what an invocation counts. That it costs nothing where nobody asks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from decoupled.core.metrics import METRICS
from decoupled.core.outcomes import Delivery, NotSent
from decoupled.core.workload import Message
from decoupled.engines.aws.emf import MAX_VALUES, Measured, lines
from decoupled.engines.aws.measuring import Measuring
from tests.support.emf import extracted, validate

ROOT = Path(__file__).parents[2]
NOW = 1_780_000_000_000
WORKLOADS = ("orders", "notifications")


def test_lines_are_of_the_published_schema_with_units_by_name() -> None:
    measured = Measured()
    measured.count("processed", "orders", 9)
    measured.count("rejected", "orders")
    measured.observe("waiting_seconds", 0.25, "orders", 2)
    measured.gauges["held"] = {"orders": 1.0}
    measured.count("refused", "503")
    written = list(lines(measured, "Decoupled/shop", WORKLOADS, NOW))
    validate(written)
    assert len(written) == 2
    document = json.loads(written[0])
    assert document["_aws"]["Timestamp"] == NOW
    (directive,) = document["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == ("Decoupled/shop", [[], ["Workload"]])
    assert {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]} == {
        "processed": "Count",
        "rejected": "Count",
        "held": "Count",
        "waiting_seconds": "Seconds",
    }
    assert extracted(written)["waiting_seconds", "Workload=orders"] == [0.25, 0.25]
    assert extracted(written)["refused", "Status=503"] == extracted(written)["refused", ""] == [1]


def test_the_validator_refuses_what_is_no_line() -> None:
    for wrong in ({}, {"_aws": {"Timestamp": NOW}}, {"_aws": {"Timestamp": "now", "CloudWatchMetrics": []}}):
        with pytest.raises(AssertionError):
            validate([json.dumps(wrong)])


def test_a_stranger_s_workloads_make_no_metrics_of_their_own() -> None:
    measured = Measured()
    for number in range(50):
        measured.count("dead", f"made-up-{number}")
        measured.observe("waiting_seconds", 1.0, f"made-up-{number}")
    (line,) = lines(measured, "Decoupled/shop", WORKLOADS, NOW)
    assert {named for _, named in extracted([line])} == {"", "Workload=-"}
    assert sum(extracted([line])["dead", ""]) == 50


@given(
    some.dictionaries(
        some.tuples(some.sampled_from(["waiting_seconds", "processing_seconds"]), some.sampled_from(WORKLOADS)),
        some.lists(some.floats(0, 1e6), min_size=1, max_size=3 * MAX_VALUES),
    )
)
def test_no_value_is_lost_however_many_there_are(observed: dict[tuple[str, str], list[float]]) -> None:
    measured = Measured()
    for (metric, workload), values in observed.items():
        for value in values:
            measured.observe(metric, value, workload)
    written = list(lines(measured, "n", WORKLOADS, NOW))
    assert len(written) <= 3 * len(WORKLOADS)
    found = extracted(written)
    for (metric, workload), values in observed.items():
        assert found[metric, f"Workload={workload}"] == values


def test_two_measurements_share_nothing() -> None:
    first = Measured()
    first.count("dead", "orders")
    first.observe("waiting_seconds", 1.0, "orders")
    assert list(lines(Measured(), "n", WORKLOADS, NOW)) == []


# --- an invocation ------------------------------------------------------------------


class FakeQueue:
    """Takes what `takes` says."""

    def __init__(self, takes: Callable[[Message], bool] = lambda _message: True) -> None:
        self.takes = takes
        self.put_off: list[Any] = []

    def send(self, messages: Sequence[Message]) -> list[NotSent | None]:
        return [None if self.takes(message) else NotSent("full") for message in messages]

    def retry_later(self, delays: Sequence[tuple[Delivery, float]]) -> None:
        self.put_off += delays

    def defer(self, due: Sequence[tuple[Delivery, int]], now_ms: int) -> list[Delivery]:
        return [delivery for delivery, _ in due]


@pytest.fixture
def written() -> list[str]:
    return []


@pytest.fixture
def measuring(written: list[str]) -> Measuring:
    clock = iter(range(1_000_000))
    return Measuring("Decoupled/shop", WORKLOADS, written.append, lambda: NOW, lambda: next(clock) / 4)


def message(number: int = 0, workload: str = "orders") -> Message:
    return Message(f"m-{number}", workload, "{}", "ana", NOW - 1_500)


def test_a_request_counts_what_sqs_took_and_how_long_that_took(measuring: Measuring, written: list[str]) -> None:
    def answer(producer: Any) -> dict[str, object]:
        producer.send([message(number) for number in range(5)])
        return {"statusCode": 202}

    queue = FakeQueue(lambda message: message.id != "m-3")
    assert measuring.taken(queue, answer) == {"statusCode": 202}
    assert [line[-1] for line in written] == ["\n"]
    validate([line.strip() for line in written])
    found = extracted([line.strip() for line in written])
    assert found["accepted", "Workload=orders"] == [4]
    assert found["accept_seconds", ""] == [0.25]
    assert not [metric for metric, _ in found if metric == "refused"]


def test_a_refusal_is_counted_by_its_status_and_a_good_look_writes_nothing(
    measuring: Measuring, written: list[str]
) -> None:
    measuring.answered(lambda: {"statusCode": 200})
    assert written == []
    measuring.answered(lambda: {"statusCode": 404})
    measuring.taken(FakeQueue(), lambda _producer: {"statusCode": 422})
    found = extracted([line.strip() for line in written])
    assert (found["refused", "Status=404"], found["refused", ""]) == ([1], [1, 1])


def test_what_nothing_took_has_no_duration(measuring: Measuring, written: list[str]) -> None:
    def answer(producer: Any) -> dict[str, object]:
        assert producer.send([message()]) != [None]
        return {"statusCode": 503}

    measuring.taken(FakeQueue(lambda _message: False), answer)
    assert {metric for metric, _ in extracted([line.strip() for line in written])} == {"refused"}


def test_a_batch_tells_what_waited_for_the_first_time_what_it_emits_and_what_is_held(
    measuring: Measuring, written: list[str]
) -> None:
    batch = [Delivery(message(1), "a", 1), Delivery(message(2), "b", 7), Delivery(message(3), "c", 1)]

    def process(some: Any, queue: Any, tally: Any) -> list[Delivery]:
        assert some == batch
        tally.count("processed", "orders", 2)
        tally.count("retried", "orders")
        tally.observe("processing_seconds", 0.5, "orders")
        queue.send([message(9, "notifications")])
        queue.retry_later([(batch[1], 2.0)])
        given_back: list[Delivery] = queue.defer([(batch[1], NOW)], NOW)
        return given_back

    queue = FakeQueue()
    assert measuring.processed(batch, queue, process, {"orders", "readings"}) == [batch[1]]
    assert queue.put_off == [(batch[1], 2.0)]
    validate([line.strip() for line in written])
    found = extracted([line.strip() for line in written])
    assert found["waiting_seconds", "Workload=orders"] == [1.5, 1.5]
    assert (found["processed", ""], found["retried", "Workload=orders"]) == ([2], [1])
    assert found["accepted", "Workload=notifications"] == [1]
    assert (found["held", ""], found["processing_seconds", ""]) == ([1.0], [0.5])
    assert {metric for metric, _ in found} <= METRICS.keys()
    assert len(written) == 2


# --- what it costs --------------------------------------------------------------------

_IMPORTED = """
import sys
import functions.{function} as function
before = {{*sys.modules}}
function.measuring()
print(sorted(name for name in {{*sys.modules}} - before), "decoupled.engines.aws.emf" in before)
"""


@pytest.mark.parametrize("function", ["receiver", "processor", "status"])
@pytest.mark.parametrize("namespace", ["", "Decoupled/shop"])
def test_measuring_imports_nothing_but_itself_and_off_not_even_that(function: str, namespace: str) -> None:
    environment = {
        "AWS_LAMBDA_FUNCTION_NAME": "f",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "WORKLOADS": "orders",
        "QUEUE_URL": "http://sqs/1/queue",
        "DEAD_LETTER_QUEUE_URL": "http://sqs/1/dead",
        "TABLE_NAME": "table",
        "MAX_ATTEMPTS": "5",
        "ATTEMPTS_SPAN_S": "0",
        "RECORD_TTL_DAYS": "0",
    }
    code = _IMPORTED.format(function=function)
    code = code.replace("import functions", "import os\nos.environ.pop('AWS_LAMBDA_FUNCTION_NAME')\nimport functions")
    code = code.replace("before =", "function.connect()\nbefore =")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "METRICS_NAMESPACE": namespace},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    ours = {"decoupled.engines.aws.emf", "decoupled.engines.aws.measuring"} if namespace else set()
    imported, _, was_there = done.stdout.strip().rpartition(" ")
    assert {*json.loads(imported.replace("'", '"'))} - {
        "decoupled.core.metrics",
        "decoupled.engines.aws.signals",
        "decoupled.engines.aws.unmeasured",
    } == ours
    assert was_there == "False"
