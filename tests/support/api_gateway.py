"""What API Gateway makes of a request: the event of payload format 2.0 that an HTTP API hands to Lambda. The gateway of
one machine builds no event; its calls are held to what this one says."""

from __future__ import annotations

import base64
import itertools
import re
import time
from typing import Any
from urllib.parse import parse_qsl, unquote

from decoupled.server.http.parser import Request

# API Gateway hands over these as text, and everything else as base64.
_TEXT = re.compile(r"(?:text/|application/(?:json|xml|javascript)\s*(?:;|$))")
_PARAMETERS = {1: ("workload",), 2: ("workload", "id"), 3: ("workload", "collection", "key")}
_request_numbers = itertools.count(1)


def to_event(request: Request, now_ms: int = 1583348638390) -> dict[str, Any]:
    """A request of one of our routes as payload format 2.0. Optional keys that have no value are absent, not null."""
    target, _, query = request.target.decode("latin-1").partition("?")
    path, headers = unquote(target), request.headers
    parts = path.split("/")[1:]
    names = _PARAMETERS[len(parts)]
    route = f"{'POST' if len(parts) == 1 else 'GET'} /{'/'.join(f'{{{name}}}' for name in names)}"
    domain = headers.get("host", "")
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route,
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "pathParameters": dict(zip(names, parts, strict=True)),
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "embedded",
            "domainName": domain,
            "domainPrefix": domain.partition(".")[0],
            "http": {
                "method": request.method,
                "path": path,
                "protocol": f"HTTP/{request.version}",
                "sourceIp": request.client,
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": f"{now_ms:x}-{next(_request_numbers):x}",
            "routeKey": route,
            "stage": "$default",
            "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now_ms // 1000)),
            "timeEpoch": now_ms,
        },
        "isBase64Encoded": False,
    }
    if request.body:
        event["body"], event["isBase64Encoded"] = _body_text(request.body, headers.get("content-type", ""))
    if request.cookies:
        event["cookies"] = request.cookies
    if query:
        event["queryStringParameters"] = _joined(parse_qsl(query, keep_blank_values=True))
    return event


def _body_text(body: bytes | bytearray, content_type: str) -> tuple[str, bool]:
    if _TEXT.match(content_type):
        try:
            return body.decode(), False
        except UnicodeDecodeError:
            pass  # not the text it says it is: handed over as bytes, and refused by the receiver
    return base64.b64encode(body).decode(), True


def _joined(pairs: list[tuple[str, str]]) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return {name: ",".join(those) for name, those in values.items()}
