"""`make bench-callers`: what it costs that callers say who they are and hear of it: orders with an API key on
each, orders that wait for their record, and clients that listen to events. On a real `decoupled serve`, in turn with
the same without. Prints what was measured beside what is wanted, and exits with 1 if a number is missed; `--write`
keeps it in CALLERS.md. Linux only."""

from __future__ import annotations

import asyncio
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import loads
from benchmarks.loads import ORDER
from benchmarks.parts import Benchmark, of_loads
from benchmarks.processes import running
from benchmarks.report import Target
from tests.support.server import DECOUPLED, Server, serving

METHOD = """\
Each load with a key, or with a wait, has one without beside it, in turn; a ratio is the median of the rounds' ratios.
Where a rate is given, orders are sent at that rate, however long the answers take, and a latency counts from the moment
at which the order was to be sent. Memory is what the server's processes have resident (PSS) beyond what they had."""
RATE, CONNECTIONS = 1_000, 128  # orders a second that wait, and what they come over
WAIT_S = 5
STREAMS = 1_000
ANSWER_WITHIN_S = 30
LATER_S = 3_600  # what is listened to does not end meanwhile

Sides = Sequence[tuple[Server, dict[str, str]]]


def keys(directory: Path, seconds: int, rounds: int) -> list[Target]:
    """Orders as fast as they are answered, with a key on each and without."""
    key = _key(directory / "keys")
    targets = []
    with (
        serving(directory / "none", "--log-level", "WARNING") as free,
        serving(directory / "keys", "--log-level", "WARNING", "--auth", "keys") as asked,
    ):
        both: Sides = ((free, {}), (asked, {"Authorization": f"Bearer {key}"}))
        for connections in (32, 256):
            ratios = []
            for number in range(rounds + 1):
                found: dict[Server, float] = {}
                for server, headers in both[:: 1 if number % 2 else -1]:
                    found[server] = loads.wrk(server.url, connections, seconds, headers).per_s
                    loads.wait_until_empty(server.data)
                if number:  # the first one warms
                    ratios.append(found[asked] / found[free])
            name = f"orders accepted with a key on each, of those without, {connections} connections"
            targets.append((name, statistics.median(ratios), ">= 0.90"))
    return targets


def wait(directory: Path, seconds: int, rounds: int) -> list[Target]:
    """Orders that wait for their record, at a rate, and as fast as they are answered."""
    header = {"Prefer": f"wait={WAIT_S}"}
    added, shares, fast, unfinished = [], [], [], 0
    with serving(directory / "wait", "--log-level", "WARNING") as server:
        loads.wrk(server.url, CONNECTIONS, 2)
        for _ in range(rounds):
            plain, waited = (asyncio.run(_at_rate(server, headers, seconds)) for headers in ({}, header))
            unfinished += waited.statuses.get(202, 0)
            added.append(waited.p99_ms - plain.p99_ms)
            shares.append(waited.per_s / plain.per_s)
            loads.wait_until_empty(server.data)
            before = loads.wrk(server.url, 256, seconds).per_s
            loads.wait_until_empty(server.data)
            fast.append(loads.wrk(server.url, 256, seconds, header).per_s / before)
            loads.wait_until_empty(server.data)
    name = f"{RATE:,} orders a second with Prefer: wait={WAIT_S}"
    return [
        (f"{name}: p99 above that of the 202s, ms", statistics.median(added), "<= 100"),
        ("accepted a second, of those without", statistics.median(shares), ">= 0.80"),
        ("answered 202 although a second would have done", unfinished, "= 0"),
        ("as fast as they are answered, 256 connections: of those without", statistics.median(fast), ">= 0.80"),
    ]


def streams(directory: Path, _seconds: int, _rounds: int) -> list[Target]:
    """Clients that listen: each to an order of its own, and as many to all of their caller's."""
    key = _key(directory / "streams")
    bearer = f"authorization: Bearer {key}\r\n"
    targets = []
    with serving(directory / "streams", "--log-level", "WARNING", "--auth", "keys") as server:
        paths = [f"/orders/{_delayed(server, key)}/events" for _ in range(STREAMS)]
        for name, asked in (("an order of its own", paths), ("all orders of its caller", ["/orders"] * STREAMS)):
            before = _pss_mb(server.pid)
            with _listening(server, asked, bearer) as listening:
                used = _pss_mb(server.pid) - before
                targets.append((f"{len(listening):,} clients that listen to {name}: MB", used, "< 50"))
    return targets


PARTS: dict[str, Callable[[Path, int, int], list[Target]]] = {"keys": keys, "wait": wait, "streams": streams}

# --- orders at a rate -------------------------------------------------------------


class _Seen:
    """What was answered, and after how long."""

    def __init__(self) -> None:
        self.latencies_s: list[float] = []
        self.statuses: dict[int, int] = {}
        self.per_s = 0.0

    @property
    def p99_ms(self) -> float:
        return statistics.quantiles(self.latencies_s, n=100)[98] * 1000

    def add(self, status: int, latency_s: float) -> None:
        if status not in (200, 202):
            sys.exit(f"an order was answered {status}")
        self.latencies_s.append(latency_s)
        self.statuses[status] = self.statuses.get(status, 0) + 1


async def _at_rate(server: Server, headers: dict[str, str], seconds: int) -> _Seen:
    """Each order on a connection that is free; one that finds none waits for it, and that counts."""
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = (
        f"POST /orders HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n{more}"
        f"content-length: {len(ORDER)}\r\n\r\n{ORDER}"
    ).encode()
    due: asyncio.Queue[float | None] = asyncio.Queue()
    seen, began = _Seen(), time.perf_counter()
    clients = [asyncio.create_task(_client(server.port, request, due, seen)) for _ in range(CONNECTIONS)]
    for number in range(RATE * seconds):
        at = began + number / RATE
        if (pause := at - time.perf_counter()) > 0:
            await asyncio.sleep(pause)
        due.put_nowait(at)
    for _ in clients:
        due.put_nowait(None)
    await asyncio.wait_for(asyncio.gather(*clients), ANSWER_WITHIN_S)
    seen.per_s = len(seen.latencies_s) / (time.perf_counter() - began)
    return seen


async def _client(port: int, request: bytes, due: asyncio.Queue[float | None], seen: _Seen) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (at := await due.get()) is not None:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        seen.add(int(head.split(b" ", 2)[1]), time.perf_counter() - at)
    writer.close()


# --- who listens ------------------------------------------------------------------


def _delayed(server: Server, key: str) -> str:
    """The id of an order that waits."""
    headers = {"content-type": "application/json", "delay": str(LATER_S), "authorization": f"Bearer {key}"}
    return str(server.ask("POST", "/orders", ORDER.encode(), headers).json["id"])


@contextmanager
def _listening(server: Server, paths: list[str], more: str) -> Iterator[list[socket.socket]]:
    """A connection for each path, on which events have begun to come."""
    listening = []
    try:
        for path in paths:
            client = socket.create_connection(("127.0.0.1", server.port), ANSWER_WITHIN_S)
            listening.append(client)
            head = f"GET {path} HTTP/1.1\r\nhost: bench\r\naccept: text/event-stream\r\n{more}\r\n"
            client.sendall(head.encode())
            answered = client.recv(65_536)
            if not answered.startswith(b"HTTP/1.1 200"):
                sys.exit(f"{path} was answered {answered[:200]!r}")
        yield listening
    finally:
        for client in listening:
            client.close()


def _pss_mb(pid: int) -> float:
    """Of a server's processes: their own memory, and their part of what they share."""
    kib = 0
    for each in running(pid):
        for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                kib += int(line.split()[1])
    return kib / 1024


def _key(data: Path) -> str:
    """A new caller's."""
    command = [str(DECOUPLED), "keys", "add", "bench", "--data", str(data)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


# --- all of it --------------------------------------------------------------------


def main() -> None:
    """Measure, print, and perhaps keep; exit with 1 if a number is missed."""
    benchmark = Benchmark("bench-callers", __doc__, "Callers", "CALLERS.md", "clients", METHOD)
    of_loads(benchmark, PARTS, seconds=5, rounds=7)


if __name__ == "__main__":
    main()
