"""What a client that names a Callback-Url is told, as the OpenAPI document says it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from decoupled.core import callbacks, limits
from decoupled.core.workload import Workloads

Part = dict[str, Any]


def describe(document: Part, workloads: Workloads, records: Sequence[Part]) -> None:
    """Add it to a document, to whatever is sent, where callbacks are delivered. `records` refer to the schemas of what
    is processed and of what is rejected."""
    deliverer = workloads.get(callbacks.WORKLOAD)
    if deliverer is None or deliverer.check_callback is None:
        return
    components = document["components"]
    components["parameters"] = {**components["parameters"], "CallbackUrl": _PARAMETER}
    components["callbacks"] = {"final": {"{$request.header.Callback-Url}": {"post": _told(records)}}}
    for path, operations in document["paths"].items():
        if "post" in operations and path != f"/{callbacks.WORKLOAD}":
            operations["post"]["parameters"].append({"$ref": "#/components/parameters/CallbackUrl"})
            operations["post"]["callbacks"] = {"final": {"$ref": "#/components/callbacks/final"}}


_PARAMETER: Part = {
    "name": "Callback-Url",
    "in": "header",
    "description": "Where the record is sent to when the entry is processed or rejected; for an array, that of each.",
    "schema": {
        "type": "string",
        "pattern": "^https://",
        "maxLength": limits.MAX_CALLBACK_BYTES,
        "examples": ["https://shop.example/hooks"],
    },
}


def _told(records: Sequence[Part]) -> Part:
    headers = ("webhook-id", "webhook-timestamp", "webhook-signature")
    return {
        "summary": "What became of the entry, signed as Standard Webhooks asks",
        "description": "Whoever does not answer with 2xx is told again under the same `webhook-id`, for three days."
        " 3xx and 4xx, but for 408 and 429, mean that it is not wanted.",
        "security": [],
        "parameters": [{"name": name, "in": "header", "required": True, "schema": _TEXT} for name in headers],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["type", "timestamp", "data"],
                        "properties": {
                            "type": {"type": "string", "examples": ["orders.processed", "orders.rejected"]},
                            "timestamp": {"type": "string", "format": "date-time"},
                            "data": {"anyOf": [*records, _POINTER]},
                        },
                    }
                }
            },
        },
        "responses": {"2XX": {"description": "It has heard."}},
    }


_TEXT: Part = {"type": "string"}
_POINTER: Part = {
    "type": "object",
    "description": "Instead of a record that is too large to be sent.",
    "required": ["id", "workload", "status", "status_url"],
    "properties": dict.fromkeys(("id", "workload", "status_url"), _TEXT)
    | {"status": {"type": "string", "enum": ["processed", "rejected"]}},
}
