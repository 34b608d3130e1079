"""The API as an OpenAPI 3.1 document, made of the workloads that are served: what may be sent, and all that may be
answered. Pure; `receiver.py` and `status.py` decide what the document tells of."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from decoupled import __version__
from decoupled.core import limits
from decoupled.core.identifiers import PATTERN
from decoupled.core.workload import Workload, Workloads
from decoupled.pipeline.openapi import callbacks, hearing, shapes
from decoupled.pipeline.openapi.json_schema import for_others
from decoupled.pipeline.openapi.security import requirements, schemes

Part = dict[str, Any]
"""An object of the document."""

Shapes = Mapping[Any, Part]
"""What refers to the schema of each of `shapes.py`."""

Refusals = Mapping[str, tuple[str, ...]]
"""The statuses of what is refused, by what is asked: to `send`, or to `read`."""


def document(workloads: Workloads, url: str | None = None, aws: str | None = None, auth: Collection[str] = ()) -> Part:
    """The document of these workloads, without those that are internal.

    `url`: where the API is; if that is not said, it is where the document came from. `aws`: it is behind API Gateway,
    and this is the template's Authorization: NONE, AWS_IAM or JWT. `auth`: the kinds of proof that our own server
    takes, as its option has them."""
    shown = [workload for workload in workloads.values() if not workload.internal]
    ours = [*_SHAPES, shapes.Health if aws is None else shapes.GatewayRefusal]
    schemas, named = msgspec.json.schema_components(
        [*ours, *map(_describable, shown)], ref_template="#/components/schemas/{name}"
    )
    schemas = for_others(schemas)
    known = dict(zip(ours, schemas, strict=False))
    refused = _REFUSED_ON_AWS if aws is not None else _REFUSED_WITH_PROOF if auth else _REFUSED
    paths: dict[str, Part] = {}
    for workload, entry in zip(shown, schemas[len(ours) :], strict=True):
        streams = () if aws is not None else hearing.streams(workload.name, _refusals("read", refused))
        for method, path, operation in (*_operations(workload, entry, refused), *streams):
            paths.setdefault(path, {})[method] = operation
    if aws is None:
        paths["/health"] = {"get": {**_health(known), "security": []}}
    callers, senders = schemes(auth, aws)
    for operations in paths.values() if senders else ():
        if "post" in operations:
            operations["post"]["security"] = requirements([*callers, *senders])
    made = {
        "openapi": "3.1.0",
        "info": {"title": "decoupled", "version": __version__, "description": _ABOUT},
        "servers": [{"url": url or "/"}],
        "security": requirements(callers or senders),  # who only sends is refused the rest
        "tags": [{"name": workload.name} for workload in shown],
        "paths": paths,
        "components": {
            "schemas": {name: for_others(schema) for name, schema in named.items()},
            "parameters": _PARAMETERS | hearing.PARAMETERS,
            "headers": _HEADERS | hearing.HEADERS,
            "responses": dict(_responses(known)),
            "securitySchemes": callers | senders,
        },
    }
    callbacks.describe(made, workloads, [known[shapes.Processed], known[shapes.Rejected]])
    return made


def _describable(workload: Workload) -> Any:
    """Its schema, or any object where that has what JSON Schema cannot say: to be served, it need not be described."""
    try:
        msgspec.json.schema(workload.schema)
    except (TypeError, ValueError) as error:
        return Annotated[dict[str, Any], Meta(description=f"Its schema cannot be told: {error}")]
    return workload.schema


_SHAPES = (
    *(shapes.Accepted, shapes.Batch, shapes.Problem, shapes.Record, shapes.Listing),
    *(shapes.Processed, shapes.Rejected),
)

_ABOUT = f"""Requests that are never lost. A `202` means that the entry is durable; what became of it, `GET` of its
`status_url` says. Every other answer means that nothing was accepted, says why, and says in `resend` whether sending
the same again is safe.

A request has {limits.MAX_REQUEST_BYTES // limits.MIB} MiB at most, an entry {limits.MAX_ENTRY_BYTES // limits.KIB} KiB.
What is wrong in view of other fields stands in no schema: a `422` tells."""


# --- routes -------------------------------------------------------------------

# What may be refused, by what is asked; `default` is whatever else there is.
_REFUSED: Refusals = {
    "send": ("400", "413", "415", "422", "429", "500", "503", "default"),
    "read": ("404", "410", "500", "503", "default"),
}
_REFUSED_WITH_PROOF = {kind: (*statuses, "401", "403") for kind, statuses in _REFUSED.items()}
_REFUSED_ON_AWS = _REFUSED_WITH_PROOF | {"read": (*_REFUSED_WITH_PROOF["read"], "422", "429")}


def _operations(workload: Workload, entry: Part, refused: Refusals) -> Iterator[tuple[str, str, Part]]:
    """Each with its method and its path."""
    name = workload.name
    yield "post", f"/{name}", _send(workload, entry, refused)
    yield "get", f"/{name}/{{id}}", _get(name, f"get_{name}", "What became of it", "Record", ("Id", "Prefer"), refused)
    for collection in workload.readable:
        operation, summary = f"get_{name}-{_word(collection)}", f"An item of {collection}"
        yield "get", f"/{name}/{collection}/{{key}}", _get(name, operation, summary, "Item", ("Key",), refused)
    for collection in workload.listed:
        operation, summary = f"list_{name}-{_word(collection)}", f"Items of {collection}"
        listing = _get(name, operation, summary, "Listing", ("Prefix", "Limit", "Cursor"), refused)
        listing["responses"]["400"] = {"$ref": "#/components/responses/read-400"}
        yield "get", f"/{name}/{collection}", listing


def _word(collection: str) -> str:
    """Of an operation's id, which becomes a name in clients. After a hyphen, which no workload's name has."""
    return re.sub(r"\W", "_", collection, flags=re.ASCII)


def _send(workload: Workload, entry: Part, refused: Refusals) -> Part:
    batch = {"type": "array", "items": entry, "minItems": 1, "maxItems": limits.MAX_BATCH_ENTRIES}
    body: Part = {"schema": {"anyOf": [entry, batch]}}
    if workload.example is not None:
        example = msgspec.to_builtins(workload.example)
        body["examples"] = {"one": {"value": example}, "batch": {"value": [example]}}
    return {
        "operationId": f"send_{workload.name}",
        "tags": [workload.name],
        "summary": "Send an entry, or an array of them",
        "description": "Each entry of an array is accepted or rejected on its own.",
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in ("IdempotencyKey", "Delay", "Prefer")],
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": {
            "200": {"$ref": "#/components/responses/Ended"},
            "202": {"$ref": "#/components/responses/Accepted"},
            **_refusals("send", refused),
        },
    }


def _get(tag: str, operation: str, summary: str, found: str, asks: tuple[str, ...], refused: Refusals) -> Part:
    return {
        "operationId": operation,
        "tags": [tag],
        "summary": summary,
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in asks],
        "responses": {"200": {"$ref": f"#/components/responses/{found}"}, **_refusals("read", refused)},
    }


def _refusals(kind: str, refused: Refusals) -> Part:
    return {status: {"$ref": f"#/components/responses/{kind}-{status}"} for status in refused[kind]}


def _health(known: Shapes) -> Part:
    content = {"application/json": {"schema": known[shapes.Health]}}
    return {
        "operationId": "health",
        "summary": "How the server is",
        "responses": {
            "200": {"description": "Requests are accepted.", "content": content},
            "503": {"description": "Nothing can be accepted, or it is not known.", "content": content},
            "default": {"$ref": "#/components/responses/read-default"},
        },
    }


# --- what they have in common -------------------------------------------------


def _responses(known: Shapes) -> Iterator[tuple[str, Part]]:
    """By the names that operations refer to them with. On AWS, the gateway's own answers have a form of their own."""
    accepted = {"anyOf": [known[shapes.Accepted], known[shapes.Batch]]}
    located = ("Location", "Preference-Applied")
    yield "Accepted", _answer("Durable: all of it, or some entries of an array.", accepted, *located, "Retry-After")
    yield "Ended", _answer("It has ended while the client waited.", known[shapes.Record], *located)
    yield "Record", _answer("What is known of it.", known[shapes.Record], "Retry-After", "Preference-Applied")
    yield from hearing.responses(known[shapes.Record]).items()
    yield "Item", _answer("The item, as it is now.", {"type": "object", "additionalProperties": True})
    yield "Listing", _answer("A page of them.", known[shapes.Listing])
    gateways = [known[shapes.GatewayRefusal]] if shapes.GatewayRefusal in known else []
    for status, (description, *names) in _WHY.items():
        headers = [name for name in names if not (gateways and name in _QUOTA)]
        for kind, others in (("send", [known[shapes.Batch], *gateways]), ("read", gateways)):
            # A problem has a media type of its own; but many clients look at the first one only, whatever they get.
            answer = _answer(description, {"anyOf": [known[shapes.Problem], *others]}, *headers)
            problem = {"application/problem+json": {"schema": known[shapes.Problem]}}
            answer["content"] = (answer["content"] if others else {}) | problem
            yield f"{kind}-{status}", answer


# Of 401 and 403 only those speak who ask for proof, and API Gateway; that knows no caller's quota, and yet says 429.
_QUOTA = ("RateLimit", "RateLimit-Policy")
_WHY = {
    "400": ("Not JSON, or a header or parameter that is none.",),
    "401": ("Not signed in.", "WWW-Authenticate"),
    "403": ("Not allowed.",),
    "404": ("There is nothing here, or not yet.",),
    "406": ("Not what the client takes.",),
    "410": ("It was erased, and is forgotten.",),
    "413": ("Too large.",),
    "415": ("Not JSON as it is: another media type, or a content-encoding.", "Accept", "Accept-Encoding"),
    "422": ("Not what the schema asks for: every bad field is named. Or the key came before, with another entry.",),
    "429": ("Too much for this caller: nothing was accepted.", "Retry-After", *_QUOTA),
    "500": ("An error of ours.",),
    "503": ("Not now: what is behind does not answer, or has too much to do.", "Retry-After"),
    "default": ("Whatever else is wrong with the request.", "Allow", "Retry-After"),
}


def _answer(description: str, schema: Part, *headers: str) -> Part:
    named = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    return {
        "description": description,
        **({"headers": named} if named else {}),
        "content": {"application/json": {"schema": schema}},
    }


_HEADERS: Part = {
    "Accept": {"description": "The media type that is taken.", "schema": {"type": "string"}},
    "Accept-Encoding": {"description": "The encoding that is taken: none.", "schema": {"type": "string"}},
    "Allow": {"description": "With 405: the methods that are taken.", "schema": {"type": "string"}},
    "Location": {"description": "The `status_url` of a single entry.", "schema": {"type": "string"}},
    "RateLimit": {
        "description": "What is left of the quota that is used up, and the seconds until there is more"
        " (draft-ietf-httpapi-ratelimit-headers-11).",
        "schema": {"type": "string", "examples": ['"caller";r=0;t=1']},
    },
    "RateLimit-Policy": {
        "description": "The caller's quotas: `caller` says that it may send `q` messages in `w` seconds, `waiting` that"
        " `q` of its messages may wait.",
        "schema": {"type": "string", "examples": ['"caller";q=100;w=1, "waiting";q=5000']},
    },
    "WWW-Authenticate": {"description": "How to sign in, or what is wrong with a token.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds after which to ask again.", "schema": {"type": "integer", "minimum": 0}},
}

_MOST_KEY = limits.MAX_IDEMPOTENCY_KEY_CHARS
_PARAMETERS: Part = {
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Makes a resend safe: the same caller and key are the same entry, and have one effect. For an"
        " array, it covers every entry by its place. With another entry than before, the answer is 422, where that is"
        " known.",
        "schema": {
            "type": "string",
            "pattern": rf'^(?:"(?:[ !#-\[\]-~]|\\["\\]){{1,{_MOST_KEY}}}"|[!#-+\--~]{{1,{_MOST_KEY}}})$',
            "examples": ['"cart-8417"'],
        },
    },
    "Delay": {
        "name": "Delay",
        "in": "header",
        "description": "Seconds until the entries are processed, at the soonest.",
        "schema": {"type": "integer", "minimum": 0, "maximum": limits.MAX_LATER_S},
    },
    "Id": {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "pattern": f"^{PATTERN}$"}},
    "Key": {"name": "key", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},
    "Prefix": {"name": "prefix", "in": "query", "description": "Of their keys.", "schema": {"type": "string"}},
    "Limit": {
        "name": "limit",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "maximum": limits.MAX_LISTED_ITEMS},
    },
    "Cursor": {
        "name": "cursor",
        "in": "query",
        "description": "As `next` of the page before has it.",
        "schema": {"type": "string"},
    },
}
