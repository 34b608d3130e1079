"""What the machine can do at all: a bare ASGI application that reads nothing and answers 202, on uvicorn with uvloop
and httptools and without default headers. The benchmark's numbers are ratios to this, measured in the same run."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

START = {"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"2")]}
BODY = {"type": "http.response.body", "body": b"{}"}


async def nothing(_scope: Any, _receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
    """The least that an application can do."""
    await send(START)
    await send(BODY)


def main() -> None:
    """Serve on a free port of the loopback, and print its URL."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
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
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
