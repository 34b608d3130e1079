"""Two spellings of a mailbox are one address, two mailboxes are two, and what can never be mailed is none."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given

from decoupled.core import limits
from decoupled.outbound.addresses import mailbox, same_address
from tests.support.hostile import ENCODED, LINE_ENDS, addresses


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ana@bücher.de", "ana@xn--bcher-kva.de"),
        ("ana@bücher.de", "ANA@XN--BCHER-KVA.DE"),
        ("ana@bücher.de", "ana@BÜCHER.de"),
        ("ana@bücher.de", "ana@bu\u0308cher.de"),
        ("ana@bücher.de", "ana@\uff42ücher\u3002de"),
        ("ana@straße.de", "ana@xn--strae-oqa.de"),
        ("ana@έτσι.gr", "ANA@ΈΤΣΙ.GR"),
        ("josé@example.com", "JOSE\u0301@Example.COM"),
    ],
)
def test_spellings_of_one_mailbox_are_one(one: str, other: str) -> None:
    assert same_address(one) == same_address(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ana@straße.de", "ana@strasse.de"),
        ("ana@βόλος.com", "ana@βόλοσ.com"),
        ("ana@bücher.de", "ana@bucher.de"),
        ("ana@example.com", "ana+shop@example.com"),
        ("ana@example.com", "a.na@example.com"),
    ],
)
def test_two_mailboxes_are_two(one: str, other: str) -> None:
    assert same_address(one) != same_address(other)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("Ana.Ruiz@Example.COM", "Ana.Ruiz@example.com"),
        ("Ana@Bücher.De", "Ana@xn--bcher-kva.de"),
        ("jose\u0301@example.com", "josé@example.com"),
        ("a!#$%&'*+-/?=^_`{|}~z@r3---sn.example", "a!#$%&'*+-/?=^_`{|}~z@r3---sn.example"),
        ("用户@例え.jp", "用户@xn--r8jz45g.jp"),
        ("a" * 64 + "@example.com", "a" * 64 + "@example.com"),
    ],
)
def test_an_address_goes_out_with_its_domain_in_ascii(address: str, expected: str) -> None:
    assert mailbox(address) == expected


@pytest.mark.parametrize("address", ["Ana.Ruiz+x@Example.com", "O'Neil@xn--bcher-kva.DE", "a_b-c@r3---sn.example"])
def test_an_ascii_address_has_the_key_that_it_always_had(address: str) -> None:
    """Accounts of earlier versions are found."""
    assert same_address(address) == address.lower()


UNSEEN = ["\u00ad", "\u034f", "\u061c", "\u115f", "\u17b4", "\u180e", "\u200b", "\u200c", "\u200d", "\u200e", "\u202e"]
UNSEEN += ["\u2060", "\u2065", "\u3164", "\ufe0f", "\ufeff", "\uffa0", "\U000e0041", "\U000e0100"]


@pytest.mark.parametrize("unseen", UNSEEN)
@pytest.mark.parametrize("address", ["a{}na@example.com", "ana@exa{}mple.com", "ana@b{}ücher.de"])
def test_a_character_that_nobody_sees_makes_no_second_address(address: str, unseen: str) -> None:
    with pytest.raises(ValueError, match="nobody sees"):
        mailbox(address.format(unseen))


NONE = [
    *("", "@", "ana", "ana@", "@example.com", "ana@example", "a b@example.com", "a@b@example.com", "ana@example.com\n"),
    *(".ana@example.com", "ana.@example.com", "a..na@example.com", '"ana"@example.com', "ana(x)@example.com"),
    *("ana,ben@example.com", "<ana@example.com>", "a\\na@example.com", "ana;ben@example.com", "[ana]@example.com"),
    *("a" * 65 + "@example.com", "é" * 33 + "@example.com", "a@" + "b" * 64 + ".com", "a@" + "b." * 126 + "com"),
    *("ana@" + ".".join(["b" * 63] * 3) + "." + "c" * 59, "ana@" + "é" * 60 + ".com"),
    *("ana@-example.com", "ana@example-.com", "ana@exa_mple.com", "ana@example..com", "ana@.example.com"),
    *("ana@example.com.", "ana@127.0.0.1", "ana@[127.0.0.1]", "ana@example.123", "ana@xn--a.com", "ana@xn--.com"),
    *("ana@i❤.ws", "ana@xn--i-7iq.ws", "ana@a_b.dé", "ana@é\uff20b.com", "ana@é b.com", "ana@dé.123"),
    *("\ue000@example.com", "\ufdd0@example.com", "\ud800@example.com", "a\u3000b@example.com", "a\x85b@example.com"),
    *ENCODED,
    *("=?utf-8?q?Bcc=3A_evil=40x.y?=@example.com", "=?utf-8?q?a?=.ana@example.com", "ana@=?utf-8?q?evil?=.com"),
    *(f"ana{end}@example.com" for end in LINE_ENDS),
    *(f"ana@example.com{end}" for end in LINE_ENDS),
]


@pytest.mark.parametrize("address", NONE)
def test_what_can_never_be_mailed_is_no_address(address: str) -> None:
    with pytest.raises(ValueError):
        mailbox(address)


@given(addresses())
def test_an_address_is_itself_in_every_composition_and_fits_a_command(address: str) -> None:
    try:
        composed, same = mailbox(address), same_address(address)
    except ValueError:
        return
    local, _, domain = composed.rpartition("@")
    assert mailbox(composed) == composed
    assert domain.isascii()
    assert not any(each.isspace() or unicodedata.category(each)[0] == "C" for each in composed)
    assert not set(composed) & set('"(),:;<>[\\]')
    assert len(local.encode()) <= limits.MAX_LOCAL_PART_OCTETS
    assert len(composed.encode()) <= limits.MAX_ADDRESS_OCTETS
    for other in (composed, local.upper() + "@" + domain.upper(), *forms(address)):
        if len(other.partition("@")[0].encode()) <= limits.MAX_LOCAL_PART_OCTETS:
            assert same_address(other) == same


def forms(address: str) -> list[str]:
    return [unicodedata.normalize("NFC", address), unicodedata.normalize("NFD", address)]
