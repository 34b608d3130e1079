"""The page without a server beside it: `decoupled dashboard`, a process that has no queue and takes no messages."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable

import uvloop

from decoupled.core.problem import Problem
from decoupled.server.http.aside import Answers, Aside
from decoupled.server.http.dashboard import Page
from decoupled.server.http.exchange import Reply
from decoupled.server.http.listener import HttpServer
from decoupled.server.http.request import Request
from decoupled.server.listening import bind, listen


def serve(make: Callable[[], Answers], host: str, port: int, announce: Callable[[str], None]) -> None:
    """Until SIGTERM or SIGINT. `announce` is told the URL. Raises ValueError when it cannot listen."""
    with bind(host, port) as listener:
        listen(listener)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(make, listener, announce))


async def _serve(make: Callable[[], Answers], listener: socket.socket, announce: Callable[[str], None]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    page = Page(Aside(make, loop), shown=True)

    def handle(request: Request, reply: Reply) -> None:
        if not page.handle(request, reply):
            reply(Problem(404, "There is nothing here but the page, for browsers.").response())

    server = HttpServer(handle, loop)
    server.start(listener)
    announce(_url(listener))
    await stop.wait()
    await server.stop()
    page.close()


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
