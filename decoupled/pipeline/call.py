"""What a request says, whoever took it in. Our own gateway makes a Call of what it has parsed; on AWS it is made here,
of API Gateway's event (payload format 2.0), and the answer is given back in that form. Pure."""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypedDict, TypeVar

import msgspec

from decoupled.core import stack_limits
from decoupled.core.problem import Problem, Response
from decoupled.core.workload import ANONYMOUS, Unavailable

Connected = TypeVar("Connected")

Event = Mapping[str, Any]
"""A request as an API Gateway HTTP API hands it to Lambda, payload format 2.0."""


class EventResponse(TypedDict):
    """The answer to an event, likewise."""

    statusCode: int
    headers: dict[str, str]
    body: str


class Call(msgspec.Struct, frozen=True):
    """A request of one of the routes."""

    path: Sequence[str]  # the workload, and an id, or a collection and a key; percent-encoding undone
    query: str  # as it came
    headers: Mapping[str, str]  # names in lower case, repeated ones joined by commas; without cookies
    body: bytes | bytearray  # as it came
    caller: str = ANONYMOUS  # who sends
    operator: bool = False  # the caller sees what is others', too
    event: str = ""  # what the caller calls it, where that is known to be the same whenever it is sent again

    @property
    def sees_all(self) -> bool:
        """Whether records and items are shown to whoever sends this, whosever they are: to operators; and to everybody
        where nobody has to say who they are, since there are no others."""
        return self.operator or self.caller == ANONYMOUS


def answered(event: Event, answer: Callable[[Call], Response], operators: Collection[str] = ()) -> EventResponse:
    """What `answer` says to the event's call. A Problem that it raises is an answer, too."""
    try:
        response = answer(call_of(event, operators))
    except Problem as problem:
        response = problem.response()
    return given_back(response)


def connected(connect: Callable[[], Connected], answer: Callable[[Connected], EventResponse]) -> EventResponse:
    """What `answer` says with what it needs; 503 where that cannot be had yet, as in a function that has just started.
    Nothing has been accepted then."""
    try:
        found = connect()
    except Unavailable:  # the log says why
        detail = "This has just started, and cannot answer yet."
        return given_back(Problem(503, detail, resend="safe", retry_after_s=stack_limits.STARTING_RETRY_S).response())
    return answer(found)


def given_back(response: Response) -> EventResponse:
    """An answer as API Gateway takes it."""
    return {"statusCode": response.status, "headers": response.headers, "body": response.body.decode()}


def call_of(event: Event, operators: Collection[str] = ()) -> Call:
    """The event as a call; `operators` are callers. Raises Problem 400 for a body that is not the base64 it says it
    is."""
    named: Mapping[str, str] = event.get("pathParameters") or {}
    caller = _caller(event)
    return Call(
        [named[name] for name in _IN_ORDER if name in named],
        event.get("rawQueryString") or "",
        event.get("headers") or {},
        _body(event),
        caller,
        caller in operators,
    )


_IN_ORDER = ("workload", "id", "collection", "key")


def _body(event: Event) -> bytes:
    text: str = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return text.encode("utf-8", "surrogatepass")  # an unpaired surrogate fails in decoding, with its own answer
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise Problem(400, f"The body is not base64: {error}.") from error


def jwt_caller(claims: Mapping[str, str]) -> str:
    """Whose token has these claims."""
    return f"jwt:{claims.get('iss', '')}#{claims.get('sub', '')}"


def _caller(event: Event) -> str:
    """A JWT's issuer and subject, or an IAM principal (its sessions are one caller); else anonymous."""
    authorizer = (event.get("requestContext") or {}).get("authorizer") or {}
    if jwt := authorizer.get("jwt"):
        return jwt_caller(jwt["claims"])
    if iam := authorizer.get("iam"):
        return f"iam:{iam.get('accountId', '')}:{str(iam.get('userId', '')).partition(':')[0]}"
    return ANONYMOUS
