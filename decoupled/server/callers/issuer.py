"""Who signs the JWTs: asked in the background for its keys, again and again, and never while a request waits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable

import aiohttp
import msgspec

from decoupled.core import limits
from decoupled.server.callers.token_keys import TokenKeys, read_keys
from decoupled.server.health import Trouble
from decoupled.server.options import is_protected

log = logging.getLogger("decoupled.callers")

Fetch = Callable[[], Awaitable[bytes]]
"""The key set's text, in bounded time and size. Raises ValueError, OSError or aiohttp.ClientError."""


class Issuer:
    """One, and its keys as they were last seen.

    start ─▶ fetch ─ it answers ─▶ these keys ─ KEYS_REFRESH_S ─▶ fetch
                   └ it does not ─▶ those of before, and `trouble` ─ KEYS_AGAIN_S ─▶ fetch
    a key is missed ─▶ sought ─ KEYS_AGAIN_S after the last fetch at the soonest ─▶ fetch ─ it is not there ─▶ absent
    """

    def __init__(self, url: str, fetch: Fetch, changed: Callable[[], None]) -> None:
        """`changed` hears of other keys than before."""
        self.url = url
        self.keys: TokenKeys | None = None
        self._fetch = fetch
        self._changed = changed
        self._why: str | None = "it has not answered yet"  # or did not the last time
        self._sought: set[str] = set()  # ids of keys, by the next fetch
        self._absent: set[str] = set()
        self._missed = asyncio.Event()
        self._asked = asyncio.Event()  # once
        self._next_at = 0.0  # by the loop's clock: the soonest that the next fetch begins
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None  # the loop's own reference is weak

    # --- a token of it --------------------------------------------------------

    def is_absent(self, key_id: str) -> bool:
        """Of a key that is not there: whether the issuer was asked since it was first missed. It is asked again."""
        self._missed.set()
        if key_id in self._absent:
            return True
        if len(self._sought) < limits.MAX_KEYS_SOUGHT:
            self._sought.add(key_id)
        return False

    def again_s(self) -> int:
        """Seconds until it will have been asked again, if it answers."""
        return 1 if self._loop is None else 1 + math.ceil(max(0, self._next_at - self._loop.time()))

    # --- its keys -------------------------------------------------------------

    async def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ask from now on. Returns when it has answered or failed to, or after a while."""
        self._loop = loop
        self._task = loop.create_task(self._ask(loop))
        self._task.add_done_callback(_must_go_on)
        await _for_at_most(limits.KEYS_FIRST_S, self._asked)

    async def _ask(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            self._next_at = loop.time() + limits.KEYS_AGAIN_S
            pause = await self._ask_once()
            self._asked.set()
            await asyncio.sleep(self._next_at - loop.time())
            await _for_at_most(pause, self._missed)

    async def _ask_once(self) -> float:
        """Seconds until it is asked again, if no key is missed by then."""
        sought, self._sought = self._sought, set()
        self._missed.clear()
        try:
            async with asyncio.timeout(limits.KEYS_FETCH_S):
                keys = read_keys(await self._fetch())
        except (OSError, ValueError, aiohttp.ClientError) as error:  # a TimeoutError is an OSError
            self._failed(str(error) or "it does not answer")
            self._sought |= sought
            return 0
        self._take(keys)
        if len(self._absent) > limits.MAX_KEYS_SOUGHT:
            self._absent.clear()
        self._absent = (self._absent | sought) - keys.ids
        return limits.KEYS_REFRESH_S

    def _take(self, keys: TokenKeys) -> None:
        if self._why is not None:
            log.info("the issuer's keys are known", extra={"issuer": self.url, "keys": sorted(keys.ids)})
        self._why = None if keys.ids else "it has no key that can be used"
        if self.keys is None or self.keys.text != keys.text:
            self.keys = keys
            self._changed()

    def _failed(self, why: str) -> None:
        if not self._asked.is_set() or self._why is None:
            log.error("the issuer's keys cannot be fetched", extra={"issuer": self.url, "error": why})
        self._why = why

    def trouble(self) -> Trouble | None:
        """It does not answer, or not with keys."""
        if self._why is None:
            return None
        if self.keys is None or not self.keys.ids:
            return Trouble(f"nobody can be let in with a token of {self.url}: {self._why}", refuses=True)
        return Trouble(f"the keys of {self.url} count as they were: {self._why}")


async def _for_at_most(seconds: float, event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):  # wait_for of Python 3.11 may lose that it was cancelled
            await event.wait()


def _must_go_on(task: asyncio.Task[None]) -> None:
    """Keys that nobody watches would count for ever: rather end than that."""
    if not task.cancelled() and (error := task.exception()) is not None:
        context = {"message": "an issuer's keys are watched no more", "exception": error, "task": task}
        task.get_loop().call_exception_handler(context)


# --- over the network ---------------------------------------------------------


class _Discovery(msgspec.Struct):
    issuer: str
    jwks_uri: str


async def discover(issuer: str) -> bytes:
    """Its key set, which OpenID Connect Discovery finds. Raises as `Fetch` says."""
    async with aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"accept": "application/json", "accept-encoding": "identity"},
        auto_decompress=False,
        trust_env=False,  # no .netrc
    ) as session:
        url = f"{issuer.removesuffix('/')}/.well-known/openid-configuration"
        try:
            told = msgspec.json.decode(await _get(session, url), type=_Discovery)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"{url} is no OpenID configuration: {error}") from error
        if told.issuer != issuer:
            raise ValueError(f"{url} is that of the issuer {told.issuer[:200]!r}")
        if not is_protected(told.jwks_uri) or (issuer.startswith("https:") and not told.jwks_uri.startswith("https:")):
            raise ValueError(f"{url} names keys that anybody could replace on their way: {told.jwks_uri[:200]!r}")
        return await _get(session, told.jwks_uri)


async def _get(session: aiohttp.ClientSession, url: str) -> bytes:
    async with session.get(url, allow_redirects=False) as response:
        if response.status != 200:
            raise ValueError(f"{url} answers {response.status}")
        text = bytearray()
        while piece := await response.content.readany():
            text += piece
            if len(text) > limits.MAX_KEY_SET_BYTES:
                raise ValueError(f"{url} answers with over {limits.MAX_KEY_SET_BYTES} bytes")
    return bytes(text)
