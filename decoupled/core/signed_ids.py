"""Ids as a stack on AWS shows them: a message's own id, and after a dot what proves that it was given out. The table
there does not know what the queue holds; so this is how GET can say `queued` of what was accepted a moment ago, and 404
of what never was. Pure: keys and clock are passed in. Queue, table and workloads know the id without its tail.

    01a21460b1680002467e305b70eca7262 . kN 3fWc       uT2h9rQ_w1XzB    key, caller, proof
    01a21460b1680002467e305b70eca7262 . kN 3fWc AAcIA uT2h9rQ_w1XzB    and its delay, in seconds
    9c1f…(40)                         . kN 3fWc b0Zq  uT2h9rQ_w1XzB    with an Idempotency-Key: of the entry's digest

What a tail says depends on its message only, not on when it is made: a resend gets the same one, as long as the key is
the same. The caller is there as a few keyed bits, so that whoever may see all can have a tail checked without knowing
whose it is; the proof covers them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import re

import msgspec

from decoupled.core import limits, stack_limits
from decoupled.core.identifiers import issued_at
from decoupled.core.times import parse_rfc3339, rfc3339
from decoupled.core.workload import Message

_KEY, _CALLER, _DIGEST, _DELAY, _PROOF = 2, 4, 4, 5, 13  # characters of six bits each
_WORD = "[A-Za-z0-9_-]"
_SHOWN = re.compile(
    rf"([A-Za-z0-9_~-]+)\.({_WORD}{{{_KEY}}})({_WORD}{{{_CALLER}}})"
    rf"((?:{_WORD}{{{_DIGEST},{_DELAY}}})?)({_WORD}{{{_PROOF}}})"
)
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_DAY_MS = 86_400_000


class IdKey(msgspec.Struct, frozen=True):
    """What ids are signed with."""

    began_at: int  # from when on it signs what is accepted, in milliseconds since the epoch; of an old one, its day's
    secret: bytes
    name: str  # made of the secret


class Opened(msgspec.Struct, frozen=True):
    """An id that was shown, and what its tail proves. One without a tail, or with that of a key that is not known any
    more, proves nothing: it is good for what has a record."""

    id: str
    issued: bool = False  # it was given out: to this caller, for this workload
    accepted_at: int | None = None  # milliseconds since the epoch, where the id tells
    due_at: int | None = None
    before: int | None = None  # the time by which it was given out at the latest, if that has passed
    digest: str = ""  # of its entry, as `bits` has it


class IdKeys:
    """The keys of a stack, the newest first: all of them verify, and the newest that had begun when a message was
    accepted signs its id. A new one begins a while after it was made, so that whoever verifies knows it before it
    signs."""

    def __init__(self, keys: list[IdKey]) -> None:
        self._keys = keys

    def shown(self, message: Message) -> str:
        """The id as its client gets it; without keys, as it is."""
        if not self._keys:
            return message.id
        key, more = self._signing(message.accepted_at), ""
        if message.digest:
            more = bits(message.digest)
        elif message.due_at is not None and issued_at(message.id) is not None:
            more = _number((message.due_at - message.accepted_at) // 1000)
        marked = _marked(key, message.workload, message.caller, message.id)
        return f"{message.id}.{key.name}{marked}{more}{_proof(key, message.workload, message.id, marked, more)}"

    def _signing(self, accepted_at: int) -> IdKey:
        return next((key for key in self._keys if key.began_at <= accepted_at), self._keys[-1])

    def knows(self, shown: str) -> bool:
        """Whether the key that an id says it was signed with is one of these, if it says so."""
        found = _SHOWN.fullmatch(shown) if "." in shown else None
        return found is None or any(key.name == found[2] for key in self._keys)

    def open(self, shown: str, workload: str, caller: str | None) -> Opened | None:
        """What an id proves that comes back. `caller`: who asks; None for whoever may see all. None if the tail is
        forged, of another workload, or another caller's."""
        found = _SHOWN.fullmatch(shown) if "." in shown else None
        if found is None:
            return Opened(shown)
        message_id, name, marked, more, proof = found.groups()
        named = [(place, key) for place, key in enumerate(self._keys) if key.name == name]
        for place, key in named:
            if not hmac.compare_digest(proof, _proof(key, workload, message_id, marked, more)):
                continue
            if caller is not None and not hmac.compare_digest(marked, _marked(key, workload, caller, message_id)):
                continue
            return self._issued(message_id, more, place)
        return None if named else Opened(message_id)

    def _issued(self, message_id: str, more: str, place: int) -> Opened:
        accepted_at = issued_at(message_id)
        due_at = None if accepted_at is None or len(more) != _DELAY else accepted_at + 1000 * _value(more)
        before = accepted_at if due_at is None else due_at
        if accepted_at is None and place > 0:
            before = self._keys[place - 1].began_at + _DAY_MS  # of an old one only the day is known
        return Opened(message_id, True, accepted_at, due_at, before, more if len(more) == _DIGEST else "")


def record_id(shown: str) -> str:
    """The id that queue and table know, of one that was shown."""
    found = _SHOWN.fullmatch(shown)
    return shown if found is None else found[1]


def bits(digest: str) -> str:
    """What a tail says of an entry's digest: enough to tell two entries of one client apart."""
    return _text(hashlib.sha256(digest.encode()).digest())[:_DIGEST]


# --- keys


def keys_of(text: str) -> IdKeys:
    """The keys that a function's environment names, as `new_key` makes them, the newest first, separated by commas;
    without any, ids are shown as they are. Raises ValueError, which repeats no secret."""
    keys = [_key(part, place) for place, part in enumerate(text.split(","))] if text else []
    if len(keys) > limits.MAX_ID_KEYS:
        raise ValueError(f"ID_KEYS has {len(keys)} keys; {limits.MAX_ID_KEYS} is the limit")
    if any(newer.began_at < older.began_at for newer, older in itertools.pairwise(keys)):
        raise ValueError("ID_KEYS has its newest key first")
    return IdKeys(keys)


def new_key(began_at: int, secret: bytes) -> str:
    """A key as text: from when on it signs, to the second, and the secret."""
    return f"{rfc3339(began_at)[:19]}Z:{_text(secret)}"


def rotated(text: str, now_ms: int, secret: bytes) -> str:
    """Keys with a new one before them, which signs after a while; of the others the newest is kept, and verifies. The
    first key of all signs at once. Raises ValueError while the last rotation has not come to that."""
    newest, _, _ = text.partition(",")
    if not newest:
        return new_key(now_ms, secret)
    if (begins := _key(newest, 0).began_at) > now_ms:
        raise ValueError(f"the newest key signs from {rfc3339(begins)} on: until then there can be no newer one")
    return f"{new_key(now_ms + stack_limits.ID_KEY_LEAD_S * 1000, secret)},{newest}"


def _key(text: str, place: int) -> IdKey:
    """Its time may be a day only, as of the keys that were made before they had to begin later."""
    time, _, secret = text.rpartition(":")
    try:
        began_at = parse_rfc3339(time if "T" in time else f"{time}T00:00:00Z")
    except ValueError:
        began_at = None
    if began_at is None or not re.fullmatch(rf"{_WORD}{{43}}", secret):
        raise ValueError(f"key {place + 1} of ID_KEYS is not a day or a time, a colon and 43 characters of base64url")
    name = _text(hashlib.sha256(b"decoupled id key:" + secret.encode()).digest())[:_KEY]
    return IdKey(began_at, secret.encode(), name)


# --- what a tail is made of


def _marked(key: IdKey, workload: str, caller: str, message_id: str) -> str:
    return _hmac(key, "caller", workload, caller, message_id)[:_CALLER]


def _proof(key: IdKey, workload: str, message_id: str, marked: str, more: str) -> str:
    return _hmac(key, "id", workload, message_id, marked, more)[:_PROOF]


def _hmac(key: IdKey, *parts: str) -> str:
    """Over the parts, each with its length before it, so that no two lists of them are one text."""
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return _text(hmac.digest(key.secret, text.encode("utf-8", "surrogatepass"), "sha256"))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _number(value: int) -> str:
    return "".join(_ALPHABET[value >> 6 * place & 63] for place in reversed(range(_DELAY)))


def _value(text: str) -> int:
    value = 0
    for letter in text:
        value = value << 6 | _ALPHABET.index(letter)
    return value
