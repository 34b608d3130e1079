"""Proof by API key: whose key a request has. The keys are somebody else's to read; here stands what they open, and that
nothing opens while they cannot be read. Without I/O of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

from decoupled.core.api_keys import Keyring, Keys
from decoupled.server.callers.callers import Caller, Known, refused
from decoupled.server.callers.kept import Kept
from decoupled.server.health import Trouble

_SCHEME = "bearer "
_START = "dk_"  # of all keys


class ApiKeys:
    """Implements Proof."""

    kind = "keys"
    noun = "API key"
    asks = "your API key: as Authorization: Bearer, or as x-api-key"
    challenge = "Bearer"

    def __init__(
        self, read: Callable[[], Keys | None], clock_ms: Callable[[], int], operators: Collection[str] = ()
    ) -> None:
        """`read` as Kept has it. Once the keys have changed, nobody is known by heart any more. `operators`: names of
        callers that are some, beside those whose key says so."""
        self._clock_ms = clock_ms
        self._operators = operators
        self._ring = Keyring([])
        self._known = Known()  # to prove a key takes longer
        self._kept = Kept("API keys", read, self._take)

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
        self._kept.require()
        key = self._ring.holder(text)
        if key is None:
            raise refused("This is no API key of this server")
        workloads = None if key.workloads is None else frozenset(key.workloads)
        caller = Caller(key.caller, key.operator or key.caller in self._operators, workloads, key.until_ms)
        self._known.keep(given, caller)
        return caller

    # --- the keys -------------------------------------------------------------

    def _take(self, keys: Keys) -> None:
        self._ring = Keyring(keys)
        self._known.clear()

    def look(self) -> None:
        """See whether they have changed."""
        self._kept.look()

    async def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        self._kept.look_again(loop)

    def trouble(self) -> Trouble | None:
        return self._kept.trouble()
