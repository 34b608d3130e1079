"""Events as AWS sends them: an HTTP API's payload format 2.0, and SQS's batches to Lambda. Only what tests vary is a
parameter; everything else stands here as it comes from AWS."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from decoupled.core import traces
from decoupled.core.times import now_ms
from decoupled.core.workload import Message, Workloads
from decoupled.engines.aws.sqs_format import SqsEvent, batch_item_failures, deliveries, group_id
from decoupled.engines.protocols import Producer, Queue, Table
from decoupled.pipeline import receiver, status
from decoupled.pipeline.call import Event, EventResponse, answered
from decoupled.pipeline.processor import process
from decoupled.pipeline.runs import Runs
from decoupled.pipeline.settlement import Policy

ORDER: dict[str, Any] = {
    "customer": {"email": "ana@example.com", "name": "Ana Ruiz"},
    "currency": "EUR",
    "lines": [{"sku": "KB-104", "quantity": 2, "unit_price": "39.90"}],
    "shipping_address": {"line1": "1 Main Street", "city": "Dublin", "postal_code": "D01 F5P2", "country": "IE"},
}


def http_event(
    method: str,
    path: str,
    path_parameters: Mapping[str, str] | None,
    headers: Mapping[str, str] | None = None,
    body: str | bytes | None = None,
    authorizer: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """As API Gateway builds it: optional keys that have no value are absent; bytes come as base64."""
    route = f"{method} /" + "/".join(f"{{{name}}}" for name in path_parameters or {})
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route,
        "rawPath": path,
        "rawQueryString": "",
        "headers": {
            "host": "abc123.execute-api.eu-west-1.amazonaws.com",
            "user-agent": "curl/7.88.1",
            **(headers or {}),
        },
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "abc123",
            "domainName": "abc123.execute-api.eu-west-1.amazonaws.com",
            "domainPrefix": "abc123",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
                "userAgent": "curl/7.88.1",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": route,
            "stage": "$default",
            "time": "12/Mar/2020:19:03:58 +0000",
            "timeEpoch": 1583348638390,
        },
        "isBase64Encoded": isinstance(body, bytes),
    }
    if path_parameters:
        event["pathParameters"] = dict(path_parameters)
    if authorizer is not None:
        event["requestContext"]["authorizer"] = dict(authorizer)
    if body:
        event["body"] = base64.b64encode(body).decode() if isinstance(body, bytes) else body
    return event


def post(body: Any, *, workload: str = "orders", key: str | None = None, **more: Any) -> dict[str, Any]:
    """A POST of JSON: of a value, or of text or bytes as they are."""
    headers = {"content-type": "application/json", **({} if key is None else {"idempotency-key": key})}
    text = body if isinstance(body, (str, bytes)) else json.dumps(body)
    return http_event("POST", f"/{workload}", {"workload": workload}, headers | more.pop("headers", {}), text, **more)


def get(workload: str, message_id: str, **more: Any) -> dict[str, Any]:
    """A GET of a record."""
    return http_event("GET", f"/{workload}/{message_id}", {"workload": workload, "id": message_id}, **more)


def iam(user_id: str) -> dict[str, Any]:
    """What IAM says of a caller, who may be a session of a role."""
    return {"iam": {"accountId": "123456789012", "userId": user_id, "userArn": "arn:aws:iam::123456789012:x"}}


def jwt(subject: str) -> dict[str, Any]:
    """What a JWT authorizer says."""
    return {"jwt": {"claims": {"iss": "https://issuer.example", "sub": subject}, "scopes": None}}


def receive_event(event: Event, queue: Producer, workloads: Workloads) -> EventResponse:
    """What functions/receiver.py does with an event, with another engine than its environment's."""
    return answered(event, lambda call: receiver.receive(call, queue, workloads))


def read_event(event: Event, table: Table, workloads: Workloads) -> EventResponse:
    """What functions/status.py does with an event, likewise."""
    return answered(event, lambda call: status.read(call, table, workloads))


def sqs_record(message: Message, receive_count: int = 1, receipt: str = "") -> dict[str, Any]:
    """A message as the event source mapping hands it over."""
    attributes = {"id": message.id, "workload": message.workload, "accepted_at": str(message.accepted_at)}
    attributes |= {name: text for name in ("caller", "callback", "digest") if (text := getattr(message, name))}
    attributes |= {"hops": str(message.hops)} if message.hops else {}
    attributes |= {"tracestate": state} if (state := traces.state(message.trace)) else {}
    traced = {"AWSTraceHeader": traces.xray(message.trace)} if message.trace else {}
    return {
        "messageId": f"sqs-{message.id}",
        "receiptHandle": receipt or f"receipt-{message.id}-{receive_count}",
        "body": message.body,
        "attributes": {
            "ApproximateReceiveCount": str(receive_count),
            "SentTimestamp": str(message.accepted_at),
            "SenderId": "AROAEXAMPLE:receiver",
            "ApproximateFirstReceiveTimestamp": str(message.accepted_at + 5),
            "MessageGroupId": group_id(message),
            **traced,
        },
        "messageAttributes": {
            name: {"stringValue": value, "stringListValues": [], "binaryListValues": [], "dataType": "String"}
            for name, value in attributes.items()
        },
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:orders",
        "awsRegion": "eu-west-1",
    }


def sqs_event(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A batch."""
    return {"Records": list(records)}


def process_event(
    event: SqsEvent,
    queue: Queue,
    table: Table,
    workloads: Workloads,
    max_attempts: int,
    remaining_s: Callable[[], float],
    clock_ms: Callable[[], int] = now_ms,
    span_s: float = 0.0,
    runs: Runs | None = None,
) -> dict[str, Any]:
    """What functions/processor.py does with a batch, likewise."""
    policy = Policy(max_attempts, clock_ms, span_s=span_s, runs=runs)
    failed = process(deliveries(event), queue, table, workloads, policy, remaining_s)
    return batch_item_failures(event, failed)
