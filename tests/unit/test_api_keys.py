"""API keys: what one is, what is kept of it, who it lets in, and how they come and go."""

from __future__ import annotations

import secrets

import pytest

from decoupled.core import api_keys, credentials, limits
from decoupled.core.api_keys import Keyring, Keys, KeysError
from decoupled.core.credentials import Credentials

NOW_MS = 1_795_000_000_000
HOUR_MS = 3_600_000


def added(keys: Keys, name: str, **more: object) -> tuple[Keys, str]:
    return api_keys.add(keys, name, NOW_MS, secrets.token_hex, **more)  # type: ignore[arg-type]


def test_a_key_is_found_by_its_id_and_proved_by_its_secret() -> None:
    keys, ana = added([], "ana", workloads=["orders"])
    keys, ben = added(keys, "ben", operator=True)
    ring = Keyring(keys)
    holders = [ring.holder(text) for text in (ana, ben)]
    assert [(key.name, key.workloads, key.operator) for key in holders if key] == [
        ("ana", ("orders",), False),
        ("ben", None, True),
    ]
    assert ring.holder(ana[:16] + ben[16:]) is None
    assert ring.holder(ana[:-1]) is None


def test_a_key_has_256_random_bits_beside_its_id() -> None:
    asked: list[int] = []

    def random_hex(count: int) -> str:
        asked.append(count)
        return secrets.token_hex(count)

    api_keys.add([], "ana", NOW_MS, random_hex)
    assert asked == [6, 32]


def test_no_key_can_be_made_of_what_is_kept() -> None:
    keys, ana = added([], "ana")
    assert ana[16:] not in str(keys)
    assert Keyring(keys).holder(f"dk_{keys[0].id}_{keys[0].sha256}") is None


def test_a_caller_has_one_name_and_a_name_one_caller() -> None:
    keys, _ = added([], "ana")
    with pytest.raises(KeysError, match="there is a caller 'ana' already"):
        added(keys, "ana")


@pytest.mark.parametrize("name", ["", "a" * 64, "-a", "a b", "a\n", "é", "key:ana", "0123456789ab"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(KeysError, match="is no name of a caller"):
        added([], name)


def test_a_key_ends_when_it_was_said_to() -> None:
    keys, _ = added([], "ana", life_s=3_600)
    assert keys[0].is_valid(NOW_MS + HOUR_MS - 1)
    assert not keys[0].is_valid(NOW_MS + HOUR_MS)
    assert added([], "ben")[0][0].is_valid(2**60)


def test_after_a_rotation_both_keys_are_the_caller_s_until_the_overlap_ends() -> None:
    keys, before = added([], "ana", life_s=10 * 3_600, workloads=["orders"], operator=True)
    later = NOW_MS + HOUR_MS
    keys, after = api_keys.rotate(keys, "ana", later, secrets.token_hex, overlap_s=3_600)
    old, new = (Keyring(keys).holder(text) for text in (before, after))
    assert old is not None
    assert new is not None
    assert (old.name, new.name, new.workloads, new.operator) == ("ana", "ana", ("orders",), True)
    assert (old.until_ms, new.until_ms) == (later + HOUR_MS, later + 10 * HOUR_MS)


def test_an_overlap_gives_no_key_more_time_than_it_had() -> None:
    keys, _ = added([], "ana", life_s=60)
    keys, _ = api_keys.rotate(keys, "ana", NOW_MS, secrets.token_hex, overlap_s=3_600)
    assert keys[0].until_ms == NOW_MS + 60_000


@pytest.mark.parametrize("life_s", [None, 7_200.0])
def test_a_key_that_replaces_one_that_was_replaced_lasts_as_long_as_the_first(life_s: float | None) -> None:
    keys, _ = added([], "ana", life_s=life_s)
    keys, lost = api_keys.rotate(keys, "ana", NOW_MS, secrets.token_hex, overlap_s=60)
    keys, _ = api_keys.revoke(keys, lost[3:15])
    keys, text = api_keys.rotate(keys, "ana", NOW_MS, secrets.token_hex, overlap_s=3_600)
    new = Keyring(keys).holder(text)
    assert new is not None
    assert new.until_ms == (None if life_s is None else NOW_MS + 2 * HOUR_MS)
    assert keys[0].until_ms == NOW_MS + 60_000


def test_a_rotation_takes_away_what_had_ended_and_leaves_others_alone() -> None:
    keys, _ = added([], "ana", life_s=60)
    keys, ben = added(keys, "ben", life_s=60)
    keys, _ = api_keys.rotate(keys, "ana", NOW_MS + HOUR_MS, secrets.token_hex, overlap_s=0)
    assert [key.name for key in keys] == ["ben", "ana"]
    assert Keyring(keys).holder(ben) == keys[0]
    with pytest.raises(KeysError, match="there is no caller 'cem'"):
        api_keys.rotate(keys, "cem", NOW_MS, secrets.token_hex, overlap_s=0)


def test_a_caller_is_revoked_whole_and_a_key_alone() -> None:
    keys, first = added([], "ana")
    keys, second = api_keys.rotate(keys, "ana", NOW_MS, secrets.token_hex, overlap_s=3_600)
    keys, ben = added(keys, "ben")
    left, gone = api_keys.revoke(keys, keys[0].id)
    assert [Keyring(left).holder(text) is None for text in (first, second, ben)] == [True, False, False]
    assert [key.id for key in gone] == [keys[0].id]
    left, gone = api_keys.revoke(keys, "ana")
    assert [Keyring(left).holder(text) is None for text in (first, second, ben)] == [True, True, False]
    with pytest.raises(KeysError, match="there is no caller and no key 'cem'"):
        api_keys.revoke(keys, "cem")


def test_there_is_a_limit_to_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_API_KEYS", 1)
    keys, _ = added([], "ana")
    with pytest.raises(KeysError, match="there are 1 keys, and no more may be"):
        added(keys, "ben")


# --- rates --------------------------------------------------------------------


def test_a_rate_is_the_callers_and_stays_when_its_key_is_rotated() -> None:
    keys, _ = added([], "ana", rate=50.0)
    keys, _ = added(keys, "ben")
    keys, _ = api_keys.rotate(keys, "ana", NOW_MS + 1, secrets.token_hex, overlap_s=60)
    assert api_keys.rates(keys) == {"key:ana": 50.0}
    assert [key.rate for key in keys] == [50.0, None, 50.0]


def test_a_changed_rate_is_that_of_all_keys_of_the_caller() -> None:
    keys, _ = added([], "ana", rate=50.0)
    keys, _ = added(keys, "ben", rate=1.0)
    keys, _ = api_keys.rotate(keys, "ana", NOW_MS + 1, secrets.token_hex, overlap_s=60)
    keys = api_keys.change(keys, "ana", rate=2.5)
    assert [key.rate for key in keys if key.name == "ana"] == [2.5, 2.5]
    assert api_keys.rates(credentials.decode(credentials.encode(Credentials(keys)).encode()).keys) == {
        "key:ana": 2.5,
        "key:ben": 1.0,
    }
    assert api_keys.rates(api_keys.change(keys, "ana", rate=None)) == {"key:ben": 1.0}
    with pytest.raises(KeysError, match="there is no caller 'eve'"):
        api_keys.change(keys, "eve", rate=1.0)


@pytest.mark.parametrize("rate", ["0", "1e9", '"fast"'])
def test_a_file_with_a_rate_that_is_none_is_damaged(rate: str) -> None:
    keys, _ = added([], "ana", rate=50.0)
    with pytest.raises(KeysError, match="rate"):
        credentials.decode(credentials.encode(Credentials(keys)).replace("50.0", rate).encode())
