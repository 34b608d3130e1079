"""When AWS is sick: DynamoDB throttles, or everything goes away under load and comes back. And the tools on a stack,
over real HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from botocore.stub import Stubber

from decoupled.core.outcomes import Delivery
from decoupled.core.workload import Message, Unavailable
from decoupled.engines.aws.client import client
from decoupled.engines.aws.messages import SqsQueue
from decoupled.engines.aws.table import DynamoTable
from decoupled.pipeline.loading import load
from tests.support import engines, events, ministack, template
from tests.support.events import process_event
from tests.support.model_engine import ManualClock, ModelQueue
from tests.support.server import DECOUPLED, wait_for

ORDERS = load(["orders"])


def orders(count: int) -> list[Message]:
    body = json.dumps(events.ORDER)
    return [Message(f"order-{number}", "orders", body, "anonymous", 1_795_000_000_000) for number in range(count)]


def process(deliveries: list[Delivery], queue: Any, table: Any) -> int:
    """What the event source mapping does with a batch; how many it keeps."""
    records = [events.sqs_record(one.message, one.receive_count, one.receipt) for one in deliveries]
    answer = process_event(events.sqs_event(records), queue, table, ORDERS, 5, lambda: 30.0)
    failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
    queue.delete([one for one in deliveries if f"sqs-{one.message.id}" not in failed])
    return len(failed)


@pytest.mark.parametrize(
    "error", ["ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"]
)
def test_a_throttled_table_sends_messages_back_and_none_to_the_dead(
    error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ministack.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    clock, dynamodb = ManualClock(), client("dynamodb")
    queue = ModelQueue(clock)
    queue.send(orders(10))
    with Stubber(dynamodb) as stub:
        table = DynamoTable(dynamodb, "table", pause=lambda _: None)
        rounds = 8  # more than the attempts that a message of its own fault would have
        for _ in range(10):
            stub.add_client_error("put_item", error, "slow down", 400)
        for _ in range(2 * (rounds - 1)):  # delivered again, one message asks and takes that back; the others need not
            stub.add_client_error("update_item", error, "slow down", 400)
        for count in range(1, rounds + 1):
            deliveries = queue.receive(10, 180)
            assert [one.receive_count for one in deliveries] == [count] * 10
            assert process(deliveries, queue, table) == 10
            assert queue.receive(10, 180) == []  # they back off
            clock.advance(900)
        stub.assert_no_pending_responses()
    assert len(queue) == 10


def test_a_slow_table_whose_answers_are_lost_blames_nobody(moto_engine: engines.AwsEngine) -> None:
    """Its answer comes too late twice, as botocore tries twice, and all that it was asked for is done all the same."""
    clock, dynamodb = ManualClock(), _Slow(moto_engine.dynamodb)
    queue = ModelQueue(clock)
    (sent,) = orders(1)
    queue.send([sent])
    table = DynamoTable(dynamodb, moto_engine.table_name, pause=lambda _: None)
    for _ in range(12):  # deliveries, far more than attempts
        assert process(queue.receive(1, 180), queue, table) == 1
        clock.advance(900)
    dynamodb.slow = False
    assert process(queue.receive(1, 180), queue, table) == 0
    assert (record := table.get(sent.id)) is not None
    assert (record.status, record.error_type) == ("processed", None)


class _Slow:
    """DynamoDB, which refuses to put, and updates without telling."""

    def __init__(self, real: Any) -> None:
        self.real, self.slow = real, True

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.real, name)

        def slow(**parameters: Any) -> Any:
            if name == "put_item":
                metadata = {"HTTPStatusCode": 400, "RetryAttempts": 1}
                raise ClientError({"Error": {"Code": "ThrottlingException"}, "ResponseMetadata": metadata}, "PutItem")
            for _ in range(2):
                with contextlib.suppress(ClientError):
                    call(**parameters)
            raise ReadTimeoutError(endpoint_url="http://dynamodb")

        return slow if self.slow else call


@pytest.mark.usefixtures("_no_logs")
def test_aws_may_go_away_under_load_and_come_back(tmp_path: Path) -> None:
    port = ministack.free_port()
    kept = {"PERSIST_STATE": "1", "STATE_DIR": str(tmp_path / "state")}
    environment = {**ministack.CREDENTIALS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    sent = orders(200)
    with mock.patch.dict(os.environ, environment):
        sqs, dynamodb = client("sqs"), client("dynamodb")
        with ministack.running(tmp_path, kept, port):
            urls = [
                sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "2"})["QueueUrl"]
                for name in ("queue", "dead")
            ]
            engines.create_table(dynamodb, "table")
            queue, table = engines.ReceivingSqsQueue(sqs, *urls), DynamoTable(dynamodb, "table")
            assert queue.send(sent) == [None] * 200
            for _ in range(5):
                assert process(queue.receive(10, 2), queue, table) == 0
            in_flight = queue.receive(10, 2)
        assert process(in_flight, queue, table) == len(in_flight)  # nobody answers: all are to be delivered again
        with pytest.raises(Unavailable):
            queue.receive(10, 2)
        with ministack.running(tmp_path, kept, port):

            def left() -> int:
                process(queue.receive(10, 2), queue, table)
                return sum((record := table.get(one.id)) is None or record.status != "processed" for one in sent)

            wait_for(left, lambda count: count == 0, seconds=60)
            assert engines.ReceivingSqsQueue(sqs, urls[1], "").receive(10, 1) == []


@pytest.fixture
def _no_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")


# --- the commands, on a stack ----------------------------------------------------------


def stack_template() -> str:
    """The template's queues and table, and their outputs, without the functions."""
    table = template.properties("Table")
    names = ("AttributeDefinitions", "KeySchema", "BillingMode")
    indexes = [{n: i[n] for n in ("IndexName", "KeySchema", "Projection")} for i in table["GlobalSecondaryIndexes"]]
    resources = {
        "Queue": {"Type": "AWS::SQS::Queue"},
        "DeadLetterQueue": {"Type": "AWS::SQS::Queue", "Properties": {"MessageRetentionPeriod": 1_209_600}},
        "Table": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {**{name: table[name] for name in names}, "GlobalSecondaryIndexes": indexes},
        },
    }
    outputs = {"QueueUrl": "Queue", "DeadLetterQueueUrl": "DeadLetterQueue", "TableName": "Table"}
    return json.dumps(
        {"Resources": resources, "Outputs": {name: {"Value": {"Ref": what}} for name, what in outputs.items()}}
    )


def test_on_call_for_a_stack(ministack_url: str, tmp_path: Path) -> None:
    environment = ministack.environment(ministack_url)

    def run(*arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [str(DECOUPLED), *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    with mock.patch.dict(os.environ, {**ministack.CREDENTIALS, "AWS_ENDPOINT_URL": ministack_url}):
        found = _deploy("oncall")
        queue = engines.ReceivingSqsQueue(client("sqs"), found["QueueUrl"], found["DeadLetterQueueUrl"])
        table = DynamoTable(client("dynamodb"), found["TableName"], send_dead_letter=queue.send_dead_letter)
        poison = Message("poison", "", '{"bad": true}', "anonymous", 1_795_000_000_000)
        queue.send([poison])
        assert process(queue.receive(1, 60), queue, table) == 0  # not ours: dead at once
        crashed = Message("crashed", "orders", json.dumps(events.ORDER), "anonymous", 1_795_000_000_000)
        SqsQueue(client("sqs"), found["DeadLetterQueueUrl"], "").send([crashed])  # as the redrive policy moves it

        listed = run("dead", "list", "--stack", "oncall")
        assert "NotOurs" in listed
        assert "then SQS deletes it" in listed
        assert "2 dead" in listed
        assert '"dead":2' in run("status", "--stack", "oncall", "--json")
        assert "1 redriven" in run("dead", "redrive", "--stack", "oncall", "crashed")
        assert process(queue.receive(10, 60), queue, table) == 0
        assert (record := table.get("crashed")) is not None
        assert record.status == "processed"
        assert "1 purged" in run("dead", "purge", "--stack", "oncall", "--all", "--yes")
        assert "No dead letters" in run("dead", "list", "--stack", "oncall")
        assert engines.ReceivingSqsQueue(client("sqs"), found["DeadLetterQueueUrl"], "").receive(10, 1) == []
        assert "there is no stack 'nobody'" in run("dead", "list", "--stack", "nobody", status=1)


def _deploy(name: str) -> Mapping[str, str]:
    from decoupled.engines.aws.stack import outputs, tool_client

    tool_client("cloudformation").create_stack(StackName=name, TemplateBody=stack_template())

    def found() -> Mapping[str, str] | None:
        try:
            return outputs(name)
        except ValueError:
            return None

    return wait_for(found) or {}
