"""Real HTTP client libraries, and servers that give them trouble: both ends of what a workload's call may meet."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import struct
import threading
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import botocore.session
import httpx
import requests
from botocore.config import Config

TIMEOUT_S = 0.3

# --- clients: each makes one request, and raises what the library raises -----------


def _urllib(host: str, port: int, timeout_s: float = TIMEOUT_S) -> None:
    urllib.request.urlopen(f"http://{host}:{port}/", timeout=timeout_s).close()


def _requests(host: str, port: int, timeout_s: float = TIMEOUT_S) -> None:
    requests.get(f"http://{host}:{port}/", timeout=timeout_s).raise_for_status()


def _httpx(host: str, port: int, timeout_s: float = TIMEOUT_S) -> None:
    httpx.get(f"http://{host}:{port}/", timeout=timeout_s, trust_env=False).raise_for_status()


def _aiohttp(host: str, port: int, timeout_s: float = TIMEOUT_S) -> None:
    async def get() -> None:
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"http://{host}:{port}/") as answer:
            answer.raise_for_status()

    asyncio.run(get())


def botocore_sqs(host: str, port: int, timeout_s: float = TIMEOUT_S) -> None:
    _sqs(host, port, timeout_s).list_queues()


@functools.cache
def _sqs(host: str, port: int, timeout_s: float) -> Any:
    return botocore.session.Session().create_client(
        "sqs",
        region_name="eu-west-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",  # noqa: S106  nobody checks it
        endpoint_url=f"http://{host}:{port}",
        config=Config(connect_timeout=timeout_s, read_timeout=timeout_s, retries={"total_max_attempts": 1}),
    )


HTTP_CLIENTS: dict[str, Callable[..., None]] = {
    "urllib": _urllib,
    "requests": _requests,
    "httpx": _httpx,
    "aiohttp": _aiohttp,
    "botocore": botocore_sqs,
}

# --- servers -----------------------------------------------------------------------


@contextlib.contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port where each client gets that answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        clients: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    clients.append(client)
                    with contextlib.suppress(OSError):
                        answer(client)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for client in clients:
                client.close()


def hang(_client: socket.socket) -> None:
    """No word, ever."""


def reset(client: socket.socket) -> None:
    """Hangs up, with whatever was sent unread."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def say(text: str) -> Callable[[socket.socket], None]:
    """Reads a whole request, lest its client see a reset; answers that, and hangs up."""

    def answer(client: socket.socket) -> None:
        client.settimeout(1)
        with client.makefile("rb") as file:
            length = 0
            while (line := file.readline().lower().strip()) != b"":
                length = int(line.partition(b":")[2]) if line.startswith(b"content-length:") else length
            file.read(length)
        client.sendall(text.replace("\n", "\nconnection: close\n", 1).replace("\n", "\r\n").encode())
        client.close()

    return answer


@contextlib.contextmanager
def refusing() -> Iterator[int]:
    """A port that nobody listens at, and nobody else can take meanwhile."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield unused.getsockname()[1]
