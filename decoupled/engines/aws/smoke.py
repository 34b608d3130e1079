"""Whether deployed functions work: each is invoked once, with what has no effect. So it starts, and loads the
workloads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from decoupled.engines.aws.client import AwsError, detail
from decoupled.engines.aws.stack import tool_client

INVOKE_TIMEOUT_S = 60.0  # a start-up of ten seconds at most, and as long as the function may take for a request
INVOKE_ATTEMPTS = 5  # a throttled one tells nothing of a release: in some 15 s the account has an execution to spare
MAX_TOLD_CHARS = 1_000
NOBODY = "smoke-test"  # no workload, and no id that was ever given out


def failures(functions: Mapping[str, str]) -> list[str]:
    """Invoke functions, each by its name, ARN or qualified ARN, as what it is: `Processor`, `Status` or `Receiver`.
    Returns a line for each that does not work, which says how that shows."""
    return [line for kind, function in functions.items() if kind in _ASKED and (line := _failure(kind, function))]


def missing(functions: Mapping[str, str]) -> list[str]:
    """A line for each of the three that is not among those to invoke: nothing is known of it."""
    return [f"  {kind}: there is no version of it to try" for kind in _ASKED if kind not in functions]


def _failure(kind: str, function: str) -> str | None:
    event, right = _ASKED[kind]
    try:
        answer = tool_client("lambda", INVOKE_TIMEOUT_S, INVOKE_ATTEMPTS).invoke(
            FunctionName=function, Payload=json.dumps(event).encode()
        )
    except AwsError as error:
        return f"  {kind} ({function}): {detail(error)}"
    text = answer["Payload"].read().decode(errors="replace")
    try:
        if "FunctionError" not in answer and right(json.loads(text)):
            return None
    except ValueError:
        pass
    return f"  {kind} ({function}) answers {text[:MAX_TOLD_CHARS]}"


def _request(method: str, route: str, path: str, parameters: Mapping[str, str]) -> Mapping[str, Any]:
    """An event 2.0 of API Gateway's."""
    http = {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "decoupled"}
    return {
        "version": "2.0",
        "routeKey": route,
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"content-type": "application/json"},
        "pathParameters": parameters,
        "requestContext": {"requestId": NOBODY, "routeKey": route, "stage": "$default", "http": http},
        "body": "{}" if method == "POST" else "",
        "isBase64Encoded": False,
    }


def _not_found(answer: Any) -> bool:
    """A problem of ours that says 404: the workloads are loaded, and this one is not among them."""
    return isinstance(answer, dict) and answer.get("statusCode") == 404


_ASKED: Mapping[str, tuple[Mapping[str, Any], Callable[[Any], bool]]] = {
    "Processor": ({"Records": []}, lambda answer: bool(answer == {"batchItemFailures": []})),
    "Status": (
        _request("GET", "GET /{workload}/{id}", f"/{NOBODY}/{NOBODY}", {"workload": NOBODY, "id": NOBODY}),
        _not_found,
    ),
    "Receiver": (_request("POST", "POST /{workload}", f"/{NOBODY}", {"workload": NOBODY}), _not_found),
}
