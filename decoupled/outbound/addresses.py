"""E-mail addresses: which of them can be mailed at all, how they go out, and which two are one mailbox. Pure: whether
there is such a mailbox, only its own server knows."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated

import idna
from msgspec import Meta

from decoupled.core import limits
from decoupled.core.workload import BadField

Address = Annotated[str, Meta(pattern=r"^[^@\s]+@[^@\s]+\Z", max_length=limits.MAX_ADDRESS_OCTETS)]
"""A field of a schema. Its struct's `__post_init__` calls `check_address`, which says the rest."""


def check_address(pointer: str, address: str) -> None:
    """Raises BadField for an address that can never be mailed."""
    try:
        mailbox(address)
    except ValueError as error:
        raise BadField(pointer, str(error)) from error


def mailbox(address: str) -> str:
    """The address as it goes out: its local part composed (NFC), its domain in ASCII (IDNA 2008, after the mapping of
    UTS 46, non-transitional).

    Raises ValueError for what can never be mailed, or could be read as another address than it looks like."""
    if unseen := _IGNORABLE.search(address):
        raise ValueError(f"an address has no characters that nobody sees: U+{ord(unseen[0]):04X}")
    local, _, domain = unicodedata.normalize("NFC", address).rpartition("@")
    if not _DOT_ATOM.fullmatch(local) or any(unicodedata.category(each)[0] in "CZ" for each in local):
        raise ValueError("before the @ stand letters, digits and !#$%&'*+-/=?^_`{|}~, with single dots between them")
    if "=?" in local:  # what reads headers may take it for an encoded-word, and see another address
        raise ValueError("an address does not contain =?")
    if len(local.encode()) > limits.MAX_LOCAL_PART_OCTETS:
        raise ValueError(f"before the @ stand at most {limits.MAX_LOCAL_PART_OCTETS} octets")
    composed = f"{local}@{_in_ascii(domain)}"
    if len(composed.encode()) > limits.MAX_ADDRESS_OCTETS:
        raise ValueError(f"an address has at most {limits.MAX_ADDRESS_OCTETS} octets, its domain written in ASCII")
    return composed


def same_address(address: str) -> str:
    """What all spellings of one mailbox have in common: of the domain, its ASCII form; of the local part, neither the
    letters' case nor Unicode's ways to write an accent matter (canonical caseless matching, Unicode 3.13). Dots and
    +tags do: only some providers ignore them. Raises ValueError as `mailbox` does."""
    local, _, domain = mailbox(address).rpartition("@")
    return f"{unicodedata.normalize('NFC', unicodedata.normalize('NFD', local).casefold())}@{domain}"


def _in_ascii(domain: str) -> str:
    """A domain as it stands in DNS."""
    name = domain.lower()
    if not name.isascii() or any(label.startswith("xn--") for label in name.split(".")):
        try:
            name = idna.encode(domain, uts46=True, std3_rules=True).decode()
        except UnicodeError as error:
            raise ValueError(f"after the @ stands no domain: {error}") from error
    if len(name) > limits.MAX_DOMAIN_OCTETS or not _DOMAIN.fullmatch(name):
        raise ValueError("after the @ stands a domain, such as example.com")
    return name


# RFC 5322's dot-atom, and beyond ASCII whatever is neither a control nor a space (RFC 6532). Quoted local parts, which
# nobody has, are not taken.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+"
_DOT_ATOM = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
# Two labels or more. The last is no number, else it would be an IP address.
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+(?![0-9]+\Z)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# Unicode's Default_Ignorable_Code_Point: two addresses that look the same must not differ by one of these.
_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
