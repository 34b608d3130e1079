"""Clients that want the server for themselves: each attack as one small client, run by many connections at once in a
process of its own, and each connection anew when the server cuts it off.

    python -m tests.support.attacks slow_heads unread_answers --port 8080 --seconds 10
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import resource
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from tests.support.honest import ORDER
from tests.support.server import ROOT, Server, wait_for

AGAIN_S = 5.0  # on average, after the server has cut a connection off
IP_BIND_ADDRESS_NO_PORT = 24  # of linux/in.h: the port is chosen when it connects, among all that are free then
NUDGE_S = 0.5  # between two looks whether it has
HEAD = b"POST /orders HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Wire:
    """A connection to the server."""

    socket: socket.socket
    number: int  # among those of its attack
    record: bytes  # the path of a large one

    async def send(self, data: bytes) -> None:
        """Raises OSError when the server has ended it."""
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def hold(self) -> None:
        """Until the server ends it."""
        while await asyncio.get_running_loop().sock_recv(self.socket, 1 << 16):
            pass

    async def drip(self, data: bytes) -> None:
        """A byte now and then, until the server ends it. Nothing is read."""
        for byte in itertools.cycle(data):
            await asyncio.sleep(NUDGE_S)
            await self.send(bytes([byte]))


async def unread_answers(wire: Wire) -> None:
    """Asks for what is large, then for as much as one read takes, and reads no answer."""
    large = b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % wire.record
    await wire.send(large * 60 + b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 2_450)
    await wire.drip(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")


async def unfinished_bodies(wire: Wire) -> None:
    """Bodies from 4 MiB down to 1 KiB, all but the last byte of each."""
    size = (4 << 20) >> (wire.number % 13)
    await wire.send(HEAD + b"content-length: %d\r\n\r\n" % size + b" " * (size - 1))
    await wire.hold()


async def endless_trailers(wire: Wire) -> None:
    """A trailer without an end."""
    await wire.send(CHUNKED + b"0\r\nX: ")
    while True:
        await wire.send(b"a" * 65_536)


async def endless_extensions(wire: Wire) -> None:
    """A chunk's extension without an end."""
    await wire.send(CHUNKED + b"1;x=")
    while True:
        await wire.send(b"a" * 65_536)


async def tiny_chunks(wire: Wire) -> None:
    """As much around the body as may be, and little of it."""
    await wire.send(CHUNKED)
    while True:
        await wire.send((b"1;" + b"a" * 15_000 + b"\r\n \r\n") * 4)


async def many_headers(wire: Wire) -> None:
    """As many headers as a head takes, and no end of it."""
    await wire.send(HEAD + b"".join(b"%x:\r\n" % number for number in range(2_500)))
    await wire.hold()


async def many_cookies(wire: Wire) -> None:
    """As many cookies as a head takes, and no end of it."""
    await wire.send(HEAD + b"cookie: " + b"ab;" * 5_000 + b"\r\nx: x\r\n")
    await wire.hold()


async def large_heads(wire: Wire) -> None:
    """As many whole requests with large heads as one read takes, behind one that waits for the disk."""
    head = HEAD + b"".join(b"x%d: %b\r\n" % (number, b"a" * 140) for number in range(90)) + b"content-length: 2\r\n\r\n"
    await wire.send((head + b"{}") * 15)
    await wire.drip(b" ")


async def slow_heads(wire: Wire) -> None:
    """Slowloris: a head that takes for ever."""
    await wire.send(b"G")
    await asyncio.sleep(4 * NUDGE_S)
    await wire.drip(b"ET / HTTP/1.1\r\nhost: x\r\n" + b"x: x\r\n" * 1000)


async def silence(wire: Wire) -> None:
    """Says nothing."""
    await wire.hold()


async def many_requests(wire: Wire) -> None:
    """Thousands of requests in one go, again and again, and all answers taken."""

    async def ask() -> None:
        while True:
            await wire.send(b"GET /orders/none HTTP/1.1\r\nhost: x\r\n\r\n" * 5_000)

    asking = asyncio.create_task(ask())
    try:
        await wire.hold()
    finally:
        asking.cancel()


@dataclass(frozen=True, slots=True)
class Attack:
    """What each of so many connections does."""

    play: Callable[[Wire], Awaitable[None]]
    connections: int
    window: int = 65_536  # bytes that the kernel takes for it


ATTACKS = {
    attack.play.__name__: attack
    for attack in (
        Attack(unread_answers, 40, window=2_048),
        Attack(unfinished_bodies, 260),
        Attack(endless_trailers, 8),
        Attack(endless_extensions, 8),
        Attack(tiny_chunks, 8),
        Attack(many_headers, 4_000),
        Attack(many_cookies, 200),
        Attack(large_heads, 200, window=2_048),
        Attack(slow_heads, 5_000),
        Attack(silence, 200),
        Attack(many_requests, 8),
    )
}


def large_record(server: Server) -> str:
    """The path of one of some 56 KB, of the workload `orders`."""
    order = json.loads(ORDER)
    order["lines"] = [{"sku": f"{n:064}", "quantity": 1, "unit_price": "39.90"} for n in range(500)]
    path = str(server.post("/orders", order).headers["location"])
    wait_for(lambda: server.get(path).json["status"], lambda status: status == "processed")
    return path


@contextmanager
def attacking(
    server: Server, *names: str, seconds: float = 60, source: str = "127.0.0.1", record: str = "/"
) -> Iterator[None]:
    """The attacks run, each in a process of its own, for at most so many seconds."""
    with contextlib.ExitStack() as stack:
        for name in names:
            command = [sys.executable, "-m", "tests.support.attacks", name, "--port", str(server.port)]
            command += ["--seconds", str(seconds), "--source", source, "--record", record]
            attacker = stack.enter_context(subprocess.Popen(command, cwd=ROOT, start_new_session=True))
            stack.callback(attacker.kill)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.attacks", description=__doc__)
    parser.add_argument("names", nargs="+", choices=ATTACKS)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--source", default="127.0.0.1", help="the address that they come from")
    parser.add_argument("--record", default="/", help="the path of a large record")
    arguments = parser.parse_args()
    _give_way_to_the_server()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.suppress(TimeoutError), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_attack(arguments))


def _give_way_to_the_server() -> None:
    """Attackers have machines of their own: what they may take is the server's time, not its processor."""
    os.nice(19)
    with contextlib.suppress(OSError):  # Linux shares a processor by sessions first
        Path("/proc/self/autogroup").write_text("19")


async def _attack(arguments: argparse.Namespace) -> None:
    async with asyncio.timeout(arguments.seconds), asyncio.TaskGroup() as group:
        for attack in map(ATTACKS.__getitem__, arguments.names):
            for number in range(attack.connections):
                group.create_task(_again_and_again(attack, number, arguments))


async def _again_and_again(attack: Attack, number: int, arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    while True:
        with contextlib.suppress(OSError), socket.socket() as connection:
            connection.setblocking(False)
            if sys.platform == "linux":
                connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, attack.window)
            connection.bind((arguments.source, 0))
            await loop.sock_connect(connection, ("127.0.0.1", arguments.port))
            await attack.play(Wire(connection, number, arguments.record.encode()))
        await asyncio.sleep(random.uniform(0, 2 * AGAIN_S))


if __name__ == "__main__":
    main()
