"""POST /orders the usual way: Powertools' router and parser, boto3's SQS."""

import os
import uuid
from typing import Any, cast

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.utilities.parser import ValidationError, parse
from aws_lambda_powertools.utilities.typing import LambdaContext

from benchmarks.usual_way.model import Order

logger = Logger(service="orders")
app = APIGatewayHttpResolver()
sqs = boto3.client("sqs")


@app.post("/orders")
def create_order() -> Response[str] | tuple[dict[str, str], int]:
    try:
        order = parse(event=cast("dict[str, Any]", app.current_event.body), model=Order)  # it takes JSON text as well
    except ValidationError as error:
        return Response(422, "application/json", error.json())
    order_id = str(uuid.uuid4())
    sqs.send_message(
        QueueUrl=os.environ["QUEUE_URL"],
        MessageBody=order.model_dump_json(),
        MessageAttributes={"id": {"DataType": "String", "StringValue": order_id}},
    )
    logger.info("Accepted an order", order_id=order_id)
    return {"id": order_id}, 202


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)
