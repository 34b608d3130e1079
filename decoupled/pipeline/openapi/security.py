"""How callers prove who they are, as the API's document says it. Plain data; what proves what is for others to see."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

Part = dict[str, Any]

_JWT: Part = {"jwt": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
_SCHEMES: dict[str | None, Part] = {  # by kind of proof, and by the template's Authorization
    "keys": {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
        "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    },
    "jwt": _JWT,
    "JWT": _JWT,
    "AWS_IAM": {
        "sigv4": {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "Signed with AWS Signature Version 4.",
            "x-amazon-apigateway-authtype": "awsSigv4",
        }
    },
}

# OpenAPI knows no signature over a body: the header that it comes in is all that can be said.
_SIGNATURES: Part = {
    name: {"type": "apiKey", "in": "header", "name": header, "description": f"A webhook that {description}"}
    for name, header, description in (
        ("standard_webhook", "webhook-signature", "is signed as Standard Webhooks has it, with its id and timestamp."),
        ("stripe_webhook", "stripe-signature", "Stripe has signed."),
        ("github_webhook", "x-hub-signature-256", "GitHub has signed, with its x-github-delivery."),
    )
}


def schemes(auth: Collection[str], aws: str | None) -> tuple[Part, Part]:
    """The schemes by their names, one of which will do: for whoever calls, and for who sends webhooks and reads
    nothing. `auth`, `aws` as `openapi.document` has them."""
    callers = {name: scheme for kind in [*auth, aws] for name, scheme in _SCHEMES.get(kind, {}).items()}
    return callers, _SIGNATURES if "signatures" in auth else {}


def requirements(known: Collection[str]) -> list[Part]:
    """That one of these schemes has to be met; or none, where there are none."""
    return [{name: []} for name in known]
