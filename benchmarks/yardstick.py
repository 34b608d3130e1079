"""What the machine can do at all: servers that read a request and answer 202 with nothing done. The benchmark's numbers
are ratios to the first of them, measured in the same run.

    python -m benchmarks.yardstick uvicorn   a bare ASGI application on uvicorn with uvloop and httptools
    python -m benchmarks.yardstick ours      decoupled's own HTTP server, without gateway, queue and all: its ceiling"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
import uvloop

from decoupled.core.problem import Response
from decoupled.server.http.listener import HttpServer
from decoupled.server.listening import bind, listen

START = {"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"2")]}
BODY = {"type": "http.response.body", "body": b"{}"}
RESPONSE = Response(202, {}, b"{}")


async def nothing(_scope: Any, _receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
    """The least that an application can do."""
    await send(START)
    await send(BODY)


def serve_uvicorn(listener: socket.socket) -> None:
    """Without default headers and without a log of requests: ours has none either."""
    config = uvicorn.Config(
        nothing,
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
    )
    listener.listen(2048)
    uvicorn.Server(config).run(sockets=[listener])


def serve_ours(listener: socket.socket) -> None:
    """Until SIGTERM."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        server = HttpServer(lambda _, reply: reply(RESPONSE), loop)
        listen(listener)
        server.start(listener)
        await stop.wait()
        await server.stop()

    uvloop.run(serve())


def main() -> None:
    """Serve on a free port of the loopback, and print its URL."""
    listener = bind("127.0.0.1", 0)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    {"uvicorn": serve_uvicorn, "ours": serve_ours}[sys.argv[1]](listener)


if __name__ == "__main__":
    main()
