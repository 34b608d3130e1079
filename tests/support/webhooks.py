"""Webhooks as others sign them: by the libraries of Standard Webhooks and Stripe, and as GitHub documents it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime

import standardwebhooks
import stripe

STANDARD, STRIPE = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_4e1f9a2c7b3d5e6f8a9b0c1d2e3f4a5b"
GITHUB = "It's a Secret to Everybody"
SECRETS = {"standard": STANDARD, "stripe": STRIPE, "github": GITHUB}
OTHERS = {
    "standard": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
    "stripe": "whsec_00000000000000000000000000000000",
    "github": "somebody else's secret",
}

Headers = dict[str, str]
Sign = Callable[[str, str, int, str], Headers]
"""From a secret, an event's id, the time in seconds and a body to the headers of its request."""


def standard(secret: str, event: str, at_s: int, body: str) -> Headers:
    signature = standardwebhooks.Webhook(secret).sign(event, datetime.fromtimestamp(at_s, UTC), body)
    return {"webhook-id": event, "webhook-timestamp": str(at_s), "webhook-signature": signature}


def by_stripe(secret: str, _event: str, at_s: int, body: str) -> Headers:
    """The event's id stands in its body."""
    header: str = stripe.WebhookSignature.generate_signature_header(body, secret, at_s)
    return {"stripe-signature": header}


def github(secret: str, event: str, _at_s: int, body: str) -> Headers:
    signature = hmac.new(secret.encode(), body.encode(), hashlib.sha256).hexdigest()
    return {"x-hub-signature-256": f"sha256={signature}", "x-github-delivery": event, "x-github-event": "push"}


SIGN: dict[str, Sign] = {"standard": standard, "stripe": by_stripe, "github": github}
