"""The door of a server that has no fronts beside it: the writer's process takes the requests itself."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Any

from decoupled.core.problem import Response
from decoupled.core.workload import Workloads
from decoupled.engines.protocols import Table
from decoupled.server.certificate import Served
from decoupled.server.door import Sender
from decoupled.server.health import Trouble
from decoupled.server.http.callers import Callers
from decoupled.server.http.gateway import Gateway
from decoupled.server.http.listener import CLIENT, HttpServer

log = logging.getLogger("decoupled.server")


class Inside:
    """Implements Door."""

    client: tuple[type[Any], ...] = CLIENT

    def __init__(
        self,
        listener: socket.socket,
        sender: Sender,
        table: Table,
        workloads: Workloads,
        health: Callable[[], tuple[int, str]],
        clock_ms: Callable[[], int],
        snapshot: Callable[[], AbstractContextManager[None]],
        callers: Callers | None,
        certificate: Served | None,
        origins: Collection[str],
    ) -> None:
        def tell_health(reply: Callable[[Response], None]) -> None:
            status, body = health()
            reply(Response(status, {"content-type": "application/json"}, body.encode()))

        loop = self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._callers = callers
        gateway = Gateway(sender, table, workloads, tell_health, loop, clock_ms, snapshot, callers)
        self._certificate = certificate
        tls = None if certificate is None else certificate.now.context()
        self._server = HttpServer(gateway.handle, loop, tls=tls, origins=origins)

    async def start(self) -> None:
        if self._callers is not None:
            await self._callers.watch(self._loop)
        self._server.start(self._listener)

    def renew(self) -> None:
        if self._certificate is None:
            log.warning("there are no fronts to renew: this process takes the requests itself")
        else:
            self._certificate.renew()
            self._server.tls = self._certificate.now.context()

    async def leave(self) -> None:
        await self._server.stop()

    def trouble(self) -> Trouble | None:
        return self._server.trouble()

    def ready(self) -> int:
        return 0
