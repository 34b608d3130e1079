"""The door of a server that has no fronts beside it: the writer's process takes the requests itself."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any

from decoupled.core.problem import Response
from decoupled.core.workload import Message, Workloads
from decoupled.engines.protocols import Table
from decoupled.server.callers.callers import Callers
from decoupled.server.certificate import Served
from decoupled.server.counting import Requests
from decoupled.server.door import Sender, Sent
from decoupled.server.health import Trouble
from decoupled.server.http.dashboard import Page
from decoupled.server.http.exchange import Reply
from decoupled.server.http.gateway import Gateway
from decoupled.server.http.listener import CLIENT, HttpServer
from decoupled.server.http.watching import Watching
from decoupled.server.watches import Topic, Watches

log = logging.getLogger("decoupled.server")


class Inside:
    """Implements Door."""

    client: tuple[type[Any], ...] = CLIENT

    def __init__(
        self,
        listener: socket.socket,
        sender: Sender,
        watches: Watches,
        table: Table,
        workloads: Workloads,
        health: Callable[[], tuple[int, str]],
        clock_ms: Callable[[], int],
        snapshot: Callable[[], AbstractContextManager[None]],
        callers: Callers | None,
        certificate: Served | None,
        origins: Collection[str],
        page: Page,
        requests: Requests,
    ) -> None:
        def tell_health(reply: Reply) -> None:
            status, body = health()
            reply(Response(status, {"content-type": "application/json"}, body.encode()))

        loop = self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._callers = callers
        local = _Local(sender, watches, loop)
        self._page = page
        ends, tell = watches.ends, tell_health
        gateway = Gateway(
            local, table, ends, workloads, tell, loop, clock_ms, snapshot, callers, page=page, requests=requests
        )
        local.watching = gateway.watching
        self._certificate = certificate
        tls = None if certificate is None else certificate.now.context()
        gateway.scheme = "http" if tls is None else "https"
        close = gateway.hearing.close
        self._server = HttpServer(gateway.handle, loop, tls=tls, origins=origins, leaving=close, requests=requests)

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

    async def leave(self, gently_s: float = 0.0) -> None:
        await self._server.stop(gently_s)
        self._page.close()

    def trouble(self) -> Trouble | None:
        return self._server.trouble()

    def ready(self) -> int:
        return 0


class _Local:
    """The writer, for the gateway beside it. Implements Sender; and Watcher, as the writer knows one."""

    watching: Watching  # set before the first message is sent

    def __init__(self, sender: Sender, watches: Watches, loop: asyncio.AbstractEventLoop) -> None:
        self.send = sender.send
        self._watches = watches
        self._loop = loop

    def send_watched(self, message: Message, sent: Sent) -> None:
        self._watches.expect(message.id, self)
        self.send([message], sent)

    def watch(self, topic: Topic) -> None:
        self._watches.watch(topic, self)

    def unwatch(self, topic: Topic) -> None:
        self._watches.unwatch(topic, self)

    def watched(self, topic: Topic, refused: str | None) -> None:
        self._loop.call_soon(self.watching.watched, topic, refused)

    def ended(self, topics: Sequence[Topic]) -> None:
        self._loop.call_soon(self.watching.ended, topics)
