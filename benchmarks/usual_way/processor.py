"""Orders from SQS to DynamoDB the usual way: Powertools' batch processor, parser and idempotency, boto3's table."""

import json
import os
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)
from aws_lambda_powertools.utilities.parser import parse
from aws_lambda_powertools.utilities.typing import LambdaContext

from benchmarks.usual_way.model import Order

logger = Logger(service="orders")
processor = BatchProcessor(event_type=EventType.SQS)
persistence = DynamoDBPersistenceLayer(table_name=os.environ["IDEMPOTENCY_TABLE"])
config = IdempotencyConfig(event_key_jmespath="id")
table = boto3.resource("dynamodb").Table(os.environ["TABLE_NAME"])


@idempotent_function(data_keyword_argument="message", config=config, persistence_store=persistence)  # type: ignore[untyped-decorator]  # so it comes
def store(message: dict[str, Any]) -> dict[str, Any]:
    order = parse(event=message["body"], model=Order)
    item = {
        "pk": message["id"],
        "state": "confirmed",
        "total": str(order.sum()),
        "items": sum(line.quantity for line in order.lines),
        **order.model_dump(exclude={"total"}),
    }
    table.put_item(Item=item)
    logger.info("Stored an order", order_id=message["id"])
    return {"id": message["id"], "total": item["total"]}


def record_handler(record: SQSRecord) -> None:
    attribute = record.message_attributes["id"]
    assert attribute is not None  # noqa: S101  the receiver sends it
    store(message={"id": attribute.string_value, "body": json.loads(record.body)})


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> Any:
    config.register_lambda_context(context)
    return process_partial_response(event=event, record_handler=record_handler, processor=processor, context=context)
