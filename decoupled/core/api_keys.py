"""API keys of one machine's callers: what one looks like, what is kept of it, and what may be done with those that
there are. Pure: file, clock and randomness are somebody else's.

    dk_3f9a1c07be52_8d0e…     `dk`, an id that finds what is kept, and a secret of 256 random bits that proves it
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from decoupled.core import limits

ID_BYTES, SECRET_BYTES = 6, 32
_ID = re.compile(f"[0-9a-f]{{{2 * ID_BYTES}}}")
_KEY = re.compile(f"dk_({_ID.pattern})_[0-9a-f]{{{2 * SECRET_BYTES}}}")
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{limits.MAX_CALLER_NAME_CHARS - 1}}}")
"""What a caller may be called."""

Time = Annotated[int, Meta(ge=0, le=253_402_300_799_999)]
"""Milliseconds since the epoch, of a year that has four digits."""

RandomHex = Callable[[int], str]
"""So many random bytes as hexadecimal digits."""


class KeysError(ValueError):
    """What is asked cannot be done with the keys that there are, or they cannot be read. Says what to do."""


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is kept of a key. Of the key itself that is a plain SHA-256: hashes that are slow on purpose are for secrets
    that people think up. Nobody guesses 256 random bits, and a server should not need long to refuse those who try."""

    id: Annotated[str, Meta(pattern=rf"^{_ID.pattern}\Z")]
    name: Annotated[str, Meta(pattern=rf"^{NAME.pattern}\Z")]  # the caller's; while one key replaces another, of both
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]  # of all of the key
    created_at: Time
    expires_at: Time | None = None  # None: never
    workloads: tuple[str, ...] | None = None  # that it may use; None: all
    operator: bool = False  # sees what is others', too
    replaced_at: Time | None = None  # from then on the one that took its place is the only one
    rate: Annotated[float, Meta(ge=limits.MIN_RATE, le=limits.MAX_RATE)] | None = None  # messages/s; None: as others

    @property
    def caller(self) -> str:
        """Whose it is, as messages have it."""
        return f"key:{self.name}"

    @property
    def until_ms(self) -> int | None:
        """When it ends to count; None: never."""
        ends = [at for at in (self.expires_at, self.replaced_at) if at is not None]
        return min(ends, default=None)

    def is_valid(self, now_ms: int) -> bool:
        """Whether it still counts."""
        return self.until_ms is None or now_ms < self.until_ms


Keys = Sequence[ApiKey]


class Keyring:
    """The keys of a server, to find out whose a given one is."""

    def __init__(self, keys: Keys) -> None:
        self._by_id: Mapping[str, ApiKey] = {key.id: key for key in keys}

    def holder(self, text: str) -> ApiKey | None:
        """What is kept of the key with this text, if that is one of them, be it valid or not. The time that a wrong
        secret takes tells nothing of the right one."""
        found = _KEY.fullmatch(text)
        kept = None if found is None else self._by_id.get(found[1])
        if kept is None or not hmac.compare_digest(_digest(text), kept.sha256):
            return None
        return kept


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# --- what may be done with them -----------------------------------------------


def add(
    keys: Keys,
    name: str,
    now_ms: int,
    random_hex: RandomHex,
    *,
    life_s: float | None = None,
    workloads: Sequence[str] | None = None,
    operator: bool = False,
    rate: float | None = None,
) -> tuple[Keys, str]:
    """With a key of a new caller, and that key, which nobody will see again. Raises KeysError."""
    if not NAME.fullmatch(name) or _ID.fullmatch(name):
        raise KeysError(
            f"{name!r} is no name of a caller: 1 to {limits.MAX_CALLER_NAME_CHARS} letters, digits and . _ -, the first"
            " one a letter or a digit, and not what looks like the id of a key"
        )
    if any(key.name == name for key in keys):
        raise KeysError(f"there is a caller {name!r} already: rotate gives it a new key, and revoke takes it away")
    text, key = _made(name, now_ms, life_s, workloads, operator, rate, random_hex)
    return _counted([*keys, key]), text


def rotate(
    keys: Keys, name: str, now_ms: int, random_hex: RandomHex, *, overlap_s: float, life_s: float | None = None
) -> tuple[Keys, str]:
    """With a new key of that caller, and that key; those that it had end after `overlap_s`, if not before. The new one
    may do the same, and lasts `life_s`, or as long as the one before was to last. Raises KeysError."""
    olds = [key for key in keys if key.name == name]
    if not olds:
        raise KeysError(f"there is no caller {name!r}")
    newest = max(olds, key=lambda key: key.created_at)
    if life_s is None and newest.expires_at is not None:
        life_s = (newest.expires_at - newest.created_at) / 1000
    text, new = _made(name, now_ms, life_s, newest.workloads, newest.operator, newest.rate, random_hex)
    ends_at = now_ms + int(overlap_s * 1000)
    kept = [_replaced(key, ends_at) if key.name == name else key for key in keys]
    return _counted([*(key for key in kept if key.name != name or key.is_valid(now_ms)), new]), text


def change(keys: Keys, name: str, *, rate: float | None) -> Keys:
    """With that rate for that caller, whichever of its keys it uses. Raises KeysError."""
    if not any(key.name == name for key in keys):
        raise KeysError(f"there is no caller {name!r}")
    return [msgspec.structs.replace(key, rate=rate) if key.name == name else key for key in keys]


def rates(keys: Keys) -> dict[str, float]:
    """Messages a second, of the callers who have a rate of their own."""
    return {key.caller: key.rate for key in keys if key.rate is not None}


def revoke(keys: Keys, which: str) -> tuple[Keys, Keys]:
    """Without those of that name, or the one with that id; and these. Raises KeysError."""
    gone = [key for key in keys if which in (key.name, key.id)]
    if not gone:
        raise KeysError(f"there is no caller and no key {which!r}")
    return [key for key in keys if key not in gone], gone


def _made(
    name: str,
    now_ms: int,
    life_s: float | None,
    workloads: Sequence[str] | None,
    operator: bool,
    rate: float | None,
    random_hex: RandomHex,
) -> tuple[str, ApiKey]:
    key_id = random_hex(ID_BYTES)
    text = f"dk_{key_id}_{random_hex(SECRET_BYTES)}"
    expires_at = None if life_s is None else now_ms + int(life_s * 1000)
    may_use = None if workloads is None else tuple(workloads)
    return text, ApiKey(key_id, name, _digest(text), now_ms, expires_at, may_use, operator, rate=rate)


def _replaced(key: ApiKey, at_ms: int) -> ApiKey:
    ends_at = at_ms if key.replaced_at is None else min(key.replaced_at, at_ms)
    return msgspec.structs.replace(key, replaced_at=ends_at)


def _counted(keys: Keys) -> Keys:
    if len(keys) > limits.MAX_API_KEYS:
        raise KeysError(f"there are {limits.MAX_API_KEYS:,} keys, and no more may be: revoke some")
    return keys
