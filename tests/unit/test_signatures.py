"""Webhooks that others have signed: what proves who sent one, and what proves nothing."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import random
import re
from datetime import datetime, tzinfo

import pytest
import standardwebhooks
import stripe

from decoupled.core import limits, senders, signatures
from decoupled.core.problem import Problem
from decoupled.core.senders import Senders, Sent, Signers
from decoupled.core.signatures import Preset, SignatureError
from tests.support.forged import BODY, PRESETS, TRIES, forged
from tests.support.webhooks import OTHERS, SECRETS, SIGN, STANDARD, STRIPE, Headers

NOW_S = 1_795_000_000


def known(*presets: Preset, now_s: int = NOW_S) -> Senders:
    """A sender of each preset, named like it, for payments."""
    found: Senders = []
    for preset in presets or PRESETS:
        found = senders.add(found, preset, preset, ["payments"], SECRETS[preset], now_s * 1000)
    return found


def sent(
    headers: Headers, body: str | bytes = BODY, now_s: int = NOW_S, by: Senders | None = None, to: str = "payments"
) -> Sent | None:
    raw = body.encode() if isinstance(body, str) else body
    return Signers(known() if by is None else by).sent(to, headers, raw, now_s * 1000)


@functools.cache
def signed(preset: str, event: str = "evt_1", at_s: int = NOW_S, body: str = BODY, secret: str = "") -> Headers:
    return SIGN[preset](secret or SECRETS[preset], event, at_s, body)


def refused(headers: Headers, body: str | bytes = BODY, now_s: int = NOW_S) -> str:
    with pytest.raises(SignatureError) as refusal:
        sent(headers, body, now_s)
    return str(refusal.value)


@pytest.mark.parametrize("preset", PRESETS)
def test_what_a_sender_s_own_library_has_signed_tells_who_sent_which_event(preset: Preset) -> None:
    assert sent(signed(preset)) == Sent(preset, "evt_1")
    assert Signers(known()).sent("payments", signed(preset), bytearray(BODY.encode()), NOW_S * 1000) is not None


def test_the_example_of_the_specification_of_standard_webhooks_is_right() -> None:
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    found = sent(headers, '{"test": 2432232314}', 1_614_265_330)
    assert found == Sent("standard", "msg_p5jXN8AQM9LWM0D4loKWxJek")


def test_the_example_of_github_s_documentation_is_right() -> None:
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert sent({"x-hub-signature-256": signature, "x-github-delivery": "72d3162e"}, "Hello, World!") == Sent(
        "github", "72d3162e"
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_every_byte_of_the_body_counts(preset: Preset) -> None:
    headers = signed(preset)
    for position in range(len(BODY)):
        raw = bytearray(BODY.encode())
        raw[position] ^= 1
        assert "has signed this" in refused(headers, bytes(raw))
    for other in (BODY + " ", " " + BODY, BODY + "\n", "", BODY[:-1]):
        refused(headers, other)


@pytest.mark.parametrize("preset", ["standard", "stripe"])
def test_a_signature_counts_for_five_minutes_before_and_after_its_time(preset: Preset) -> None:
    headers = signed(preset)
    for now_s in (NOW_S - limits.SIGNATURE_WINDOW_S, NOW_S + limits.SIGNATURE_WINDOW_S):
        assert sent(headers, now_s=now_s) == Sent(preset, "evt_1")
    for now_s in (NOW_S - limits.SIGNATURE_WINDOW_S - 1, NOW_S + limits.SIGNATURE_WINDOW_S + 1):
        assert refused(headers, now_s=now_s) == "This was signed more than 300 s from now"


def test_another_time_or_event_than_was_signed_proves_nothing() -> None:
    for changed in ({"webhook-timestamp": str(NOW_S + 1)}, {"webhook-id": "evt_2"}):
        refused(signed("standard") | changed)
    header = signed("stripe")["stripe-signature"]
    refused({"stripe-signature": header.replace(str(NOW_S), str(NOW_S + 1))})


def test_one_right_signature_of_several_is_enough_and_their_number_is_bounded() -> None:
    wrong, right = signed("standard", secret=OTHERS["standard"]), signed("standard")
    both = f"v1a,AAAA {wrong['webhook-signature']} {right['webhook-signature']} v2,x"
    assert sent(right | {"webhook-signature": both}) == Sent("standard", "evt_1")
    many = " ".join([wrong["webhook-signature"]] * limits.MAX_SIGNATURES)
    assert "up to 16 signatures" in refused(right | {"webhook-signature": f"{many} {right['webhook-signature']}"})

    time, _, digest = signed("stripe")["stripe-signature"].partition(",")
    other = signed("stripe", secret=OTHERS["stripe"])["stripe-signature"].partition(",")[2]
    for joined in (f"{time},{other},{digest},v0=abc", f"{time}, {other}, {digest}"):
        assert sent({"stripe-signature": joined}) == Sent("stripe", "evt_1")
    assert "up to 16" in refused({"stripe-signature": ",".join([time, *[other] * 15, digest])})


@pytest.mark.parametrize(
    ("headers", "names"),
    [
        ({"webhook-signature": "v1,x", "webhook-timestamp": str(NOW_S)}, "webhook-id"),
        ({"webhook-signature": "v1,x", "webhook-id": "evt_1"}, "webhook-timestamp"),
        ({"webhook-signature": "v1,x", "webhook-timestamp": str(NOW_S), "webhook-id": ""}, "webhook-id"),
        ({"webhook-signature": "v1,x", "webhook-timestamp": str(NOW_S), "webhook-id": "a" * 256}, "webhook-id"),
        ({"webhook-signature": "v1,x", "webhook-timestamp": str(NOW_S), "webhook-id": "a, b"}, "webhook-id"),
        ({"x-hub-signature-256": signed("github")["x-hub-signature-256"]}, "x-github-delivery"),
        (signed("github") | {"x-github-delivery": "a,b"}, "x-github-delivery"),
        (signed("github") | {"x-github-delivery": "\xe9"}, "x-github-delivery"),
    ],
)
def test_a_header_that_is_missing_or_is_none_is_named(headers: Headers, names: str) -> None:
    with pytest.raises(Problem) as refusal:
        sent(headers)
    assert refusal.value.status == 400
    assert names in refusal.value.detail


@pytest.mark.parametrize(
    "body", ["{}", '{"id": 17}', '{"id": ""}', '{"id": "a b"}', f'{{"id": "{"e" * 256}"}}', "[]", "no JSON", '"\ud800"']
)
def test_an_event_of_stripe_s_without_an_id_is_refused_by_that_name(body: str) -> None:
    raw = body.encode(errors="surrogatepass")
    signature = hmac.new(STRIPE.encode(), f"{NOW_S}.".encode() + raw, hashlib.sha256).hexdigest()
    with pytest.raises(Problem, match=r"\bid\b") as refusal:
        sent({"stripe-signature": f"t={NOW_S},v1={signature}"}, raw)
    assert refusal.value.status == 400


@pytest.mark.parametrize(
    "time", ["", "now", "-1795000000", "1795000000.5", "\uff11\uff17\uff19\uff15", "1_795_000_000", "9" * 400]
)
def test_what_is_no_time_is_refused_whatever_python_takes_for_a_number(time: str) -> None:
    assert "seconds since 1970" in refused(signed("standard") | {"webhook-timestamp": time})
    refused({"stripe-signature": signed("stripe")["stripe-signature"].replace(str(NOW_S), time)})


def test_two_times_or_none_are_no_signature_of_stripe_s() -> None:
    header = signed("stripe")["stripe-signature"]
    assert "has one time" in refused({"stripe-signature": f"{header},t={NOW_S}"})
    assert "has one time" in refused({"stripe-signature": header.partition(",")[2]})


def test_a_request_has_one_signature() -> None:
    assert "those of standard and github" in refused(signed("standard") | signed("github"))
    assert sent({"content-type": "application/json", "webhook-id": "x"}) is None


def test_a_body_that_is_too_large_for_an_event_is_refused_before_anything_is_computed() -> None:
    body = '{"id":"evt_1","x":"' + "x" * limits.MAX_ENTRY_BYTES + '"}'
    for preset in PRESETS:
        with pytest.raises(Problem) as refusal:
            sent(signed(preset, body=body), body)
        assert refusal.value.status == 413


@pytest.mark.parametrize(
    ("preset", "secret", "complaint"),
    [
        ("standard", "whsec_", "base64 of 24 to 64 bytes"),
        ("standard", "whsec_" + base64.b64encode(bytes(23)).decode(), "24 to 64"),
        ("standard", "whsec_" + base64.b64encode(bytes(65)).decode(), "24 to 64"),
        ("standard", "whsec_" + "ä" * 40, "24 to 64"),
        ("stripe", "sk_live_4e1f9a2c7b3d5e6f8a9b0c1d2e3f4a5b", "and no API key"),
        ("stripe", "whsec_short", "whsec_"),
        ("github", "short", "16 characters at least"),
        ("github", "s" * 257, "up to 256"),
        ("github", "two lines\nof a secret text", "can be printed"),
        ("github", " a secret with a space before", "can be printed"),
    ],
)
def test_what_is_no_secret_of_its_preset_is_refused(preset: Preset, secret: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        signatures.key_of(preset, secret)


def test_a_secret_without_its_prefix_or_its_padding_is_the_same_key() -> None:
    key = base64.b64encode(bytes(range(32))).decode()
    for text in (key, f"whsec_{key}", f"whsec_{key.rstrip('=')}"):
        assert signatures.key_of("standard", text) == bytes(range(32))


# --- forged -------------------------------------------------------------------


def test_of_many_forged_signatures_none_is_taken() -> None:
    seed = random.randrange(2**32)
    draw, signers = random.Random(seed), Signers(known())
    for number in range(TRIES):
        headers, body, to = forged(draw, NOW_S)
        try:
            found = signers.sent(to, headers, body.encode(), NOW_S * 1000)
        except (SignatureError, Problem):
            continue
        raise AssertionError(f"{found} by {headers} for {body!r} to {to!r}: number {number} of seed {seed}")


class _Now(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> _Now:
        return cls.fromtimestamp(NOW_S, tz)


NO_HEADERS = (ValueError, TypeError)  # what their code makes of some that are none


def theirs(headers: Headers, body: str) -> bool:
    """Whether the library of the sender takes it."""
    try:
        if "stripe-signature" in headers:
            stripe.WebhookSignature.verify_header(body, headers["stripe-signature"], STRIPE, limits.SIGNATURE_WINDOW_S)
        else:
            standardwebhooks.Webhook(STANDARD).verify(body, headers)
    except (stripe.SignatureVerificationError, standardwebhooks.WebhookVerificationError, *NO_HEADERS):
        return False
    return True


def test_the_senders_own_libraries_refuse_what_is_refused_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the forged ones are forged. Stripe's takes signatures of tomorrow."""
    monkeypatch.setattr("stripe._webhook.time.time", lambda: NOW_S)
    monkeypatch.setattr("standardwebhooks.webhooks.datetime", _Now)
    assert all(theirs(signed(preset), BODY) for preset in ("standard", "stripe"))
    seed = random.randrange(2**32)
    draw, asked = random.Random(seed), 0
    while asked < 1_000:
        headers, body, to = forged(draw, NOW_S)
        time = re.match("t=([0-9]+)", headers.get("stripe-signature", ""))
        tomorrow = time is not None and int(time[1]) > NOW_S + limits.SIGNATURE_WINDOW_S
        if to == "payments" and "x-hub-signature-256" not in headers and not tomorrow:
            assert not theirs(headers, body), f"{headers} for {body!r}, of seed {seed}"
            asked += 1


def test_a_request_with_the_signatures_of_two_presets_is_nobodys() -> None:
    both = {"stripe-signature": "t=1,v1=00", "x-hub-signature-256": "sha256=00"}
    with pytest.raises(SignatureError, match="one signature; this request has those of stripe and github"):
        signatures.preset_of(both)
