"""HTTP answers: JSON, and RFC 9457 problem details. Pure; what to answer is decided by the pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec


class Response(msgspec.Struct, frozen=True):
    """An answer. The headers of its framing are not among these."""

    status: int
    headers: dict[str, str]
    body: bytes


class Problem(Exception):  # noqa: N818  named as in RFC 9457
    """A request that is refused, as RFC 9457 problem details.

    `errors` names bad fields, each `{"pointer": "#/lines/0/quantity", "detail": "..."}`. `resend` says what sending the
    request again would do: "safe" (nothing was accepted), "with_idempotency_key" (it may have been accepted; only the
    same key makes a resend safe), or None (it would be refused again). `headers` say what would be taken instead, as
    `allow` does with a 405."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        resend: str | None = None,
        retry_after_s: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.resend = resend
        self.retry_after_s = retry_after_s
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        """The members of the problem object."""
        members: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            members["errors"] = self.errors
        if self.resend is not None:
            members["resend"] = self.resend
        return members

    def response(self) -> Response:
        """The problem as an answer."""
        headers = {"content-type": "application/problem+json", **self.headers}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(self.retry_after_s)
        return Response(self.status, headers, msgspec.json.encode(self.body()))


def answer(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer. Decimals become JSON numbers, digit by digit."""
    return Response(status, {"content-type": "application/json", **(headers or {})}, _json.encode(body))


_json = msgspec.json.Encoder(decimal_format="number")
