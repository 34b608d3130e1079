"""GETs at a stated pace: one is due every so often, whatever became of those before it, and its latency counts from
when it was due. So what makes all wait shows in as many as it made wait, and not in one, as where clients ask only when
they were answered; and there is no queue but of what the server is slow for."""

from __future__ import annotations

import random
import select
import socket
import statistics
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from benchmarks.loads import Load

ANSWER_S = 30.0  # a benchmark that waits longer for one ends
RECEIVED_BYTES = 65_536
_HEAD_END = b"\r\n\r\n"


@dataclass(slots=True)
class _Client:
    """A connection with one request at a time."""

    connection: socket.socket
    due: float = 0.0
    received: bytearray = field(default_factory=bytearray)


def gets(url: str, paths: Sequence[str], per_s: int, seconds: int, connections: int = 64) -> Load:
    """GETs of random ones of these records. Ends the benchmark when one is not answered with a 200."""
    address = urlsplit(url)
    order = random.Random(len(paths))
    with ExitStack() as open_ones:
        free = deque(_connected(address.hostname or "", address.port or 80, open_ones) for _ in range(connections))
        busy: dict[socket.socket, _Client] = {}
        latencies_s: list[float] = []
        began, total, sent = time.perf_counter(), per_s * seconds, 0
        while len(latencies_s) < total:
            now = time.perf_counter()
            while free and sent < total and began + sent / per_s <= now:
                client = free.popleft()
                client.due = began + sent / per_s
                client.connection.sendall(f"GET {order.choice(paths)} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
                busy[client.connection] = client
                sent += 1
            pause_s = began + sent / per_s - now if free and sent < total else ANSWER_S
            readable, _, _ = select.select(list(busy), [], [], max(pause_s, 0.0))
            if not readable and pause_s == ANSWER_S:
                sys.exit(f"a GET was not answered within {ANSWER_S:g} s")
            for connection in readable:
                if _is_whole(busy[connection]):
                    latencies_s.append(time.perf_counter() - busy[connection].due)
                    free.append(busy.pop(connection))
        took_s = time.perf_counter() - began
    cuts = statistics.quantiles(latencies_s, n=100)
    return Load(total / took_s, total, cuts[49] * 1000, cuts[98] * 1000)


def _connected(host: str, port: int, open_ones: ExitStack) -> _Client:
    connection = open_ones.enter_context(socket.create_connection((host, port), ANSWER_S))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return _Client(connection)


def _is_whole(client: _Client) -> bool:
    """Whether its answer has come, after what has come just now."""
    came = client.connection.recv(RECEIVED_BYTES)
    client.received += came
    head, end, body = client.received.partition(_HEAD_END)
    if not came or (end and not head.startswith(b"HTTP/1.1 200 ")):
        sys.exit(f"a GET was not answered with a record: {bytes(client.received[:200])!r}")
    if not end:
        return False
    length = next(line[15:] for line in bytes(head).lower().split(b"\r\n") if line.startswith(b"content-length:"))
    if len(body) < int(length):
        return False
    client.received.clear()
    return True
