"""The parts of the OpenAPI document about hearing of ends: the wait that a client prefers, and streams of events.
Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from decoupled.core import limits
from decoupled.core.status import STATUSES
from decoupled.pipeline.events import MEDIA_TYPE

Part = dict[str, Any]


def streams(workload: str, refused: Part) -> Iterator[tuple[str, str, Part]]:
    """The operations of a workload, each with its method and its path; `refused` is what any read may be answered."""
    yield (
        "get",
        f"/{workload}/{{id}}/events",
        {
            "operationId": f"events_{workload}",
            "tags": [workload],
            "summary": "Events of an entry",
            "description": "The record as it is, and as it has ended; with that, the stream ends. An EventSource that"
            " comes again is told by `204` that there is nothing more to come.",
            "parameters": _parameters("Id", "LastEventId"),
            "responses": {
                "200": _response("Events"),
                "204": _response("NoMoreEvents"),
                "406": _response("read-406"),
                **refused,
            },
        },
    )
    yield (
        "get",
        f"/{workload}",
        {
            "operationId": f"stream_{workload}",
            "tags": [workload],
            "summary": "Events of all that the caller sends",
            "description": f"Each entry of the caller that has ended. Only for those who name `{MEDIA_TYPE}` in Accept."
            " With Last-Event-ID it goes on exactly behind that event, without it from now on.",
            "parameters": _parameters("LastEventId"),
            "responses": {
                "200": _response("Events"),
                "400": _response("read-400"),
                "406": _response("read-406"),
                **refused,
            },
        },
    )


def _parameters(*names: str) -> list[Part]:
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def _response(name: str) -> Part:
    return {"$ref": f"#/components/responses/{name}"}


def responses(record: Part) -> Part:
    """By their names; `record` refers to its schema. That of a stream is the schema of each event, as tools take it."""
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": record}
    event: Part = {
        "type": "object",
        "properties": {
            "id": {"type": "string", "description": "For Last-Event-ID."},
            "event": {"enum": list(STATUSES), "type": "string"},
            "data": {**data, "description": "The record, as GET shows it."},
            "retry": {"type": "integer", "description": "Milliseconds after which to come again."},
        },
        "required": ["id"],
    }
    return {
        "Events": {
            "description": "Events, each with the record as its data, and its status as its type.",
            "content": {MEDIA_TYPE: {"schema": event}},
        },
        "NoMoreEvents": {"description": "The end was the last event."},
    }


PARAMETERS: Part = {
    "Prefer": {
        "name": "Prefer",
        "in": "header",
        "description": f"`wait=N` (RFC 7240): answer when the entry has ended, with its record, or after N seconds as"
        f" without; at most {limits.MAX_WAIT_S}, or what Preference-Applied says. Does nothing for an array.",
        "schema": {"type": "string", "examples": ["wait=10"]},
    },
    "LastEventId": {
        "name": "Last-Event-ID",
        "in": "header",
        "description": "The id of the last event that was heard of.",
        "schema": {"type": "string"},
    },
}

HEADERS: Part = {
    "Preference-Applied": {
        "description": "`wait=N`: the server has waited, or would have.",
        "schema": {"type": "string", "pattern": "^wait=[0-9]+$"},
    },
}
