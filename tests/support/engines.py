"""The engines that the contract suite runs on: SQS and DynamoDB in the test process (moto), the same over real HTTP
(MiniStack), and SQLite. The AWS resources are made from the template's own properties. For tests only."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

import botocore.validate
import moto
from moto.core.serialize import ResponseSerializer
from moto.sqs.models import SQSBackend

from decoupled.core.outcomes import Delivery
from decoupled.core.workload import Message
from decoupled.engines.aws import client as aws
from decoupled.engines.aws.client import unavailable
from decoupled.engines.aws.messages import SqsQueue
from decoupled.engines.aws.schedules import Schedules
from decoupled.engines.aws.sqs_format import SYSTEM_ATTRIBUTES, message_of, received_attributes
from decoupled.engines.aws.table import DynamoTable
from decoupled.engines.protocols import Queue, Table
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.table import SqliteTable
from tests.support import ministack, template

ROLE_ARN, QUEUE_ARN = "arn:aws:iam::123456789012:role/later", "arn:aws:sqs:us-east-1:123456789012:dead"
NAMES = ("moto", "ministack", "embedded")
ANSWERS_WITHIN_S = 20.0  # an emulator beside other tests takes more than the second that AWS gets
_numbers = itertools.count(1)
_moto = threading.RLock()  # re-entrant: a test's fault may call inside a call

Calls = list[tuple[str, str, dict[str, Any]]]  # service, operation, parameters


class HandingOut(Queue, Protocol):
    """A queue that a test takes messages from."""

    def receive(self, maximum: int, visibility_timeout_s: float) -> list[Delivery]:
        """As the event source mapping does, or the server's claims: up to ten, of any workload."""
        ...

    def delete(self, deliveries: Sequence[Delivery]) -> None:
        """As the event source mapping does with what was not given back."""
        ...


class ReceivingSqsQueue(SqsQueue):
    """SQS as the event source mapping uses it."""

    def receive(self, maximum: int, visibility_timeout_s: float) -> list[Delivery]:
        """Without waiting for a first message."""
        with unavailable():
            answer = self._sqs.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=maximum,
                VisibilityTimeout=int(visibility_timeout_s),
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["ApproximateReceiveCount", *SYSTEM_ATTRIBUTES],
            )
        return [
            Delivery(
                message_of(it["MessageId"], it["Body"], received_attributes(it), it["Attributes"]),
                it["ReceiptHandle"],
                int(it["Attributes"]["ApproximateReceiveCount"]),
            )
            for it in answer.get("Messages", [])
        ]

    def delete(self, deliveries: Sequence[Delivery]) -> None:
        """By receipt; a stale one deletes nothing."""
        for delivery in deliveries:
            with unavailable(), contextlib.suppress(self._sqs.exceptions.ReceiptHandleIsInvalid):
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=delivery.receipt)


class ReceivingSqliteQueue(SqliteQueue):
    """SQLite's queue as the server's claims use it."""

    def receive(self, maximum: int, visibility_timeout_s: float) -> list[Delivery]:
        """Of the workload that waits longest first."""
        deliveries: list[Delivery] = []
        with self.database.transaction():
            for workload in self.ready():
                deliveries += self.claim(workload, maximum - len(deliveries), visibility_timeout_s)
        return deliveries

    def delete(self, deliveries: Sequence[Delivery]) -> None:
        """Nothing: what is stored has left the queue with that, see `SqliteTable.commit`."""


class Engine(Protocol):
    """A queue and a table, and what a test may ask beyond the protocols."""

    @property
    def name(self) -> str:
        """One of NAMES."""
        ...

    @property
    def queue(self) -> HandingOut:
        """Its queue."""
        ...

    @property
    def table(self) -> Table:
        """Its table."""
        ...

    def dead_letters(self) -> list[Message] | None:
        """What the dead-letter queue holds; None where the dead record is the dead letter."""
        ...


@dataclass
class AwsEngine:
    """`calls` are those made of AWS, each checked against its service's model before it is sent."""

    name: str
    queue: ReceivingSqsQueue
    table: DynamoTable
    sqs: Any
    dynamodb: Any
    scheduler: Any
    schedule_group: str
    calls: Calls
    queue_url: str
    dead_letter_queue_url: str
    table_name: str

    def dead_letters(self) -> list[Message] | None:
        """What the dead-letter queue holds; None where the dead record is the dead letter."""
        dead_letter_queue = ReceivingSqsQueue(self.sqs, self.dead_letter_queue_url, "")
        return [delivery.message for delivery in dead_letter_queue.receive(10, 0)]

    def scheduled(self) -> list[dict[str, Any]]:
        """The schedules that wait, each with what it will do."""
        names = [it["Name"] for it in self.scheduler.list_schedules(GroupName=self.schedule_group)["Schedules"]]
        return [self.scheduler.get_schedule(GroupName=self.schedule_group, Name=name) for name in names]

    def fire(self) -> None:
        """Let the time of each schedule come: call what it calls, and delete it, as EventBridge does."""
        for schedule in self.scheduled():
            assert schedule["Target"]["Arn"].endswith(":aws-sdk:sqs:sendMessage")
            self.sqs.send_message(**json.loads(schedule["Target"]["Input"]))
            self.scheduler.delete_schedule(GroupName=self.schedule_group, Name=schedule["Name"])

    def environment(self) -> dict[str, str]:
        """What the template gives the functions."""
        return {
            "QUEUE_URL": self.queue_url,
            "DEAD_LETTER_QUEUE_URL": self.dead_letter_queue_url,
            "TABLE_NAME": self.table_name,
        }


@dataclass
class EmbeddedEngine:
    """The SQLite engine without its server."""

    queue: ReceivingSqliteQueue
    table: SqliteTable
    name: str = "embedded"

    def dead_letters(self) -> list[Message] | None:
        """What the dead-letter queue holds; None where the dead record is the dead letter."""
        return None


def embedded(directory: Path) -> EmbeddedEngine:
    """A new SQLite engine in a directory."""
    database = Database(directory / "decoupled.sqlite3")
    return EmbeddedEngine(ReceivingSqliteQueue(database), SqliteTable(database))


def in_process() -> Iterator[Callable[[], AwsEngine]]:
    """AWS engines on moto, each with queues and a table of its own."""
    kept = mock.patch.object(SQSBackend, "send_message_batch", _with_system_attributes(SQSBackend.send_message_batch))
    looked_up = mock.patch.object(ResponseSerializer, "get_value", _as_it_is_called(ResponseSerializer.get_value))
    with mock.patch.dict(os.environ, ministack.CREDENTIALS), moto.mock_aws(), kept, looked_up:
        yield _engines("moto")


def _with_system_attributes(send: Callable[..., Any]) -> Callable[..., Any]:
    """Of the messages of a batch, moto forgets them, which SQS does not."""

    def send_all(backend: SQSBackend, queue_name: str, entries: dict[str, Any]) -> Any:
        messages, failed = send(backend, queue_name, entries)
        attributes = {entry["Id"]: entry.get("MessageSystemAttributes", {}) for entry in entries.values()}
        for message in messages:
            message.system_attributes = attributes[message.user_id]
        return messages, failed

    return send_all


def _as_it_is_called(get_value: Callable[..., Any]) -> Callable[..., Any]:
    """moto looks for what it answers under several spellings of each name, which is most of its work. An item's values
    have one: those that DynamoDB gave them."""

    def get(serializer: ResponseSerializer, value: Any, key: str, shape: Any) -> Any:
        if type(value) is dict and shape.parent.name == "AttributeValue":
            return value.get(key)
        return get_value(serializer, value, key, shape)

    return get


def over_http(endpoint: str) -> Iterator[Callable[[], AwsEngine]]:
    """AWS engines on MiniStack, each with queues and a table of its own."""
    with mock.patch.dict(os.environ, {**ministack.CREDENTIALS, "AWS_ENDPOINT_URL": endpoint}):
        yield _engines("ministack")


def _engines(name: str) -> Callable[[], AwsEngine]:
    calls: Calls = []
    sqs, dynamodb, scheduler = (aws.client(service, ANSWERS_WITHIN_S) for service in ("sqs", "dynamodb", "scheduler"))
    for client in (sqs, dynamodb, scheduler):
        record_calls(client, calls)
        if name == "moto":
            one_call_at_a_time(client)

    def make() -> AwsEngine:
        number = next(_numbers)
        queue_url = sqs.create_queue(QueueName=f"queue-{number}", Attributes={"VisibilityTimeout": "180"})["QueueUrl"]
        dead_letter_queue_url = sqs.create_queue(QueueName=f"dead-{number}")["QueueUrl"]
        table_name = f"table-{number}"
        create_table(dynamodb, table_name)
        group = f"later-{number}"
        scheduler.create_schedule_group(Name=group)
        calls.clear()
        schedules = Schedules(lambda: scheduler, group, queue_url, ROLE_ARN, QUEUE_ARN)
        queue = ReceivingSqsQueue(sqs, queue_url, dead_letter_queue_url, schedules)
        return AwsEngine(
            name=name,
            queue=queue,
            table=DynamoTable(dynamodb, table_name, send_dead_letter=queue.send_dead_letter, listed={"shop/things"}),
            sqs=sqs,
            dynamodb=dynamodb,
            scheduler=scheduler,
            schedule_group=group,
            calls=calls,
            queue_url=queue_url,
            dead_letter_queue_url=dead_letter_queue_url,
            table_name=table_name,
        )

    return make


@dataclass
class OrderedQueues:
    """The FIFO queue and its dead-letter queue beside an engine's standard ones."""

    queue: ReceivingSqsQueue
    queue_url: str
    dead_letter_queue_url: str


def fifo_beside(engine: AwsEngine) -> OrderedQueues:
    """As the template makes them."""
    urls = []
    for resource in ("OrderedQueue", "OrderedDeadLetterQueue"):
        properties = template.properties(resource)
        names = ("FifoQueue", "DeduplicationScope", "FifoThroughputLimit", "MessageRetentionPeriod")
        attributes = {name: str(properties[name]).removesuffix("True") or "true" for name in names}
        name = f"{resource}-{next(_numbers)}.fifo"
        urls.append(engine.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])
    engine.calls.clear()
    schedules = Schedules(lambda: engine.scheduler, engine.schedule_group, urls[0], ROLE_ARN, QUEUE_ARN)
    return OrderedQueues(ReceivingSqsQueue(engine.sqs, urls[0], engine.dead_letter_queue_url, schedules), *urls)


def record_calls(client: Any, calls: Calls) -> None:
    """Note every call of a client, and refuse one that its service's model would refuse. (In production the client does
    not check, which saves a tenth of a call's CPU.)"""

    def before(params: dict[str, Any], model: Any, **_: Any) -> None:
        report = botocore.validate.ParamValidator().validate(params, model.input_shape)
        assert not report.has_errors(), report.generate_report()
        calls.append((model.service_model.service_name, model.name, params))

    client.meta.events.register("provide-client-params.*", before)


def one_call_at_a_time(client: Any) -> None:
    """moto keeps its tables in plain dictionaries, which two threads at once upset."""
    make_call = client._make_api_call

    def call(*arguments: Any) -> Any:
        with _moto:
            return make_call(*arguments)

    client._make_api_call = call


def create_table(dynamodb: Any, name: str) -> None:
    """The template's table, as far as an emulator has it."""
    properties = template.properties("Table")
    indexes = [
        {key: index[key] for key in ("IndexName", "KeySchema", "Projection")}
        for index in properties["GlobalSecondaryIndexes"]
    ]
    dynamodb.create_table(
        TableName=name,
        AttributeDefinitions=properties["AttributeDefinitions"],
        KeySchema=properties["KeySchema"],
        GlobalSecondaryIndexes=indexes,
        BillingMode=properties["BillingMode"],
    )
