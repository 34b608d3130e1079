"""Senders of webhooks that sign what they send: what is kept of one, which of them has sent a request, and what may be
done with those that there are. How each preset signs stands in `signatures.py`. Pure: file and clock are somebody
else's.

A secret is kept as it is. Of a key that is sent along, a hash would do; but a signature can only be checked by making
it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from decoupled.core import limits, signatures
from decoupled.core.api_keys import NAME, KeysError, Time
from decoupled.core.problem import Problem
from decoupled.core.signatures import Preset, SignatureError


class Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One that a sender signs with."""

    text: str
    created_at: Time
    replaced_at: Time | None = None  # from then on the one that took its place is the only one

    def is_valid(self, now_ms: int) -> bool:
        """Whether it still counts."""
        return self.replaced_at is None or now_ms < self.replaced_at


class Sender(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One who may POST events to some workloads, and see nothing. Raises ValueError for a secret that is none."""

    name: Annotated[str, Meta(pattern=rf"^{NAME.pattern}\Z")]
    preset: Preset
    workloads: Annotated[tuple[str, ...], Meta(min_length=1)]
    secrets: Annotated[tuple[Secret, ...], Meta(min_length=1, max_length=limits.MAX_SENDER_SECRETS)]

    def __post_init__(self) -> None:
        for secret in self.secrets:
            signatures.key_of(self.preset, secret.text)


Senders = Sequence[Sender]


class Sent(msgspec.Struct, frozen=True):
    """That a request is a sender's."""

    name: str
    event: str  # as the sender calls it


class Signers:
    """The senders of a server, to find out whose a request is."""

    def __init__(self, senders: Senders) -> None:
        self._keys: dict[tuple[str, Preset], list[tuple[str, Secret, bytes]]] = {}
        for sender in senders:
            for secret in sender.secrets:
                key = signatures.key_of(sender.preset, secret.text)
                for workload in sender.workloads:
                    self._keys.setdefault((workload, sender.preset), []).append((sender.name, secret, key))

    def sent(self, workload: str, headers: Mapping[str, str], body: bytes | bytearray, now_ms: int) -> Sent | None:
        """Who has signed the request to this workload; None if nobody has. The senders that may use it are tried.

        Raises SignatureError if nobody whom we know has signed it so, or not now, Problem 413 for a body that is too
        large for one event, and Problem 400 for a header, or an event, that has no id."""
        preset = signatures.preset_of(headers)
        if preset is None:
            return None
        if len(body) > limits.MAX_ENTRY_BYTES:
            raise Problem(413, f"The body has {len(body)} bytes; {limits.MAX_ENTRY_BYTES} is the limit of a webhook.")
        shown = signatures.signed(preset, headers, body, now_ms)
        for name, secret, key in self._keys.get((workload, preset), ()) if shown.signatures else ():
            if secret.is_valid(now_ms) and signatures.fits(shown, key):
                return Sent(name, signatures.event_of(preset, headers, body))
        raise SignatureError("No sender that this workload knows has signed this")


# --- what may be done with them -----------------------------------------------


def add(senders: Senders, name: str, preset: Preset, workloads: Sequence[str], secret: str, now_ms: int) -> Senders:
    """With another one. Raises KeysError."""
    if not NAME.fullmatch(name):
        raise KeysError(
            f"{name!r} is no name of a sender: 1 to {limits.MAX_CALLER_NAME_CHARS} letters, digits and . _ -, the"
            " first one a letter or a digit"
        )
    if any(sender.name == name for sender in senders):
        raise KeysError(f"there is a sender {name!r} already: rotate gives it another secret, and revoke takes it away")
    return _checked([*senders, _made(name, preset, workloads, [Secret(secret, now_ms)])], name)


def rotate(senders: Senders, name: str, secret: str, now_ms: int, *, overlap_s: float) -> Senders:
    """With another secret of that sender; those that it had end after `overlap_s`, if not before. Raises KeysError."""
    old = _named(senders, name)
    if any(kept.text == secret and kept.replaced_at is None for kept in old.secrets):
        raise KeysError(f"that is the secret that {name!r} has already")
    ends_at = now_ms + int(overlap_s * 1000)
    kept = [_replaced(each, ends_at) for each in old.secrets if each.is_valid(now_ms) and each.text != secret]
    secrets = [*(each for each in kept if each.is_valid(now_ms)), Secret(secret, now_ms)]
    if len(secrets) > limits.MAX_SENDER_SECRETS:
        raise KeysError(
            f"{name!r} has {limits.MAX_SENDER_SECRETS} secrets that still count: wait until one ends, or rotate with"
            " --overlap 0s, which ends them all"
        )
    new = _made(name, old.preset, old.workloads, secrets)
    return _checked([new if sender is old else sender for sender in senders], name)


def revoke(senders: Senders, name: str) -> tuple[Senders, Sender]:
    """Without that one; and that one. Raises KeysError."""
    gone = _named(senders, name)
    return [sender for sender in senders if sender is not gone], gone


def _named(senders: Senders, name: str) -> Sender:
    for sender in senders:
        if sender.name == name:
            return sender
    raise KeysError(f"there is no sender {name!r}")


def _made(name: str, preset: Preset, workloads: Sequence[str], secrets: Sequence[Secret]) -> Sender:
    try:
        return Sender(name, preset, tuple(workloads), tuple(secrets))
    except ValueError as error:
        raise KeysError(str(error)) from error


def _replaced(secret: Secret, at_ms: int) -> Secret:
    ends_at = at_ms if secret.replaced_at is None else min(secret.replaced_at, at_ms)
    return msgspec.structs.replace(secret, replaced_at=ends_at)


def _checked(senders: Senders, name: str) -> Senders:
    """With the one of that name as it is now."""
    if len(senders) > limits.MAX_SENDERS:
        raise KeysError(f"there are {limits.MAX_SENDERS:,} senders, and no more may be: revoke some")
    new = _named(senders, name)
    alike = [sender for sender in senders if sender.preset == new.preset]
    for other in alike:
        if other is not new and {secret.text for secret in other.secrets} & {secret.text for secret in new.secrets}:
            raise KeysError(f"{other.name!r} has that secret: nobody could tell which of the two has signed")
    for workload in new.workloads:
        if sum(workload in sender.workloads for sender in alike) > limits.MAX_SENDERS_TRIED:
            raise KeysError(
                f"{limits.MAX_SENDERS_TRIED} senders that sign like {new.preset} may use {workload!r}, and no more"
                " may: each request would be compared with all of them"
            )
    return senders
