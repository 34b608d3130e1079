"""Proof by API key: whose key a request has. The keys are somebody else's to read; here stands what they open, and that
nothing opens while they cannot be read. Without I/O of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from decoupled.core import limits
from decoupled.core.api_keys import Keyring, Keys, KeysError
from decoupled.core.problem import Problem
from decoupled.server.health import Trouble
from decoupled.server.http.callers import Caller, refused

log = logging.getLogger("decoupled.callers")

_SCHEME = "bearer "
_START = "dk_"  # of all keys


class ApiKeys:
    """Implements Proof.

    the file changes ─ look, at most a second later ─▶ another ring, and nobody is known by heart any more
    it is unreadable ─ look ─▶ the ring of before, if there is one, and `trouble`; else nobody is let in
    """

    kind = "keys"
    noun = "API key"
    asks = "your API key: as Authorization: Bearer, or as x-api-key"

    def __init__(self, read: Callable[[], Keys | None], clock_ms: Callable[[], int]) -> None:
        """`read` gives the keys when they have changed, else None; raises KeysError."""
        self._read = read
        self._clock_ms = clock_ms
        self._ring: Keyring | None = None
        self._known: dict[str, Caller] = {}  # by what their requests say: to prove a key takes longer
        self._why: str | None = None  # the keys cannot be read
        self.look()

    # --- a request ------------------------------------------------------------

    def of(self, headers: Mapping[str, str], path: Sequence[str], body: bytes | bytearray) -> Caller | None:  # noqa: ARG002
        given = headers.get("authorization")
        if "x-api-key" in headers:
            if given is not None:
                raise refused("Send one key: as Authorization: Bearer, or as x-api-key")
            given = f"Bearer {headers['x-api-key']}"
        elif given is None:
            return None
        caller = self._known.get(given)
        if caller is None:
            scheme, text = given[: len(_SCHEME)], given[len(_SCHEME) :]
            if "x-api-key" not in headers and (scheme.lower() != _SCHEME or not text.startswith(_START)):
                return None
            caller = self._prove(given, text)
        if caller.until_ms is not None and self._clock_ms() >= caller.until_ms:
            raise refused("This API key has expired")
        return caller

    def _prove(self, given: str, text: str) -> Caller:
        if self._ring is None:
            raise Problem(503, "The API keys cannot be read, so that nobody can be let in.", resend="safe")
        key = self._ring.holder(text)
        if key is None:
            raise refused("This is no API key of this server")
        workloads = None if key.workloads is None else frozenset(key.workloads)
        caller = Caller(key.caller, key.operator, workloads, key.until_ms)
        if len(self._known) >= limits.MAX_KNOWN_KEYS:
            del self._known[next(iter(self._known))]  # the first that came: who still calls is known again at once
        self._known[given] = caller
        return caller

    # --- the keys -------------------------------------------------------------

    def look(self) -> None:
        """See whether they have changed."""
        keys, why = None, None
        try:
            keys = self._read()
        except KeysError as error:
            why = str(error)
        if why is not None and self._why is None:
            log.error("the API keys cannot be read", extra={"error": why})
        self._why = why
        if keys is not None:
            self._ring, self._known = Keyring(keys), {}
            log.info("API keys are read", extra={"keys": len(keys)})

    async def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        self._look_again(loop)

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        self.look()
        loop.call_later(limits.API_KEYS_LOOK_S, self._look_again, loop)

    def trouble(self) -> Trouble | None:
        if self._why is None:
            return None
        if self._ring is None:
            return Trouble(f"nobody can be let in: {self._why}", refuses=True)
        return Trouble(f"API keys count as they were: {self._why}")
