"""The events that the functions are invoked with, the same for us and for the usual way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.lambda_costs import BATCHES

ORDER = {
    "customer": {"email": "ana@example.com", "name": "Ana Ruiz"},
    "currency": "EUR",
    "lines": [{"sku": f"KB-10{n}", "quantity": 2, "unit_price": "39.90"} for n in range(3)],
    "shipping_address": {"line1": "1 Main Street", "city": "Dublin", "postal_code": "D01 F5P2", "country": "IE"},
}


def write_events(work: Path) -> dict[str, Path]:
    """Each function's event in a file; the processor's by the size of the batch as well: `processor of 2`."""
    names = ("id", "workload", "caller", "accepted_at")
    record = {
        "receiptHandle": "receipt",
        "body": json.dumps(ORDER),
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1795430130123"},
        "messageAttributes": {
            name: {"stringValue": value, "dataType": "String"}
            for name, value in zip(names, ("", "orders", "iam:123456789012:AROAEXAMPLE", "1795430130123"), strict=True)
        },
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:queue",
        "awsRegion": "us-east-1",
    }
    records = []
    for number in range(max(BATCHES)):
        one = json.loads(json.dumps(record))
        one |= {"messageId": f"message-{number}", "receiptHandle": f"receipt-{number}"}
        one["messageAttributes"]["id"]["stringValue"] = f"01a2073956c9000a3ceccc8424a3255{number}"
        records.append(one)
    events = {
        "receiver": http_event("POST", "/orders", {"workload": "orders"}, json.dumps(ORDER)),
        "status": http_event("GET", "/orders/some-id", {"workload": "orders", "id": "some-id"}, None),
        "processor": {"Records": records},
        **{f"processor of {batch}": {"Records": records[:batch]} for batch in BATCHES},
    }
    paths = {}
    for name, event in events.items():
        paths[name] = work / f"{name}.json"
        paths[name].write_text(json.dumps(event))
    return paths


def http_event(method: str, path: str, parameters: dict[str, str], body: str | None) -> dict[str, Any]:
    """An HTTP API's event, payload format 2.0."""
    http = {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "curl"}
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": f"{method} {path}",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"content-type": "application/json", "host": "api"},
        "pathParameters": parameters,
        "requestContext": {"http": http, "stage": "$default", "requestId": "r", "timeEpoch": 1795430130123},
        "isBase64Encoded": False,
    }
    return event if body is None else event | {"body": body}
