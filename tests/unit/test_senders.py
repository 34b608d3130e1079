"""Senders of webhooks: how they come and go, whose secrets count when, and where they may send."""

from __future__ import annotations

import pytest

from decoupled.core import limits, senders
from decoupled.core.api_keys import KeysError
from decoupled.core.senders import Senders, Sent, Signers
from decoupled.core.signatures import Preset, SignatureError
from tests.support.webhooks import OTHERS, SECRETS, SIGN, STANDARD, STRIPE

NOW_MS = 1_795_000_000_000
HOUR_MS = 3_600_000
BODY = '{"id":"evt_1"}'
SECOND, THIRD, FOURTH = (f"whsec_{letter * 43}=" for letter in "AQg")


def added(known: Senders = (), name: str = "shop", preset: Preset = "standard", secret: str = "") -> Senders:
    return senders.add(known, name, preset, ["payments", "refunds"], secret or SECRETS[preset], NOW_MS)


def whose(known: Senders, secret: str, now_ms: int = NOW_MS, to: str = "payments", preset: str = "standard") -> str:
    """Who has signed with this secret; nobody, if that is none."""
    headers = SIGN[preset](secret, "evt_1", now_ms // 1000, BODY)
    try:
        sent = Signers(known).sent(to, headers, BODY.encode(), now_ms)
    except SignatureError:
        return ""
    assert isinstance(sent, Sent)
    return sent.name


def test_a_sender_is_known_by_its_secret_among_all_of_its_preset() -> None:
    known = added(added(), "market", secret=OTHERS["standard"])
    known = added(known, "till", "stripe")
    assert [whose(known, secret) for secret in (STANDARD, OTHERS["standard"])] == ["shop", "market"]
    assert whose(known, STRIPE, preset="stripe") == "till"
    assert whose(known, SECOND) == ""


def test_a_sender_may_send_to_its_workloads_and_to_no_other() -> None:
    assert [whose(added(), STANDARD, to=name) for name in ("payments", "refunds", "orders", "")] == [
        *("shop", "shop"),
        *("", ""),
    ]


def test_after_a_rotation_both_secrets_count_until_the_overlap_ends() -> None:
    known = senders.rotate(added(), "shop", SECOND, NOW_MS + HOUR_MS, overlap_s=3_600)
    for now_ms, old in ((NOW_MS + HOUR_MS, "shop"), (NOW_MS + 2 * HOUR_MS - 1, "shop"), (NOW_MS + 2 * HOUR_MS, "")):
        assert [whose(known, secret, now_ms) for secret in (STANDARD, SECOND)] == [old, "shop"]


def test_without_an_overlap_only_the_new_secret_is_kept() -> None:
    known = senders.rotate(added(), "shop", SECOND, NOW_MS, overlap_s=3_600)
    known = senders.rotate(known, "shop", THIRD, NOW_MS, overlap_s=0)
    assert [secret.text for secret in known[0].secrets] == [THIRD]
    assert [whose(known, secret) for secret in (STANDARD, SECOND, THIRD)] == ["", "", "shop"]


def test_an_overlap_gives_no_secret_more_time_than_it_had() -> None:
    known = senders.rotate(added(), "shop", SECOND, NOW_MS, overlap_s=60)
    known = senders.rotate(known, "shop", THIRD, NOW_MS, overlap_s=3_600)
    assert [secret.replaced_at for secret in known[0].secrets] == [NOW_MS + 60_000, NOW_MS + HOUR_MS, None]


def test_a_secret_that_was_replaced_can_come_back() -> None:
    known = senders.rotate(added(), "shop", SECOND, NOW_MS, overlap_s=60)
    known = senders.rotate(known, "shop", STANDARD, NOW_MS, overlap_s=60)
    assert [secret.text for secret in known[0].secrets] == [SECOND, STANDARD]
    assert whose(known, STANDARD, NOW_MS + HOUR_MS) == "shop"


def test_the_secrets_of_a_sender_are_bounded_and_what_has_ended_does_not_count() -> None:
    known = added()
    for secret in (SECOND, THIRD):
        known = senders.rotate(known, "shop", secret, NOW_MS, overlap_s=60)
    with pytest.raises(KeysError, match="'shop' has 3 secrets that still count"):
        senders.rotate(known, "shop", FOURTH, NOW_MS, overlap_s=60)
    known = senders.rotate(known, "shop", FOURTH, NOW_MS + HOUR_MS, overlap_s=60)
    assert len(known[0].secrets) == 2


def test_what_was_revoked_counts_no_more() -> None:
    known, gone = senders.revoke(added(added(), "market", secret=OTHERS["standard"]), "shop")
    assert gone.name == "shop"
    assert [whose(known, secret) for secret in (STANDARD, OTHERS["standard"])] == ["", "market"]


@pytest.mark.parametrize("name", ["", "a" * 64, "-a", "a b", "a\n", "\xe9", "webhook:shop"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(KeysError, match="is no name of a sender"):
        added(name=name)


def test_what_cannot_be_done_is_told() -> None:
    known = added()
    with pytest.raises(KeysError, match="there is a sender 'shop' already"):
        added(known)
    with pytest.raises(KeysError, match="'shop' has that secret: nobody could tell"):
        added(known, "market")
    with pytest.raises(KeysError, match="there is no sender 'market'"):
        senders.rotate(known, "market", SECOND, NOW_MS, overlap_s=0)
    with pytest.raises(KeysError, match="there is no sender 'market'"):
        senders.revoke(known, "market")
    with pytest.raises(KeysError, match="that is the secret that 'shop' has already"):
        senders.rotate(known, "shop", STANDARD, NOW_MS, overlap_s=60)
    with pytest.raises(KeysError, match="base64"):
        senders.rotate(known, "shop", "no secret", NOW_MS, overlap_s=60)


def test_a_request_is_compared_with_no_more_senders_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_SENDERS_TRIED", 1)
    known = added(added(), "till", "stripe")
    with pytest.raises(KeysError, match="1 senders that sign like standard may use 'payments'"):
        added(known, "market", secret=OTHERS["standard"])
    assert senders.add(known, "market", "standard", ["orders"], OTHERS["standard"], NOW_MS)
    monkeypatch.setattr(limits, "MAX_SENDERS", 2)
    with pytest.raises(KeysError, match="there are 2 senders"):
        senders.add(known, "market", "standard", ["orders"], OTHERS["standard"], NOW_MS)
