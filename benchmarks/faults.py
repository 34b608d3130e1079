"""One client that sends a 4 MiB batch of faults again and again, and clients beside it that each send an order now and
then: the p99 of their 202s, of those whose connections another process of the server holds."""

from __future__ import annotations

import asyncio
import json
import math
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.loads import ORDER
from benchmarks.processes import holders
from decoupled.core import limits
from tests.support.server import Client, Server

CLIENTS, ORDERS_A_S = 48, 10  # of each: a small part of what the server can do
ENTRIES = limits.MAX_BATCH_ENTRIES
ANSWER_WITHIN_S = 30
REQUEST = b"POST /orders HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Beside:
    """What the clients saw: the p99 of all and of those on another front, and how many of them these are."""

    p99_ms: float
    elsewhere_p99_ms: float
    elsewhere: int


def orders_alone(server: Server, seconds: float) -> float:
    """The p99 of the 202 in milliseconds, without the batches of faults."""
    return p99_ms([took_s for each in asyncio.run(_ask(server, seconds)).values() for took_s in each])


def orders_beside_faults(server: Server, seconds: float) -> Beside:
    """The same beside them."""
    with _faults(server) as attacker:
        held, took_s = asyncio.run(_ask_and_look(server, seconds))
    if attacker not in held:
        sys.exit("no process of the server holds the connection that the faults came on")
    return seen(took_s, held, held[attacker])


def seen(took_s: Mapping[int, list[float]], held: Mapping[int, int], attacked: int) -> Beside:
    """From what each connection's orders took, which process holds it, and which one the faults come to. Where one
    holds all connections, nobody is elsewhere, and all of them count."""
    everyone = [taken for each in took_s.values() for taken in each]
    far = [port for port in took_s if held.get(port, attacked) != attacked]
    elsewhere = [taken for port in far for taken in took_s[port]]
    return Beside(p99_ms(everyone), p99_ms(elsewhere or everyone), len(far))


def p99_ms(took_s: list[float]) -> float:
    """Of all these, in milliseconds."""
    return sorted(took_s)[math.ceil(len(took_s) * 0.99) - 1] * 1000


def batch_of_faults() -> bytes:
    """As many entries and bytes as one request may have, and a fault at the end of each entry, which all are named."""
    line = {"sku": "KB-104", "quantity": 2, "unit_price": "39.90"}
    entry = json.loads(ORDER)
    room = limits.MAX_REQUEST_BYTES // ENTRIES - 1 - len(json.dumps({**entry, "lines": []}, separators=(",", ":")))
    entry["lines"] = [line] * (room // (len(json.dumps(line, separators=(",", ":"))) + 1))
    entry["lines"][-1] = {**line, "quantity": 0}
    return json.dumps([entry] * ENTRIES, separators=(",", ":")).encode()


@contextmanager
def _faults(server: Server) -> Iterator[int]:
    """While it lasts, a thread sends them on one connection, whose port it is. Ends the benchmark if one was not
    answered 422."""
    body = batch_of_faults()
    request = REQUEST % len(body) + body
    refused: list[str] = []
    done = threading.Event()
    with Client(server) as client:
        client.socket.settimeout(ANSWER_WITHIN_S)

        def send() -> None:
            try:
                while not done.is_set():
                    client.send(request)
                    if (answer := client.answer()).status != 422:
                        refused.append(f"{answer.status}: {answer.body[:200]!r}")
                        return
            except (OSError, IndexError) as error:
                refused.append(f"the connection ended: {error!r}")

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield client.socket.getsockname()[1]
        finally:
            done.set()
            thread.join()
    if refused:
        sys.exit(f"a batch of faults was not answered 422, but {refused[0]}")


# --- the clients beside it ------------------------------------------------------------


async def _ask_and_look(server: Server, seconds: float) -> tuple[dict[int, int], dict[int, list[float]]]:
    asking = asyncio.create_task(_ask(server, seconds))
    await asyncio.sleep(seconds / 2)  # long enough for every connection to be accepted
    held = holders(server.pid, server.port)
    return held, await asking


async def _ask(server: Server, seconds: float) -> dict[int, list[float]]:
    """How long each took, by its connection's port, reckoned from when its turn was: who waits behind a slow answer
    has waited, too."""
    times = await asyncio.gather(*(_client(server, number, seconds) for number in range(CLIENTS)))
    return dict(times)


async def _client(server: Server, number: int, seconds: float) -> tuple[int, list[float]]:
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    request, took_s = REQUEST % len(ORDER) + ORDER.encode(), []
    began = loop.time() + number / CLIENTS / ORDERS_A_S
    for turn in range(int(seconds * ORDERS_A_S)):
        due = began + turn / ORDERS_A_S
        await asyncio.sleep(due - loop.time())
        writer.write(request)
        async with asyncio.timeout(ANSWER_WITHIN_S):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
        if not head.startswith(b"http/1.1 202"):
            sys.exit(f"an order beside the faults was answered {head.splitlines()[0].decode()}")
        took_s.append(loop.time() - due)
    port: int = writer.get_extra_info("sockname")[1]
    writer.close()
    return port, took_s
