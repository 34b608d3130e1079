"""How webhooks are signed, by preset: what of a request is signed, whether a secret made the signature, and what the
sender calls the event. Pure; whose secrets those are is `senders.py`'s affair. Sources: standardwebhooks.com's
specification, docs.stripe.com/webhooks/signature and GitHub's "Validating webhook deliveries".

    preset     HMAC-SHA256 over       signature                               event
    standard   id.time.body           webhook-signature: v1,BASE64 v1,BASE64  webhook-id
    stripe     time.body              stripe-signature: t=TIME,v1=HEX,v1=HEX  `id` of the body
    github     body, without a time   x-hub-signature-256: sha256=HEX         x-github-delivery, which is not signed
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, assert_never

import msgspec

from decoupled.core import limits
from decoupled.core.problem import Problem

Preset = Literal["standard", "stripe", "github"]

HEADERS: Mapping[str, Preset] = {
    "webhook-signature": "standard",
    "stripe-signature": "stripe",
    "x-hub-signature-256": "github",
}
"""What each preset's signature comes in."""


class SignatureError(ValueError):
    """That does not prove anything. Says why, without its full stop."""


class Signed(msgspec.Struct, frozen=True):
    """What a request shows for its body."""

    text: bytes | bytearray  # what is signed, the body included
    signatures: Sequence[bytes]  # while a sender changes its secret, one by each: one that is right is enough


def preset_of(headers: Mapping[str, str]) -> Preset | None:
    """The preset of the signature that these have; None if they have none. Raises SignatureError for two."""
    found = [preset for header, preset in HEADERS.items() if header in headers]
    if len(found) > 1:
        raise SignatureError(f"Send one signature; this request has those of {' and '.join(found)}")
    return found[0] if found else None


def signed(preset: Preset, headers: Mapping[str, str], body: bytes | bytearray, now_ms: int) -> Signed:
    """What the request shows, at this time. Raises SignatureError, and Problem 400 naming a header that is missing or
    is none."""
    match preset:
        case "standard":
            event, time = _event_id("webhook-id", headers), _given("webhook-timestamp", headers)
            _check_time(time, now_ms)
            texts = _values(headers["webhook-signature"].split(" "), "v1,")
            return Signed(f"{event}.{time}.".encode() + body, _decoded(texts, _BASE64, base64.b64decode))
        case "stripe":
            pairs = headers["stripe-signature"].replace(" ", "").split(",")
            times = _values(pairs, "t=")
            if len(times) != 1:
                raise SignatureError("Stripe-Signature has one time: t=1492774577,v1=...")
            _check_time(times[0], now_ms)
            return Signed(f"{times[0]}.".encode() + body, _decoded(_values(pairs, "v1="), _HEX, bytes.fromhex))
        case "github":
            texts = _values([headers["x-hub-signature-256"]], "sha256=")
            return Signed(body, _decoded(texts, _HEX, bytes.fromhex))
        case _:
            assert_never(preset)


def fits(shown: Signed, key: bytes) -> bool:
    """Whether one of the signatures was made with this key. How long that takes tells nothing of the right one."""
    right = hmac.digest(key, shown.text, "sha256")
    return any(hmac.compare_digest(right, signature) for signature in shown.signatures)


def event_of(preset: Preset, headers: Mapping[str, str], body: bytes | bytearray) -> str:
    """What the sender calls the event, the same whenever it sends it again. Raises Problem 400 where that is
    missing."""
    match preset:
        case "standard":
            return _event_id("webhook-id", headers)
        case "github":
            return _event_id("x-github-delivery", headers)
        case "stripe":
            try:
                event = _stripe_event.decode(body).id
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise Problem(400, f"The body is no event of Stripe's, which has an id: {error}.") from error
            return _checked("The id of the event", event)
        case _:
            assert_never(preset)


class _StripeEvent(msgspec.Struct):
    id: str


_stripe_event = msgspec.json.Decoder(_StripeEvent)


def key_of(preset: Preset, secret: str) -> bytes:
    """The key that such a secret is, as people are shown it. Raises ValueError for what is none."""
    if not secret.isprintable() or secret != secret.strip() or len(secret) > limits.MAX_SENDER_SECRET_CHARS:
        raise ValueError(f"a secret has up to {limits.MAX_SENDER_SECRET_CHARS} characters that can be printed")
    match preset:
        case "standard":
            return _standard_key(secret)
        case "stripe":
            if not re.fullmatch("whsec_[!-~]{16,}", secret):
                raise ValueError("a secret of Stripe's is that of the endpoint, whsec_..., and no API key")
            return secret.encode()
        case "github":
            if len(secret) < limits.MIN_SENDER_SECRET_CHARS:
                raise ValueError(f"a secret has {limits.MIN_SENDER_SECRET_CHARS} characters at least")
            return secret.encode()
        case _:
            assert_never(preset)


def _standard_key(secret: str) -> bytes:
    least, most = _STANDARD_BYTES
    text = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not least <= len(key) <= most:
        raise ValueError(f"a secret of Standard Webhooks is whsec_ and the base64 of {least} to {most} bytes")
    return key


_STANDARD_BYTES = 24, 64  # as the specification has it


# --- parts of headers ---------------------------------------------------------

_BASE64, _HEX = re.compile("[A-Za-z0-9+/]{43}="), re.compile("[0-9a-fA-F]{64}")  # of 32 bytes
_EVENT_ID = re.compile(rf"[!-+\--~]{{1,{limits.MAX_EVENT_ID_CHARS}}}")  # two headers would be joined by a comma
_TIME = re.compile("[0-9]{1,11}")


def _given(header: str, headers: Mapping[str, str]) -> str:
    if header not in headers:
        raise Problem(400, f"A webhook that is signed like this has a {header}; this one has none.")
    return headers[header]


def _event_id(header: str, headers: Mapping[str, str]) -> str:
    return _checked(header, _given(header, headers))


def _checked(what: str, event: str) -> str:
    if not _EVENT_ID.fullmatch(event):
        most = limits.MAX_EVENT_ID_CHARS
        raise Problem(400, f"{what} is 1 to {most} visible ASCII characters without a comma; this was {event[:40]!r}.")
    return event


def _check_time(text: str, now_ms: int) -> None:
    """That a signature is no older than it may be, nor from later: what somebody recorded ends to count."""
    if not _TIME.fullmatch(text):
        raise SignatureError(f"The time of a signature is seconds since 1970; this was {text[:40]!r}")
    if abs(int(text) * 1000 - now_ms) > limits.SIGNATURE_WINDOW_S * 1000:
        raise SignatureError(f"This was signed more than {limits.SIGNATURE_WINDOW_S} s from now")


def _values(parts: Sequence[str], prefix: str) -> list[str]:
    """Of those that begin so. The others are of versions that others understand."""
    if len(parts) > limits.MAX_SIGNATURES:
        raise SignatureError(f"A request has up to {limits.MAX_SIGNATURES} signatures")
    return [part[len(prefix) :] for part in parts if part.startswith(prefix)]


def _decoded(texts: Iterable[str], form: re.Pattern[str], decode: Callable[[str], bytes]) -> list[bytes]:
    return [decode(text) for text in texts if form.fullmatch(text)]
