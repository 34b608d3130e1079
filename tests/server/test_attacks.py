"""Clients that want the server for themselves, and one that means well beside them, on a real server. The attackers
come from the honest client's own address, as through a proxy: nothing but what they do tells them apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from decoupled.core import limits
from decoupled.core.problem import answer
from decoupled.server.http import listener as http_server
from decoupled.server.http.listener import HttpServer
from decoupled.server.listening import bind, listen
from tests.support.attacks import ATTACKS, attacking, large_record
from tests.support.honest import Honest
from tests.support.server import Server, serving

MAX_RSS_MB = 200
HANGS_S = 8.0  # far above what a request takes under attack, and below what it took when one client could have it all
HEALTH = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"


# Those that the server did not withstand once; `make attack` runs all of them.
@pytest.mark.parametrize(
    "names",
    [
        ["unread_answers"],
        ["unfinished_bodies"],
        ["endless_trailers"],
        ["many_headers"],
        ["slow_heads"],
        ["many_requests"],
        list(ATTACKS),
    ],
    ids=lambda names: names[0] if len(names) == 1 else "all_at_once",
)
def test_an_honest_client_is_served_under_attack(tmp_path: Path, names: list[str]) -> None:
    with serving(tmp_path / "data", "--workloads", "orders") as server:
        honest = Honest(server)
        with attacking(server, *names, record=large_record(server)):
            asyncio.run(honest.ask(per_s=40, seconds=3 if len(names) == 1 else 8))
        assert honest.only_polite_refusals, honest.told()
        assert honest.refused <= 0.01 * honest.asked, honest.told()
        assert server.peak_rss_mb() < MAX_RSS_MB
        if len(names) == 1:  # together they are more than two processors bear
            assert max(honest.p99_s("order"), honest.p99_s("health")) < HANGS_S, honest.told()
    assert "Traceback" not in server.logged()


def test_more_large_bodies_than_there_is_room_for_are_all_taken(tmp_path: Path) -> None:
    """24 clients, none faster than the others, with 96 MiB together."""

    async def send(server: Server) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /orders HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % limits.MAX_REQUEST_BYTES)
        for _ in range(limits.MAX_REQUEST_BYTES // 65_536):
            writer.write(b" " * 65_536)
            await writer.drain()
            await asyncio.sleep(0.02)
        status = (await reader.readline()).split()[1]
        writer.close()
        return status

    async def all_send(server: Server) -> list[bytes]:
        async with asyncio.timeout(60):
            return await asyncio.gather(*(send(server) for _ in range(24)))

    with serving(tmp_path / "data", "--workloads", "orders") as server:
        assert asyncio.run(all_send(server)) == [b"415"] * 24
        assert server.peak_rss_mb() < MAX_RSS_MB


# --- places -------------------------------------------------------------------


@asynccontextmanager
async def few_places(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HttpServer]:
    """A server that has 64 of them, and answers at once."""
    monkeypatch.setattr(limits, "MAX_CLIENTS", 64)
    server = HttpServer(lambda _, reply: reply(answer(200, {})), asyncio.get_running_loop())
    with bind("127.0.0.1", 0) as listener:
        listen(listener)
        server.start(listener)
        try:
            yield server
        finally:
            await server.stop()
            assert not server.connections


async def connect(server: HttpServer, source: str, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client, and what it says first."""
    reader, writer = await asyncio.open_connection(*server.listener.getsockname(), local_addr=(source, 0))
    writer.write(sent)
    return reader, writer


async def is_served(stream: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bool:
    """Whether a request is answered."""
    reader, writer = stream
    writer.write(HEALTH)
    async with asyncio.timeout(20):
        line = await reader.readline()
        await reader.readuntil(b"\r\n\r\n{}")
    return line.startswith(b"HTTP/1.1 200 ")


def test_a_new_client_gets_the_place_of_one_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many come, and without a sweep in between."""
    monkeypatch.setattr(http_server, "SWEEP_S", 3600.0)

    async def run() -> None:
        async with few_places(monkeypatch) as server:
            crowd = [await connect(server, "127.0.0.1", b"G" * (number % 2)) for number in range(300)]
            assert await is_served(await connect(server, "127.0.0.1", b""))
            assert len(server.connections) <= 64
            for _, writer in crowd:
                writer.close()

    asyncio.run(run())


def test_an_address_with_few_connections_keeps_them_in_a_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "SWEEP_S", 0.05)

    async def run() -> None:
        async with few_places(monkeypatch) as server:
            ours = [await connect(server, "127.0.0.1", b"") for _ in range(20)]
            crowd = [await connect(server, "127.0.0.2", HEALTH) for _ in range(300)]
            assert all([await is_served(stream) for stream in ours])
            async with asyncio.timeout(20):
                while (trouble := server.trouble()) is None:  # until the next sweep
                    await asyncio.sleep(0.01)
            assert "gave up a place" in trouble.detail
            assert not trouble.refuses
            for _, writer in [*ours, *crowd]:
                writer.close()

    asyncio.run(run())
