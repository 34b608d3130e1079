"""What a data directory keeps for callers to prove who they are: API keys, and the secrets of senders of webhooks. As
values and as the text of a file; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from decoupled.core import limits
from decoupled.core.api_keys import ApiKey, Keys, KeysError
from decoupled.core.senders import Sender, Senders


class Credentials(msgspec.Struct, frozen=True):
    """All of them."""

    keys: Keys = ()
    senders: Senders = ()


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    version: Literal[1]
    keys: Annotated[list[ApiKey], Meta(max_length=limits.MAX_API_KEYS)]
    senders: Annotated[list[Sender], Meta(max_length=limits.MAX_SENDERS)] = []


def encode(credentials: Credentials) -> str:
    """As the text of a file, one a line."""
    keys, senders = (_lines(kept) for kept in (credentials.keys, credentials.senders))
    return f'{{"version": 1, "keys": [\n{keys}\n], "senders": [\n{senders}\n]}}\n'


def _lines(kept: Iterable[ApiKey | Sender]) -> str:
    return ",\n".join(msgspec.json.encode(each).decode() for each in kept)


def decode(text: bytes) -> Credentials:
    """Those of such a text. Raises KeysError."""
    try:
        kept = msgspec.json.decode(text, type=_Kept)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KeysError(str(error)) from error
    _check_are_different("keys", "id", [key.id for key in kept.keys])
    _check_are_different("senders", "name", [sender.name for sender in kept.senders])
    return Credentials(kept.keys, kept.senders)


def _check_are_different(what: str, by: str, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        raise KeysError(f"two {what} have one {by}")
