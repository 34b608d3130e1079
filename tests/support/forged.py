"""Webhooks that nobody has signed whom a server knows by `webhooks.SECRETS`, although they look much like it."""

from __future__ import annotations

import base64
import functools
import hmac
import os
import random

from decoupled.core import signatures
from decoupled.core.signatures import Preset
from tests.support.webhooks import OTHERS, SECRETS, SIGN, Headers

BODY = '{"id":"evt_1","type":"payment","amount":1}'
TRIES = int(os.environ.get("DECOUPLED_FORGED", "20000"))  # of whatever can be forged; `make soak` makes 100,000
PRESETS: list[Preset] = ["standard", "stripe", "github"]


def forged(draw: random.Random, now_s: int) -> tuple[Headers, str, str]:
    """Headers, the body that they are sent with, and the workload that it is sent to: payments, if it is not that which
    is wrong."""
    preset = draw.choice(PRESETS)
    headers, body, to = _right(preset, now_s), BODY, "payments"
    key = signatures.key_of(preset, SECRETS[preset])
    match draw.randrange(9):
        case 0:  # another's secret
            headers = _right(preset, now_s, OTHERS[preset])
        case 1:  # of another body
            body = BODY.replace("1}", f"{draw.randrange(2, 10**6)}}}")
        case 2:  # another workload's
            to = draw.choice(["orders", "", "payment", "payments/"])
        case 3:  # an old one, or one of tomorrow
            if preset == "github":
                headers = headers | {"x-hub-signature-256": headers["x-hub-signature-256"][:-1] + "g"}
            else:
                headers = _right(preset, now_s + draw.choice([-1, 1]) * draw.randrange(400, 10**8))
        case 4:  # with a character changed, but for those whose bits base64 ignores
            name, text = _signature(headers)
            place = draw.randrange(text.index("v1") if "v1" in text else 7, len(text) - 2)
            new = draw.choice([c for c in "0123456789abcdefABZ=,+ \xe9" if c.lower() != text[place].lower()])
            headers = headers | {name: text[:place] + new + text[place + 1 :]}
        case 5:  # cut off, or nothing at all
            name, text = _signature(headers)
            headers = headers | {name: text[: draw.randrange(len(text) - 1)]}
        case 6:  # with a secret at random, or none
            other = draw.choice([b"", b"whsec_", draw.randbytes(32)])
            headers = _by_hand(preset, now_s, hmac.digest(other, _text(preset, now_s), "sha256"))
        case 7:  # with another hash of the right secret
            digest = hmac.digest(key, _text(preset, now_s), draw.choice(["sha1", "sha512", "sha224"]))
            headers = _by_hand(preset, now_s, digest)
        case 8:  # as another preset has it
            beside = draw.choice([each for each in PRESETS if each != preset])
            headers = _by_hand(beside, now_s, hmac.digest(key, _text(preset, now_s), "sha256"))
    return headers, body, to


@functools.lru_cache(1_000)
def _right(preset: Preset, at_s: int, secret: str = "") -> Headers:
    return SIGN[preset](secret or SECRETS[preset], "evt_1", at_s, BODY)


def _signature(headers: Headers) -> tuple[str, str]:
    return next((name, text) for name, text in headers.items() if name in signatures.HEADERS)


def _text(preset: Preset, at_s: int) -> bytes:
    before = {"standard": f"evt_1.{at_s}.", "stripe": f"{at_s}.", "github": ""}[preset]
    return (before + BODY).encode()


def _by_hand(preset: Preset, at_s: int, digest: bytes) -> Headers:
    return {
        "standard": {
            "webhook-id": "evt_1",
            "webhook-timestamp": str(at_s),
            "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
        },
        "stripe": {"stripe-signature": f"t={at_s},v1={digest.hex()}"},
        "github": {"x-hub-signature-256": f"sha256={digest.hex()}", "x-github-delivery": "evt_1"},
    }[preset]
