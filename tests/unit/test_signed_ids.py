"""Ids that prove that they were given out: to whom, for which workload, and when."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoupled.core import limits
from decoupled.core.identifiers import derived_id, is_id, new_id
from decoupled.core.signed_ids import IdKeys, Opened, bits, keys_of, new_key, record_id
from decoupled.core.workload import Message

NOW = 1_795_000_000_123
DAY = 86_400_000
NEW, OLD = new_key(NOW, b"n" * 32), new_key(NOW - 40 * DAY, b"o" * 32)
KEYS = keys_of(NEW)
WORD = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def message(message_id: str | None = None, caller: str = "iam:1:ana", delay_s: int = 0, digest: str = "") -> Message:
    due_at = NOW + 1000 * delay_s if delay_s else None
    return Message(message_id or new_id(NOW, 0, "e" * 18), "orders", "{}", caller, NOW, "", due_at, digest=digest)


def keyed(digest: str = "") -> Message:
    return message(derived_id("orders", "key", "iam:1:ana", "cart-1", "0"), digest=digest)


@pytest.mark.parametrize("sent", [message(), message(delay_s=60), keyed(), keyed("0123456789abcdef01234567")])
def test_what_was_given_out_is_known_again(sent: Message) -> None:
    shown = KEYS.shown(sent)
    opened = KEYS.open(shown, "orders", sent.caller)
    assert opened is not None
    assert (opened.id, opened.issued) == (sent.id, True)
    assert is_id(shown)
    assert record_id(shown) == sent.id


def test_the_longest_tail_still_makes_an_id() -> None:
    assert len(KEYS.shown(keyed("0123456789abcdef01234567"))) == limits.MAX_ID_CHARS


def test_a_new_id_tells_when_it_was_accepted_and_when_it_is_due() -> None:
    now = KEYS.open(KEYS.shown(message()), "orders", None)
    later = KEYS.open(KEYS.shown(message(delay_s=limits.MAX_LATER_S)), "orders", None)
    assert now == Opened(message().id, True, NOW, None, NOW)
    due_at = NOW + 1000 * limits.MAX_LATER_S
    assert later == Opened(message().id, True, NOW, due_at, due_at)


def test_a_resend_gets_the_same_id_whenever_it_comes() -> None:
    again = Message(keyed().id, "orders", "{}", "iam:1:ana", NOW + 60_000, "", NOW + 90_000)
    assert KEYS.shown(again) == KEYS.shown(keyed())


def test_another_entry_under_the_same_key_gets_an_id_that_tells_it() -> None:
    one, other = KEYS.shown(keyed("a" * 24)), KEYS.shown(keyed("b" * 24))
    assert record_id(one) == record_id(other)
    opened = [KEYS.open(shown, "orders", "iam:1:ana") for shown in (one, other)]
    assert [it.digest for it in opened if it] == [bits("a" * 24), bits("b" * 24)]


def test_an_id_is_its_caller_s_and_its_workload_s() -> None:
    shown = KEYS.shown(message())
    assert KEYS.open(shown, "orders", "iam:1:ben") is None
    assert KEYS.open(shown, "payments", "iam:1:ana") is None
    assert KEYS.open(shown, "payments", None) is None
    whoever_sees_all = KEYS.open(shown, "orders", None)
    assert whoever_sees_all is not None
    assert whoever_sees_all.issued


def test_ids_of_before_and_after_a_rotation_both_verify() -> None:
    before, rotated = keys_of(OLD), keys_of(f"{NEW},{OLD}")
    for shown in (before.shown(keyed()), rotated.shown(keyed()), rotated.shown(message())):
        opened = rotated.open(shown, "orders", "iam:1:ana")
        assert opened is not None
        assert opened.issued
    assert before.shown(keyed()) != rotated.shown(keyed())


def test_a_derived_id_of_a_retired_key_was_given_out_before_the_next_one_began() -> None:
    rotated = keys_of(f"{NEW},{OLD}")
    old = rotated.open(keys_of(OLD).shown(keyed()), "orders", None)
    new = rotated.open(rotated.shown(keyed()), "orders", None)
    assert old is not None
    assert new is not None
    assert new.before is None
    assert old.before is not None
    assert NOW <= old.before <= NOW + DAY


def test_a_tail_of_a_key_that_is_gone_proves_nothing_and_its_id_stays_good() -> None:
    shown = keys_of(OLD).shown(message())
    assert KEYS.open(shown, "orders", "iam:1:ana") == Opened(message().id)
    assert keys_of("").open(shown, "orders", "iam:1:ana") == Opened(message().id)


@pytest.mark.parametrize("plain", [message().id, keyed().id, "a.b", "x." + "A" * 18, ".", "6f1c2e9a-77a1-4d53"])
def test_an_id_without_a_tail_proves_nothing(plain: str) -> None:
    assert KEYS.open(plain, "orders", "iam:1:ana") == Opened(plain)
    assert record_id(plain) == plain


def test_without_keys_an_id_is_shown_as_it_is() -> None:
    assert keys_of("").shown(message()) == message().id


def test_no_change_of_a_single_character_goes_through() -> None:
    for sent in (message(), message(delay_s=60), keyed(), keyed("a" * 24)):
        shown = KEYS.shown(sent)
        for place in range(len(shown)):
            for letter in WORD + ".~":
                changed = f"{shown[:place]}{letter}{shown[place + 1 :]}"
                opened = KEYS.open(changed, "orders", None)
                assert changed == shown or opened is None or not opened.issued


def test_a_hundred_thousand_forged_tails_let_none_in() -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    known = [KEYS.shown(it) for it in (message(), message(delay_s=60), keyed(), keyed("a" * 24))]
    let_in = [forged for forged in _forged(chance, known, 100_000) if _issued(KEYS, forged)]
    assert let_in == [], seed


def _issued(keys: IdKeys, shown: str) -> bool:
    opened = keys.open(shown, "orders", None)
    return opened is not None and opened.issued


def _forged(chance: random.Random, known: list[str], count: int) -> list[str]:
    """Tails of all lengths under the right key's name, and parts of known ids put together anew."""
    ids = [new_id(NOW, 0, f"{chance.getrandbits(72):018x}"), keyed().id, f"{chance.getrandbits(160):040x}"]
    forged: list[str] = []
    while len(forged) < count:
        shown = chance.choice(known)
        message_id, tail = shown.split(".")
        match chance.randrange(4):
            case 0:  # a guess at the proof
                made = f"{message_id}.{tail[:-13]}{''.join(chance.choices(WORD, k=13))}"
            case 1:  # a guess at all but the key's name
                made = f"{chance.choice(ids)}.{tail[:2]}{''.join(chance.choices(WORD, k=chance.choice((17, 21, 22))))}"
            case 2:  # the tail of another
                made = f"{message_id}.{chance.choice(known).split('.')[1]}"
            case _:  # a tail that says more, or less
                cut = chance.randrange(2, len(tail))
                made = f"{message_id}.{tail[:cut]}{''.join(chance.choices(WORD, k=chance.randrange(6)))}{tail[cut:]}"
        if made not in known:
            forged.append(made)
    return forged


@given(st.text(max_size=80), st.text(max_size=20), st.text(max_size=20))
def test_any_text_may_be_asked_for(shown: str, workload: str, caller: str) -> None:
    opened = KEYS.open(shown, workload, caller)
    assert opened is None or not opened.issued


@given(st.text(), st.text(min_size=1, max_size=30), st.integers(0, limits.MAX_LATER_S))
def test_whoever_the_caller_is_what_was_given_out_is_known_again(caller: str, name: str, delay_s: int) -> None:
    sent = Message(message().id, name, "{}", caller, NOW, "", NOW + 1000 * delay_s)
    opened = KEYS.open(KEYS.shown(sent), name, caller)
    assert opened == Opened(sent.id, True, NOW, NOW + 1000 * delay_s, NOW + 1000 * delay_s)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("secret", "key 1 of ID_KEYS is not"),
        (f"{NEW},", "key 2 of ID_KEYS is not"),
        (f"2026-13-01:{'A' * 43}", "key 1 of ID_KEYS is not"),
        (f"2026-11-29:{'A' * 42}", "key 1 of ID_KEYS is not"),
        (f"{OLD},{NEW}", "newest key first"),
        (",".join([NEW] * 9), "8 is the limit"),
    ],
)
def test_keys_that_are_none_are_refused_without_repeating_a_secret(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as refused:
        keys_of(text)
    assert "AAAA" not in str(refused.value)
    assert NEW.partition(":")[2] not in str(refused.value)
