"""Who may see the page, and who may change something: codes and sessions, which say by whose secret they were signed,
and what a browser's request must say of itself. Pure: secret, clock and randomness are somebody else's.

    decoupled sign-in ─ code, good for ten minutes ─▶ browser ─ POST /-/sign-in ─▶ session, a cookie for eight hours
    an operator's API key ───────────────────────────────▲

Whoever can read the secret of a data directory can make both; whoever deletes it ends all that there are."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
from collections.abc import Collection, Mapping
from typing import Literal

import msgspec

from decoupled.core import limits
from decoupled.core.problem import Problem

SECRET_BYTES = 32
HEADER, PAGE = "x-decoupled", "page"
_LEEWAY_MS = int(limits.CLOCK_LEEWAY_S * 1000)  # of a clock that was set meanwhile
_CODE, _SESSION = b"decoupled page code 1", b"decoupled page session 1"  # a code is no session, nor the reverse


class Rules(msgspec.Struct, frozen=True):
    """What an operator chose. Plain, so that a front can be told of it."""

    open: bool  # whoever reaches the server sees the page
    hosts: tuple[str, ...] | None = None  # names that the server is called by, beside addresses; None: any
    keys: bool = False  # operators' API keys are good to sign in with
    operators: tuple[str, ...] = ()  # callers that are some, beside those whose key says so
    secure: bool = False  # the server speaks TLS
    read_only: bool = False  # nobody may change anything
    page: bool = True  # there is one


class Who(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Who has signed in, and until when: milliseconds since the epoch."""

    by: Literal["code", "key"]
    name: str
    key_id: str
    until_ms: int


# --- what is signed -----------------------------------------------------------


def code(secret: bytes, now_ms: int, nonce: bytes) -> str:
    """What `decoupled sign-in` prints."""
    until_ms = now_ms + limits.SIGN_IN_CODE_S * 1000
    return _signed(secret, _CODE, msgspec.json.encode([until_ms, nonce.hex()]))


def is_code(secret: bytes, text: str, now_ms: int) -> bool:
    """Whether it is one that still counts."""
    payload = _verified(secret, _CODE, text)
    if payload is None:
        return False
    until_ms, _ = msgspec.json.decode(payload, type=tuple[int, str])
    return now_ms < until_ms <= now_ms + limits.SIGN_IN_CODE_S * 1000 + _LEEWAY_MS


def session(secret: bytes, who: Who) -> str:
    """A cookie's value."""
    return _signed(secret, _SESSION, msgspec.json.encode(who))


def who_of(secret: bytes, text: str, now_ms: int) -> Who | None:
    """Whose session this is, if it still counts."""
    payload = _verified(secret, _SESSION, text)
    if payload is None:
        return None
    who = msgspec.json.decode(payload, type=Who)
    return who if now_ms < who.until_ms <= now_ms + limits.SESSION_S * 1000 + _LEEWAY_MS else None


def _signed(secret: bytes, purpose: bytes, payload: bytes) -> str:
    return f"{_text(payload)}.{_text(_mac(secret, purpose, payload))}"


def _verified(secret: bytes, purpose: bytes, text: str) -> bytes | None:
    """What was signed; None for what was not, or not so. The time that a wrong signature takes tells nothing of the
    right one."""
    if len(text) > limits.MAX_SIGNED_CHARS:
        return None
    first, _, second = text.partition(".")
    try:
        payload, mac = _bytes(first), _bytes(second)
    except ValueError:
        return None
    return payload if hmac.compare_digest(_mac(secret, purpose, payload), mac) else None


def _mac(secret: bytes, purpose: bytes, payload: bytes) -> bytes:
    return hmac.digest(secret, purpose + b"\0" + payload, "sha256")


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    """Raises ValueError, also for a second way to write the same."""
    data = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
    if _text(data) != text:
        raise ValueError("there are bits left over")
    return data


# --- cookies ------------------------------------------------------------------


def cookie_name(secret: bytes, secure: bool = False) -> str:
    """A browser shows a server the cookies of all others on the same host, whatever their ports: each has its own. With
    this prefix, only TLS can set it (RFC 6265bis 4.1.3.2); and without TLS none could be set where it has one."""
    name = f"decoupled-{hashlib.sha256(b'decoupled page cookie 1' + secret).hexdigest()[:12]}"
    return f"__Host-{name}" if secure else name


def cookie_of(header: str, name: str) -> str | None:
    """Its value in a request's header; None if it is not there, or there twice."""
    found = [part.partition("=")[2] for part in header.split("; ") if part.partition("=")[0] == name]
    return found[0] if len(found) == 1 else None


def set_cookie(name: str, value: str, seconds: int, secure: bool) -> str:
    """The header that makes a browser keep it; for no seconds, forget it."""
    also = "; Secure" if secure else ""
    return f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{also}"


# --- what a browser says of a request -----------------------------------------


def check_host(headers: Mapping[str, str], hosts: Collection[str] | None) -> None:
    """Raises Problem 403 where a name was called that is not the server's: somebody may have pointed theirs to this
    machine, so that their page may read what is here (DNS rebinding). An address is nobody's to point elsewhere."""
    if hosts is None:
        return
    name = _without_port(headers.get("host", "")).lower().rstrip(".")
    if name not in hosts and name != "localhost" and not name.endswith(".localhost") and not _is_address(name):
        raise Problem(403, "This server does not go by that name: call it by its address, or by --host.")


def check_origin(headers: Mapping[str, str]) -> None:
    """Raises Problem 403 for a change that does not come from the page itself: no form, and no page of another origin,
    can send this header."""
    if headers.get(HEADER) != PAGE:
        raise Problem(403, f"A change comes from the page itself: with the header {HEADER}: {PAGE}.")
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Problem(403, "A change comes from the page itself, and from no other one.")


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
