"""Connections that are kept, for each event loop its own, to addresses that are permitted and to no others. aiohttp
speaks HTTP; which addresses are permitted, `webhook.py` says."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from decoupled.core import limits
from decoupled.outbound.settings import tls

TROUBLE = (OSError, aiohttp.ClientError)
"""What an exchange raises when it comes to nothing."""

Permits = Callable[[str], bool]


class NotPermitted(Exception):  # noqa: N818  a verdict on an address
    """A host has an address that is not permitted; or is no host, however some systems may read it."""


def kept(permits: Permits | None) -> Connections:
    """Those of the running event loop, to addresses that are permitted; None permits all."""
    mine = _kept.setdefault(asyncio.get_running_loop(), {})
    if permits not in mine:
        mine[permits] = Connections(permits)
    return mine[permits]


class Connections:
    """A connection goes to the first address that takes one, and is kept for the next exchange with that host."""

    def __init__(self, permits: Permits | None) -> None:
        self._permits = permits
        self._sockets: WeakSet[socket.socket] = WeakSet()  # that are open
        connector = aiohttp.TCPConnector(
            limit=0,  # of those in use: as many as messages are in flight
            keepalive_timeout=limits.OUTBOUND_KEEP_ALIVE_S,
            resolver=_Resolver(permits),
            socket_factory=self._open,
            happy_eyeballs_delay=None,  # one address after the other
            ssl=tls(),
        )
        self.session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("accept", "user-agent"),
            auto_decompress=False,
            trust_env=False,  # no proxy, no .netrc
            timeout=aiohttp.ClientTimeout(),  # the caller's
        )

    async def post(self, url: str, host: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str | None]:
        """One exchange with a host: the status, and Retry-After. Raises NotPermitted, or what TROUBLE says.

        A connection that was kept may have been closed by the other side at this very moment. Then there is a second
        try: whoever gets a webhook twice knows it by its id."""
        target = URL(url, encoded=True)
        if (target.raw_host or "").lower() != host:
            raise NotPermitted(f"not the same host to every reader of its URL: {host}")
        opened: list[str] = []
        _opened.set(opened)
        try:
            return await self._exchange(target, headers, body)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if opened or isinstance(error, aiohttp.ClientConnectorError):
                raise
            return await self._exchange(target, headers, body)

    async def _exchange(self, url: URL, headers: Mapping[str, str], body: bytes) -> tuple[int, str | None]:
        headers = {"accept-encoding": "identity", **headers}
        if len(self._sockets) > limits.MAX_OUTBOUND_SOCKETS:
            headers["connection"] = "close"
        try:
            request = self.session.post(url, headers=headers, data=body, allow_redirects=False)
            async with request as response:
                if not response.content.at_eof():
                    await _read_a_little(response.content)  # of what is longer, the connection is closed
                return response.status, response.headers.get("retry-after")
        except aiohttp.InvalidURL as error:
            raise NotPermitted(str(error)) from error

    def _open(self, info: Any) -> socket.socket:
        """The one place where a socket comes from."""
        family, kind, protocol, _, (address, *_) = info
        if self._permits is not None and not self._permits(address):
            raise NotPermitted(address)
        opened = socket.socket(family, kind, protocol)
        self._sockets.add(opened)
        _opened.get().append(address)
        return opened


_kept: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Permits | None, Connections]] = WeakKeyDictionary()
_opened: ContextVar[list[str]] = ContextVar("opened")  # the addresses that an exchange had to open a socket to


async def _read_a_little(body: aiohttp.StreamReader) -> None:
    left = limits.MAX_ANSWER_BODY_BYTES
    with contextlib.suppress(*TROUBLE):  # the status has been said
        async with asyncio.timeout(limits.ANSWER_BODY_S):
            while left > 0 and (part := await body.read(left)):
                left -= len(part)


def cause(error: BaseException) -> BaseException:
    """What aiohttp's error is about, in the words of the system."""
    found: BaseException = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    if isinstance(found, ConnectionError) and found.errno:  # asyncio has words of its own for it
        return OSError(found.errno, os.strerror(found.errno))
    return found


class _Resolver(AbstractResolver):
    """The system's, which can neither be waited for nor be stopped: in threads, one for each name that is looked up. A
    name whose servers are silent has one of them for as long as that lasts, however many messages wait for it."""

    def __init__(self, permits: Permits | None) -> None:
        self._permits = permits
        self._threads = ThreadPoolExecutor(limits.MAX_LOOKUPS, thread_name_prefix="lookup")
        self._lookups: dict[str, asyncio.Future[list[Any]]] = {}

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002  of whichever it has
    ) -> list[ResolveResult]:
        """The first few addresses; NotPermitted unless all are permitted."""
        try:
            found = await asyncio.shield(self._lookups.get(host) or self._begin(host))
        except UnicodeError:
            raise OSError(f"{host} is not a host name") from None
        addresses = [(str(address[0]), each) for each, _, _, _, address in found]
        if self._permits is not None and not all(self._permits(address) for address, _ in addresses):
            raise NotPermitted(host)
        return [
            ResolveResult(hostname=host, host=address, port=port, family=each, proto=0, flags=socket.AI_NUMERICHOST)
            for address, each in addresses[: limits.MAX_OUTBOUND_ADDRESSES]
        ]

    def _begin(self, host: str) -> asyncio.Future[list[Any]]:
        if len(self._lookups) >= limits.MAX_LOOKUPS:
            raise OSError(errno.EAGAIN, "DNS has not answered for many other names yet")

        def ended(lookup: asyncio.Future[list[Any]]) -> None:
            del self._lookups[host]
            lookup.exception()  # nobody may wait for it any more

        try:
            lookup = asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host)
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, str(error)) from error  # no further thread
        self._lookups[host] = lookup
        lookup.add_done_callback(ended)
        return lookup

    async def close(self) -> None:
        """Of aiohttp. What still runs is left alone."""
        self._threads.shutdown(wait=False)


def _look_up(host: str) -> list[Any]:
    return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
