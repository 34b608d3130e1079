"""GET /orders/{id} the usual way: Powertools' router, boto3's table."""

import os
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.utilities.typing import LambdaContext

logger = Logger(service="orders")
app = APIGatewayHttpResolver()
table = boto3.resource("dynamodb").Table(os.environ["TABLE_NAME"])


@app.get("/orders/<order_id>")
def get_order(order_id: str) -> dict[str, Any]:
    logger.info("Asked for an order", order_id=order_id)
    found: dict[str, Any] | None = table.get_item(Key={"pk": order_id}).get("Item")
    if found is None:
        raise NotFoundError("no such order")
    return found


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)
