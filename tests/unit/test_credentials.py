"""The text that API keys and senders of webhooks are kept in."""

from __future__ import annotations

import secrets

import msgspec
import pytest

from decoupled.core import api_keys, credentials, senders
from decoupled.core.api_keys import ApiKey, Keyring, KeysError
from decoupled.core.credentials import Credentials
from decoupled.core.senders import Secret, Sender, Signers
from tests.support.webhooks import STANDARD, standard

NOW_MS = 1_795_000_000_000


def test_what_is_kept_is_read_as_it_was_written() -> None:
    keys, ana = api_keys.add([], "ana", NOW_MS, secrets.token_hex)
    shops = senders.add([], "shop", "standard", ["payments"], STANDARD, NOW_MS)
    shops = senders.rotate(shops, "shop", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", NOW_MS, overlap_s=60)
    read = credentials.decode(credentials.encode(Credentials(keys, shops)).encode())
    assert read == Credentials(keys, shops)
    assert Keyring(read.keys).holder(ana) == keys[0]
    headers = standard(STANDARD, "e1", NOW_MS // 1000, "{}")
    assert Signers(read.senders).sent("payments", headers, b"{}", NOW_MS) is not None
    assert credentials.decode(credentials.encode(Credentials()).encode()) == Credentials([], [])


def test_of_a_key_the_text_has_only_its_hash() -> None:
    keys, ana = api_keys.add([], "ana", NOW_MS, secrets.token_hex)
    text = credentials.encode(Credentials(keys))
    assert ana[16:] not in text
    assert Keyring(keys).holder(f"dk_{keys[0].id}_{keys[0].sha256}") is None


def _text(*keys: ApiKey, version: int = 1) -> bytes:
    return msgspec.json.encode({"version": version, "keys": keys})


def _senders(*kept: Sender) -> bytes:
    return credentials.encode(Credentials([], kept)).encode()


KEY = ApiKey("0" * 12, "ana", "0" * 64, NOW_MS)
SENDER = Sender("shop", "github", ("payments",), (Secret("a secret of theirs", NOW_MS),))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"null", "Expected"),
        (b'{"version": 1}', "keys"),
        (_text(KEY, version=2), "version"),
        (_text(KEY, KEY), "two keys have one id"),
        (_text(msgspec.structs.replace(KEY, id="x")), "id"),
        (_text(msgspec.structs.replace(KEY, sha256="")), "sha256"),
        (_text(msgspec.structs.replace(KEY, created_at=-1)), "created_at"),
        (_text(msgspec.structs.replace(KEY, expires_at=2**60)), "expires_at"),
        (_text(msgspec.structs.replace(KEY, name="a b")), "name"),
        (_text(KEY).replace(b'"name"', b'"owner"'), "owner"),
        (_text(KEY).replace(b"ana", b"an\xff"), "UTF-8|utf-8"),
        (_senders(SENDER, SENDER), "two senders have one name"),
        (_senders(msgspec.structs.replace(SENDER, name="a b")), "name"),
        (_senders(msgspec.structs.replace(SENDER, workloads=())), "workloads"),
        (_senders(msgspec.structs.replace(SENDER, secrets=())), "secrets"),
        (_senders(SENDER).replace(b"github", b"gitlab"), "preset"),
        (_senders(SENDER).replace(b"github", b"stripe"), "a secret of Stripe's is"),
        (_senders(SENDER).replace(b"a secret of theirs", b"short"), "16 characters at least"),
        (_senders(SENDER).replace(b'"text"', b'"secret"'), "secret"),
    ],
)
def test_what_is_kept_is_read_as_it_was_written_or_not_at_all(text: bytes, complaint: str) -> None:
    with pytest.raises(KeysError, match=complaint):
        credentials.decode(text)
