"""`make bench-io`'s own parts: a receiver that keeps exactly what it answered, and a verdict that can fail."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from benchmarks.io import __main__ as bench_io
from benchmarks.io.receiver import Receiver
from benchmarks.report import Target

WEBHOOK = b"POST /hook HTTP/1.1\r\nhost: x\r\nWebhook-Id: %s\r\ncontent-length: 2\r\n\r\n{}"
WITHIN_S = 10


class Sender:
    """One connection to a receiver's host."""

    def __init__(self, stream: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self.reader, self.writer = stream

    def send(self, webhook_id: bytes) -> None:
        self.writer.write(WEBHOOK % webhook_id)

    async def answer(self) -> bytes:
        """The status line."""
        async with asyncio.timeout(WITHIN_S):
            return (await self.reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0]


async def connected(receiver: Receiver, host: str) -> Sender:
    return Sender(await asyncio.open_connection(host, receiver.port))


def test_the_receiver_keeps_each_id_that_it_answered_and_how_often() -> None:
    async def deliver() -> None:
        receiver = Receiver()
        await receiver.listen("127.0.1.1")
        sender = await connected(receiver, "127.0.1.1")
        for webhook_id in (b"a", b"b", b"a"):
            sender.send(webhook_id)
            assert await sender.answer() == b"HTTP/1.1 204 No Content"
        receiver.close()
        assert receiver.answered == {"a": 2, "b": 1}
        assert list(receiver.came) == ["a", "b"]

    asyncio.run(deliver())


def test_what_came_to_a_host_that_hangs_counts_once_it_is_answered() -> None:
    async def deliver() -> None:
        receiver = Receiver()
        receiver.hanging.add("127.0.1.1")
        await receiver.listen("127.0.1.1", "127.0.1.2")
        held, gave_up = await connected(receiver, "127.0.1.1"), await connected(receiver, "127.0.1.1")
        held.send(b"held")
        gave_up.send(b"given-up")
        gave_up.writer.close()
        well = await connected(receiver, "127.0.1.2")
        well.send(b"well")
        await well.answer()
        assert set(receiver.answered) == {"well"}
        receiver.heal()
        await held.answer()
        assert set(receiver.answered) == {"well", "held"}
        receiver.close()

    asyncio.run(deliver())


def part(*targets: Target) -> Callable[[Path, float], Sequence[Target]]:
    return lambda _data, _seconds: targets


def broken(_data: Path, _seconds: float) -> list[Target]:
    raise RuntimeError("no server")


def test_a_missed_number_ends_it_with_1_and_a_part_that_breaks_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench-io"])
    monkeypatch.setattr(bench_io, "PARTS", {"one": part(("sent", 3, ">= 2,000")), "two": broken, "three": part()})
    with pytest.raises(SystemExit, match="2 of 2 numbers are missed"):
        bench_io.main()
    table = capsys.readouterr().out
    assert "| sent | 3.00 | >= 2,000 | **FAIL** |" in table
    assert "| two: ended by RuntimeError | 1.00 | = 0 | **FAIL** |" in table


def test_numbers_that_are_met_end_it_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bench-io", "--only", "one"])
    monkeypatch.setattr(
        bench_io, "PARTS", {"one": part(("sent", 2_000, ">= 2,000"), ("lost", 0, "= 0")), "two": broken}
    )
    bench_io.main()
