"""What each side deploys its functions with, as far as it costs: memory, Lambda's own log lines, the access log. Ours
is read from the template; the usual way's is what Lambda, and AWS's documents, come with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from decoupled.core import limits
from tests.support import template

# Lambda's own lines of an invocation, unless LoggingConfig says JSON and a SystemLogLevel above INFO.
_REQUEST = "79b4f56e-95b1-4643-9700-2807f4e68189"
PLATFORM_LINES = (
    f"START RequestId: {_REQUEST} Version: $LATEST",
    f"END RequestId: {_REQUEST}",
    f"REPORT RequestId: {_REQUEST}\tDuration: 12.34 ms\tBilled Duration: 13 ms\t"
    "Memory Size: 512 MB\tMax Memory Used: 91 MB\t",
)
# The JSON format of AWS's page on the access log of an HTTP API:
# https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-logging.html
USUAL_ACCESS_LOG = (
    '{ "requestId":"$context.requestId", "ip": "$context.identity.sourceIp", "requestTime":"$context.requestTime", '
    '"httpMethod":"$context.httpMethod","routeKey":"$context.routeKey", "status":"$context.status",'
    '"protocol":"$context.protocol", "responseLength":"$context.responseLength" }'
)
_ID = "01a2073956c9000a3ceccc8424a32558d.GQ3TQNBRGQ3TQNBR"
CONTEXT = {  # of a request that is answered well, by a caller with IAM
    "requestId": "JKJaXmPLvHcESHA=",
    "extendedRequestId": "JKJaXmPLvHcESHA=",
    "identity.sourceIp": "192.0.2.123",
    "identity.userArn": "arn:aws:sts::123456789012:assumed-role/shop-checkout/i-0a1b2c3d4e5f67890",
    "requestTime": "23/Nov/2026:10:15:30 +0000",
    "requestTimeEpoch": "1795430130",
    "protocol": "HTTP/1.1",
    "status": "202",
    "responseLength": "120",
    "responseLatency": "24",
    "integrationLatency": "21",
}
REQUESTS = (
    {"httpMethod": "POST", "routeKey": "POST /{workload}", "path": "/orders"},
    {"httpMethod": "GET", "routeKey": "GET /{workload}/{id}", "path": f"/orders/{_ID}"},
)


def ours() -> dict[str, Any]:
    """From the template's defaults."""
    functions = {name.lower(): template.properties(name) for name in ("Receiver", "Processor", "Status")}
    levels = {function["LoggingConfig"]["SystemLogLevel"] for function in functions.values()}
    (access_log,) = _formats(template.properties("Stage"))
    return {
        "memory_mb": {name: int(_value(function["MemorySize"])) for name, function in functions.items()},
        "at_once": limits.AWS_CONCURRENCY,
        "lambda_bytes": 0 if levels == {"WARN"} else platform_bytes(),
        "access_bytes": access_bytes(access_log),
        "fair": True,
    }


def usual() -> dict[str, Any]:
    """With as much memory as ours, which is no merit of either."""
    return {
        "memory_mb": ours()["memory_mb"],
        "at_once": 1,
        "lambda_bytes": platform_bytes(),
        "access_bytes": access_bytes(USUAL_ACCESS_LOG),
        "fair": False,
    }


def platform_bytes() -> int:
    return sum(map(len, PLATFORM_LINES))


def access_bytes(log_format: str) -> int:
    """Of a POST and a GET. A value that a request does not have is a dash."""
    return sum(len(_line(log_format, CONTEXT | request)) for request in REQUESTS)


def _line(log_format: str, context: Mapping[str, str]) -> str:
    return re.sub(r"\$context\.([A-Za-z.]+)", lambda match: context.get(match[1], "-"), log_format)


def _value(property_: Any) -> Any:
    return template.defaults()[property_["Ref"]] if isinstance(property_, dict) else property_


def _formats(node: Any) -> Iterator[str]:
    """The access log's format, wherever conditions put it."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "Format" and isinstance(value, str):
                yield value
            else:
                yield from _formats(value)
    elif isinstance(node, list):
        for value in node:
            yield from _formats(value)
