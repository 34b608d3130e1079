"""The page's gate: finds out who asks, lets them in or not, and signs people in and out. What is signed, and what a
request must say, stands in `access.py`; secret and keys are somebody else's to read."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Literal

import msgspec

from decoupled.core import limits
from decoupled.core.api_keys import ApiKey, Keyring, Keys, KeysError
from decoupled.core.problem import Problem, Response, answer
from decoupled.core.times import now_ms
from decoupled.core.workload import Unavailable
from decoupled.dashboard import access
from decoupled.dashboard.access import Rules, Who
from decoupled.dashboard.shapes import Access, SignIn
from decoupled.pipeline.call import Call

log = logging.getLogger("decoupled.page")

Secret = Callable[[bool], bytes | None]
"""The secret that codes and sessions are signed with, as it is now. Made if it is not there, if that is wanted; else
None. Raises Unavailable."""


class Gate:
    """Of one process. Used by one thread."""

    def __init__(
        self,
        rules: Rules,
        secret: Secret,
        read_keys: Callable[[], Keys | None] = lambda: None,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        """`read_keys` gives the keys when they have changed, else None; raises KeysError."""
        self.rules = rules
        self._secret = secret
        self._read_keys = read_keys
        self._clock_ms = clock_ms
        self._by_id: dict[str, ApiKey] = {}
        self._ring = Keyring([])
        self._attempts = Attempts(clock_ms)
        self._refused = ""  # why there is no secret, as the log has it

    # --- who asks -------------------------------------------------------------

    def access_of(self, call: Call) -> Access:
        """What whoever sends this may do. Raises Problem 403 for a name that is not the server's."""
        if self.rules.open:
            access.check_host(call.headers, self.rules.hosts)
        who = self._who(call)
        return self._access(who, see=self.rules.open or who is not None or call.operator)

    def check_seen(self, call: Call) -> Access:
        """Raises Problem: 401 where somebody has to sign in first."""
        granted = self.access_of(call)
        if not granted.see:
            raise Problem(401, "Sign in first: see the page.", headers={"www-authenticate": "Bearer"})
        return granted

    def check_changed(self, call: Call) -> None:
        """Raises Problem: 403 for whoever may not, or a request that does not come from the page."""
        granted = self.access_of(call)
        access.check_origin(call.headers)
        if not granted.change:
            why = "This page changes nothing." if self.rules.read_only else "Sign in first, as an operator."
            raise Problem(403, why)

    def _access(self, who: Who | None, see: bool) -> Access:
        how: list[Literal["code", "key"]] = ["code", "key"] if self.rules.keys else ["code"]
        changes = who is not None and not self.rules.read_only
        return Access(see=see, change=changes, name="" if who is None else who.name, how=how)

    def _who(self, call: Call) -> Who | None:
        if not (cookies := call.headers.get("cookie", "")) or (secret := self._secret_now()) is None:
            return None
        cookie = access.cookie_of(cookies, self._name(secret))
        who = None if cookie is None else access.who_of(secret, cookie, self._clock_ms())
        return who if who is None or who.by == "code" or self._still_counts(who.key_id) else None

    def _secret_now(self, make: bool = False) -> bytes | None:
        """Raises Problem 503, which names no file: nobody knows yet who asks."""
        try:
            secret = self._secret(make)
        except Unavailable as error:
            if self._refused != (why := f"{error}"):
                self._refused = why
                log.warning("nobody can sign in, or be known to have", extra={"error": why})
            raise Problem(503, "The secret cannot be used; the log says why.", resend="safe") from error
        self._refused = ""
        return secret

    def _still_counts(self, key_id: str) -> bool:
        self._look_at_keys()
        key = self._by_id.get(key_id)
        return key is not None and self._is_operators(key)

    def _is_operators(self, key: ApiKey) -> bool:
        """Of all workloads: the page shows, and changes, what each of them has."""
        operator = key.workloads is None and (key.operator or key.caller in self.rules.operators)
        return self.rules.keys and operator and key.is_valid(self._clock_ms())

    def _look_at_keys(self) -> bool:
        """Whether they can be read; if not, those that were there count as they did."""
        try:
            keys = self._read_keys() if self.rules.keys else None
        except KeysError:
            return False
        if keys is not None:
            self._by_id, self._ring = {key.id: key for key in keys}, Keyring(keys)
        return True

    # --- in and out -----------------------------------------------------------

    def sign_in(self, call: Call, client: str) -> Response:
        """A session for whoever has a code, or an operator's key. Raises Problem 403, 422 or 429."""
        self.access_of(call)
        access.check_origin(call.headers)
        try:
            given = msgspec.json.decode(call.body, type=SignIn)
        except msgspec.DecodeError as error:
            raise Problem(422, f"The body is not what signing in takes: {error}.") from error
        if (secret := self._secret_now(make=True)) is None:
            raise Problem(503, "Nobody can sign in: there is no secret.", resend="safe")
        who = self._proved(given, secret)
        if who is None:
            self._attempts.failed(client)  # and who has the right one gets in, whoever else is at this address
            raise Problem(403, "That is no code that still counts." if given.code else "That is no operator's API key.")
        cookie = access.session(secret, who)
        seconds = (who.until_ms - self._clock_ms()) // 1000
        return self._answer(self._access(who, see=True), self._name(secret), cookie, seconds)

    def _proved(self, given: SignIn, secret: bytes) -> Who | None:
        now, until_ms = self._clock_ms(), self._clock_ms() + limits.SESSION_S * 1000
        if given.code is not None:
            return Who("code", "operator", "", until_ms) if access.is_code(secret, given.code, now) else None
        if not self._look_at_keys():
            raise Problem(503, "The API keys cannot be read.", resend="safe")
        key = self._ring.holder(given.key or "")
        if key is None or not self._is_operators(key):
            return None
        return Who("key", key.caller, key.id, until_ms if key.until_ms is None else min(until_ms, key.until_ms))

    def sign_out(self, call: Call) -> Response:
        """Have the browser forget it."""
        self.access_of(call)
        access.check_origin(call.headers)
        secret = self._secret_now()
        name = self._name(secret or secrets.token_bytes(access.SECRET_BYTES))
        return self._answer(self._access(None, see=self.rules.open), name, "", 0)

    def _name(self, secret: bytes) -> str:
        return access.cookie_name(secret, self.rules.secure)

    def _answer(self, granted: Access, name: str, cookie: str, seconds: int) -> Response:
        return answer(200, granted, {"set-cookie": access.set_cookie(name, cookie, seconds, self.rules.secure)})


class Attempts:
    """To sign in, that came to nothing: so many of an address in a minute are told why. To guess is hopeless anyway."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self._clock_ms = clock_ms
        self._failed: dict[str, list[int]] = {}  # when, by address; the first that came first

    def failed(self, client: str) -> None:
        """Another one. Raises Problem 429 for one too many, which is not counted."""
        now = self._clock_ms()
        lately = [at for at in self._failed.get(client, ()) if at > now - limits.SIGN_IN_SPAN_S * 1000]
        if len(lately) >= limits.SIGN_IN_ATTEMPTS:
            raise Problem(
                429, "Too many attempts to sign in came to nothing.", resend="safe", retry_after_s=limits.SIGN_IN_SPAN_S
            )
        self._failed.pop(client, None)
        self._failed[client] = [*lately, now]
        if len(self._failed) > limits.MAX_SIGN_IN_ADDRESSES:
            del self._failed[next(iter(self._failed))]
