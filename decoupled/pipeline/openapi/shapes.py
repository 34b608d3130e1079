"""What clients are answered, as schemas: for the document that describes the API, and for nothing else. The answers
themselves are made where they are decided; tests hold them to these."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from decoupled.core import limits
from decoupled.core.identifiers import PATTERN

_AN_ID = "01a21460b1680002467e305b70eca7262"
Id = Annotated[
    str, Meta(pattern=rf"^{PATTERN}\Z", description="Opaque, and safe in a URL as it is.", examples=[_AN_ID])
]
Index = Annotated[int, Meta(ge=0, lt=limits.MAX_BATCH_ENTRIES, description="Its place in the array that was sent.")]
StatusUrl = Annotated[
    str, Meta(description="Where GET says what became of it; a path of this server.", examples=[f"/orders/{_AN_ID}"])
]

Plain = Annotated[dict[str, Any], Meta(extra_json_schema={"additionalProperties": True})]  # whatever the workload says


class Accepted(Struct, frozen=True):
    """The entry is durable: it will be processed, whatever happens."""

    id: Id
    status_url: StatusUrl


class AcceptedEntry(Struct, frozen=True):
    """One of a batch that is durable."""

    index: Index
    id: Id
    status_url: StatusUrl


class Fault(Struct, frozen=True):
    """One field that is wrong."""

    pointer: Annotated[
        str, Meta(description="The field, as a JSON pointer into the entry.", examples=["#/lines/0/quantity"])
    ]
    detail: Annotated[str, Meta(examples=["Expected `int` >= 1"])]


class Problem(Struct, frozen=True, kw_only=True):
    """Why something is refused, as RFC 9457 problem details. Nothing was accepted, unless `resend` says otherwise."""

    type: Annotated[str, Meta(examples=["about:blank"])]
    title: Annotated[str, Meta(examples=["Unprocessable Entity"])]
    status: Annotated[int, Meta(ge=400, le=599, examples=[422])]
    detail: Annotated[str, Meta(examples=["1 fault(s) in the entry."])]
    errors: Annotated[list[Fault], Meta(description="Every field that is wrong, up to a limit.")] | UnsetType = UNSET
    resend: (
        Annotated[
            Literal["safe", "with_idempotency_key"],
            Meta(
                description="What sending the same again would do: `safe`; or `with_idempotency_key`, since it may have"
                " been accepted, so that only the same key makes it safe. Without this, it would be refused again."
            ),
        ]
        | UnsetType
    ) = UNSET


class RejectedEntry(Problem, frozen=True, kw_only=True):
    """One of a batch that is refused, and why. The others are not affected."""

    index: Index


class Batch(Struct, frozen=True):
    """What became of each entry of an array."""

    accepted: list[AcceptedEntry]
    rejected: list[RejectedEntry]


class Seen(Struct, frozen=True, kw_only=True):
    """What every record says."""

    id: Id
    workload: str


class Recorded(Seen, frozen=True, kw_only=True):
    """What every record says that a table keeps."""

    accepted_at: datetime


Attempts = Annotated[int, Meta(ge=1, description="Failures so far that were its own fault.")] | UnsetType


class Queued(Seen, frozen=True, kw_only=True, tag_field="status", tag="queued"):
    """Waits to be processed, or is being processed now."""

    accepted_at: (
        Annotated[datetime, Meta(description="On AWS not always known, until it was tried for the first time.")]
        | UnsetType
    ) = UNSET
    attempts: Attempts = UNSET
    due_at: Annotated[datetime, Meta(description="It is not processed before this time.")] | UnsetType = UNSET


class Processed(Recorded, frozen=True, kw_only=True, tag_field="status", tag="processed"):
    """All of its effects are stored, once."""

    result: Plain
    processed_at: datetime


class Rejected(Recorded, frozen=True, kw_only=True, tag_field="status", tag="rejected"):
    """A rule said no; nothing of it was applied."""

    reason: str
    rejected_at: datetime


class Dead(Recorded, frozen=True, kw_only=True, tag_field="status", tag="dead"):
    """It failed too often, and is kept until a person decides."""

    attempts: Attempts = UNSET
    dead_at: datetime


Record = Queued | Processed | Rejected | Dead


class ListedItem(Struct, frozen=True):
    """One item of a collection."""

    key: str
    item: Plain


class Listing(Struct, frozen=True):
    """A page of a collection, in the order of the keys."""

    items: list[ListedItem]
    next: Annotated[str, Meta(description="The path of the page that follows, if there is one.")] | UnsetType = UNSET


class Health(Struct, frozen=True):
    """How the server is. More members tell of its processes and breakers."""

    status: Annotated[
        Literal["ok", "degraded", "unavailable"],
        Meta(description="`degraded`: something is wrong, and requests are accepted; `unavailable`: they are not."),
    ]
    detail: str | None


class GatewayRefusal(Struct, frozen=True):
    """What API Gateway itself answers: nothing was accepted."""

    message: str
