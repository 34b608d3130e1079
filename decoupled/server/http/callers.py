"""Who calls: the API key of a request, and what its caller may do. The keys are somebody else's to read; here stands
what they open, and that nothing opens while they cannot be read. Without I/O of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

import msgspec

from decoupled.core import limits
from decoupled.core.api_keys import Keyring, Keys, KeysError
from decoupled.core.problem import Problem
from decoupled.server.health import Trouble

log = logging.getLogger("decoupled.callers")

_SCHEME = "bearer "


class Caller(msgspec.Struct, frozen=True):
    """Who has proved to be it."""

    name: str  # as messages have it
    operator: bool  # sees what is others', too
    workloads: frozenset[str] | None  # that it may use; None: all
    until_ms: int | None  # the proof counts; None: for ever

    def admit(self, path: Sequence[str]) -> None:
        """Raises Problem 403 if that is a workload's route that it may not use, be there such a workload or not."""
        if self.workloads is not None and path and path[0] not in self.workloads:
            raise Problem(403, f"This key may not use the workload {path[0][:64]!r}.")


class Callers:
    """Knows them by their keys.

    the file changes ─ look, at most a second later ─▶ another ring, and nobody is known by heart any more
    it is unreadable ─ look ─▶ the ring of before, if there is one, and `trouble`; else nobody is let in
    """

    def __init__(self, read: Callable[[], Keys | None], clock_ms: Callable[[], int]) -> None:
        """`read` gives the keys when they have changed, else None; raises KeysError."""
        self._read = read
        self._clock_ms = clock_ms
        self._ring: Keyring | None = None
        self._known: dict[str, Caller] = {}  # by what their requests say: to prove a key takes longer
        self._why: str | None = None  # the keys cannot be read
        self.look()

    # --- a request ------------------------------------------------------------

    def of(self, headers: Mapping[str, str]) -> Caller:
        """The caller whose key these headers have. Raises Problem 401, or 503 while no keys are known."""
        given = headers.get("authorization")
        if "x-api-key" in headers:
            if given is not None:
                raise _refused("Send one key: as Authorization: Bearer, or as x-api-key")
            given = f"Bearer {headers['x-api-key']}"
        if given is None:
            raise _refused("Send your API key: as Authorization: Bearer, or as x-api-key")
        caller = self._known.get(given) or self._prove(given)
        if caller.until_ms is not None and self._clock_ms() >= caller.until_ms:
            raise _refused("This API key has expired")
        return caller

    def _prove(self, given: str) -> Caller:
        if self._ring is None:
            raise Problem(503, "The API keys cannot be read, so that nobody can be let in.", resend="safe")
        scheme, text = given[: len(_SCHEME)], given[len(_SCHEME) :]
        key = self._ring.holder(text) if scheme.lower() == _SCHEME else None
        if key is None:
            raise _refused("This is no API key of this server")
        workloads = None if key.workloads is None else frozenset(key.workloads)
        caller = Caller(f"key:{key.name}", key.operator, workloads, key.until_ms)
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

    def look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on again and again."""
        self.look()
        loop.call_later(limits.API_KEYS_LOOK_S, self.look_again, loop)

    def trouble(self) -> Trouble | None:
        """They cannot be read."""
        if self._why is None:
            return None
        if self._ring is None:
            return Trouble(f"nobody can be let in: {self._why}", refuses=True)
        return Trouble(f"API keys count as they were: {self._why}")


def _refused(why: str) -> Problem:
    return Problem(401, f"{why}.", headers={"www-authenticate": "Bearer"})
