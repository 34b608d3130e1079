"""The engines that the contract suite runs on: SQS and DynamoDB in the test process (moto), the same over real HTTP
(MiniStack), and SQLite. The AWS resources are made from the template's own properties. For tests only."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

import botocore.validate
import moto

from decoupled.aws import client as aws
from decoupled.aws.dynamodb import DynamoTable
from decoupled.aws.sqs import SqsQueue
from decoupled.embedded.database import Database
from decoupled.embedded.queue import SqliteQueue
from decoupled.embedded.table import SqliteTable
from decoupled.engine import Queue, Table
from decoupled.workload import Message
from tests import ministack, template

NAMES = ("moto", "ministack", "embedded")
_numbers = itertools.count(1)
_moto = threading.RLock()  # re-entrant: a test's fault may call inside a call

Calls = list[tuple[str, str, dict[str, Any]]]  # service, operation, parameters


class Engine(Protocol):
    """A queue and a table, and what a test may ask beyond the protocols."""

    name: str
    queue: Queue
    table: Table

    def dead_letters(self) -> list[Message] | None:
        """What the dead-letter queue holds; None where the dead record is the dead letter."""
        ...


@dataclass
class AwsEngine:
    """`calls` are those made of AWS, each checked against its service's model before it is sent."""

    name: str
    queue: SqsQueue
    table: DynamoTable
    sqs: Any
    dynamodb: Any
    calls: Calls
    queue_url: str
    dead_letter_queue_url: str
    table_name: str

    def dead_letters(self) -> list[Message] | None:
        """What the dead-letter queue holds; None where the dead record is the dead letter."""
        dead_letter_queue = SqsQueue(self.sqs, self.dead_letter_queue_url, "", receive_wait_s=0)
        return [delivery.message for delivery in dead_letter_queue.receive(10, 0)]

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

    queue: SqliteQueue
    table: SqliteTable
    name: str = "embedded"

    def dead_letters(self) -> list[Message] | None:
        """What the dead-letter queue holds; None where the dead record is the dead letter."""
        return None


def embedded(directory: Path) -> EmbeddedEngine:
    """A new SQLite engine in a directory."""
    database = Database(directory / "decoupled.sqlite3")
    return EmbeddedEngine(SqliteQueue(database), SqliteTable(database))


def in_process() -> Iterator[Callable[[], AwsEngine]]:
    """AWS engines on moto, each with queues and a table of its own."""
    with mock.patch.dict(os.environ, ministack.CREDENTIALS), moto.mock_aws():
        yield _engines("moto")


def over_http(endpoint: str) -> Iterator[Callable[[], AwsEngine]]:
    """AWS engines on MiniStack, each with queues and a table of its own."""
    with mock.patch.dict(os.environ, {**ministack.CREDENTIALS, "AWS_ENDPOINT_URL": endpoint}):
        yield _engines("ministack")


def _engines(name: str) -> Callable[[], AwsEngine]:
    calls: Calls = []
    sqs, dynamodb = aws.client("sqs"), aws.client("dynamodb")
    for client in (sqs, dynamodb):
        record_calls(client, calls)
        if name == "moto":
            one_call_at_a_time(client)

    def make() -> AwsEngine:
        number = next(_numbers)
        queue_url = sqs.create_queue(QueueName=f"queue-{number}", Attributes={"VisibilityTimeout": "180"})["QueueUrl"]
        dead_letter_queue_url = sqs.create_queue(QueueName=f"dead-{number}")["QueueUrl"]
        table_name = f"table-{number}"
        create_table(dynamodb, table_name)
        calls.clear()
        return AwsEngine(
            name=name,
            queue=SqsQueue(sqs, queue_url, dead_letter_queue_url, receive_wait_s=0),
            table=DynamoTable(dynamodb, table_name),
            sqs=sqs,
            dynamodb=dynamodb,
            calls=calls,
            queue_url=queue_url,
            dead_letter_queue_url=dead_letter_queue_url,
            table_name=table_name,
        )

    return make


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
