"""A client that means well: so many requests a second, whatever becomes of those before, half of them orders on
connections that it keeps, half of them `GET /health` on connections of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from dataclasses import dataclass, field

from tests.support.server import Server

GIVEN_UP_S = 30.0
ORDER = json.dumps(
    {
        "customer": {"email": "ana@example.com", "name": "Ana Ruiz"},
        "currency": "EUR",
        "lines": [{"sku": "KB-104", "quantity": 2, "unit_price": "39.90"}],
        "shipping_address": {"line1": "1 Main Street", "city": "Dublin", "postal_code": "D01 F5P2", "country": "IE"},
    }
).encode()
POST = (
    b"POST /orders HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    b'idempotency-key: "honest-%%d"\r\ncontent-length: %d\r\n\r\n' % len(ORDER)
)
HEALTH = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Honest:
    """What it was answered, by status, and in how many seconds; `lost` by what went wrong instead."""

    server: Server
    answered: dict[str, Counter[int]] = field(default_factory=lambda: {"order": Counter(), "health": Counter()})
    took_s: dict[str, list[float]] = field(default_factory=lambda: {"order": [], "health": []})
    lost: Counter[str] = field(default_factory=Counter)
    silent_503s: int = 0  # those without a Retry-After
    _numbers: int = 0
    _kept: list[Stream] = field(default_factory=list)

    async def ask(self, per_s: float, seconds: float) -> None:
        """So many requests a second, for so long."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            for number in range(int(per_s * seconds)):
                await asyncio.sleep(began + number / per_s - loop.time())
                group.create_task(self._timed("health" if number % 2 else "order"))
        for _, writer in self._kept:
            writer.close()

    @property
    def asked(self) -> int:
        """How many requests."""
        return sum(map(len, self.took_s.values())) + self.lost.total()

    @property
    def refused(self) -> int:
        """How many were not answered 200 or 202."""
        return self.asked - self.answered["order"][202] - self.answered["health"][200]

    @property
    def only_polite_refusals(self) -> bool:
        """Nothing but answers, /health always, and at worst a 503 that says when to come again."""
        statuses = set(self.answered["order"]) - {202, 503} or set(self.answered["health"]) - {200}
        return not (statuses or self.lost or self.silent_503s)

    def told(self) -> str:
        """The answers, in words."""
        answers = [
            f"{count:,} of {kind} {status}"
            for kind, counter in self.answered.items()
            for status, count in sorted(counter.items())
        ]
        return ", ".join(answers + [f"lost {count:,} ({why})" for why, count in self.lost.items()])

    def p99_s(self, kind: str) -> float:
        """Of one kind; what was lost took for ever."""
        took_s = sorted(self.took_s[kind])
        return took_s[int(len(took_s) * 0.99)] if took_s else float("inf")

    async def _timed(self, kind: str) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(GIVEN_UP_S):
                status = await (self._order() if kind == "order" else self._health())
        except (OSError, EOFError, TimeoutError) as error:
            self.lost[f"{kind}: {type(error).__name__}"] += 1
        else:
            self.answered[kind][status] += 1
            self.took_s[kind].append(loop.time() - began)

    async def _order(self) -> int:
        """On a kept connection; once more on another one if the server has closed it meanwhile."""
        self._numbers += 1
        request = POST % self._numbers + ORDER
        while self._kept:
            stream = self._kept.pop()
            if not stream[0].at_eof():
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    return await self._exchange(stream, request)
        return await self._exchange(await self._connect(), request)

    async def _health(self) -> int:
        """On a new connection."""
        stream = await self._connect()
        return await self._exchange(stream, HEALTH)

    async def _connect(self) -> Stream:
        return await asyncio.open_connection("127.0.0.1", self.server.port)

    async def _exchange(self, stream: Stream, request: bytes) -> int:
        reader, writer = stream
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split()[1])
        lines = head.lower().splitlines()
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        await reader.readexactly(length)
        if b"connection: close" in lines:
            writer.close()
        else:
            self._kept.append(stream)
        self.silent_503s += status == 503 and not any(line.startswith(b"retry-after:") for line in lines)
        return status
