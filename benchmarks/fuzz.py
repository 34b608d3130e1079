"""`python -m benchmarks.fuzz`: requests that are nearly right, on real sockets, to a real server. Good ones are made
and then spoilt: their JSON, their heads, their framing, any byte of them; and then sent in a row, cut anywhere, or not
to the end.

What must hold: every conversation comes to an end, of answers alone; no answer is a 5xx but 501, 503 and 505; whatever
got a 202 is in the store; the server has logged no traceback, lives, and ends as it should. A conversation is drawn
from the seed and its number alone: `--only` plays it again."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import re
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from decoupled.core import limits
from tests.support.clients import some_request
from tests.support.server import Server, serving

WORKLOADS = ("orders", "transactions", "readings")
CONVERSATIONS = 32  # at once
LENGTHS = (1, 1, 1, 2, 3)  # of conversations, in requests: most end with the first that cannot be read
ENDS_WITHIN_S = 60.0
ASKED_AT_ONCE = 500  # ids, of the store


def main() -> None:
    """Fuzz a server of this tree. Exits with 1 and says how to play it again if something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32))
    parser.add_argument("--only", type=int, help="the number of one conversation")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        found = fuzz(Path(directory), arguments.requests, arguments.seed, arguments.only)
    print(found.told())
    if found.broken:
        sys.exit(1)


@dataclass
class Found:
    """What came of it."""

    seed: int
    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    accepted: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    cut_off: int = 0  # clients that were still sending when their refusal had waited long enough for them
    seconds: float = 0.0
    peak_rss_mb: int = 0

    def told(self) -> str:
        """For a person."""
        statuses = ", ".join(f"{status}: {count:,}" for status, count in sorted(self.statuses.items()))
        lines = [
            f"{self.requests:,} requests in {self.seconds:.0f} s, answered {statuses}",
            f"{len(self.accepted):,} messages accepted, each looked up in the store; at most {self.peak_rss_mb} MB",
            f"{self.cut_off} slow clients cut off",
            *self.broken[:20],
            f"{len(self.broken)} broken promises; seed {self.seed}",
        ]
        return "\n".join(lines)


def fuzz(directory: Path, requests: int, seed: int, only: int | None = None) -> Found:
    """So many requests, or one conversation, to a server with its data in a directory."""
    found = Found(seed)
    began = time.monotonic()
    with serving(directory / "data", "--workloads", ",".join(WORKLOADS), "--concurrency", "1") as server:
        numbers = iter(range(1 << 62)) if only is None else iter([only])
        asyncio.run(_converse(server.port, found, numbers, requests))
        found.seconds = time.monotonic() - began
        found.peak_rss_mb = _peak_rss_mb(server.pid)
        if server.get("/health").json["status"] != "ok":
            found.broken.append(f"the server is not well: {server.get('/health').body!r}")
        found.broken += [f"accepted and not stored: {id_}" for id_ in _not_stored(server, found.accepted)]
    if "Traceback" in server.log.read_text(errors="replace"):
        found.broken.append(f"a traceback: {server.logged()}")
    return found


async def _converse(port: int, found: Found, numbers: Iterator[int], requests: int) -> None:
    async def one_after_the_other() -> None:
        for number in numbers:
            if found.requests >= requests:
                return
            conversation = Conversation(found.seed, number)
            found.requests += conversation.requests
            await _hold(port, conversation, found)

    await asyncio.gather(*(one_after_the_other() for _ in range(CONVERSATIONS)))


async def _hold(port: int, conversation: Conversation, found: Found) -> None:
    """A conversation, from beginning to end."""
    place = f"--seed {found.seed} --only {conversation.number}"
    began = time.monotonic()
    try:
        async with asyncio.timeout(ENDS_WITHIN_S):
            received = await _exchange(port, conversation)
    except TimeoutError:
        found.broken.append(f"{place}: no end within {ENDS_WITHIN_S} s")
        return
    except OSError as error:
        if time.monotonic() - began < limits.LINGER_S:
            found.broken.append(f"{place}: {error}")
        else:
            found.cut_off += 1
        return
    try:
        answers = [] if conversation.leaves else list(read_answers(received))
    except ValueError as error:
        found.broken.append(f"{place}: {error}: {received[-300:]!r}")
        return
    for status, body in answers:
        found.statuses[status] += 1
        if status >= 500 and status not in (501, 503, 505):
            found.broken.append(f"{place}: {status} {body[:300]!r}")
        if status == 202:
            answer = json.loads(body)
            found.accepted += [one["id"] for one in answer.get("accepted", [answer])]


async def _exchange(port: int, conversation: Conversation) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    received = asyncio.create_task(reader.read())
    try:
        for piece in conversation.pieces():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)  # so that pieces arrive as pieces, mostly
        if conversation.leaves:
            return b""
        writer.write_eof()
        return await received
    finally:
        received.cancel()
        await asyncio.gather(received, return_exceptions=True)
        writer.transport.abort()


def read_answers(received: bytes) -> Iterator[tuple[int, bytes]]:
    """Status and body of each answer. Raises ValueError for anything else than answers, and whole ones."""
    position = 0
    while position < len(received):
        head = _HEAD.match(received, position)
        if head is None:
            raise ValueError("this is no answer")
        position = head.end()
        if head[1] == b"100":
            continue
        length = _LENGTH.search(head[2])
        if length is None:
            raise ValueError("an answer has no length")
        to_head = received.startswith(b"HTTP/1.1 ", position) or position == len(received)  # ours are JSON else
        size = 0 if to_head else int(length[1])
        if position + size > len(received):
            raise ValueError("an answer is cut off")
        yield int(head[1]), received[position : position + size]
        position += size


_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [A-Za-z -]*\r\n((?:[a-z-]+: [^\r\n]*\r\n)*)\r\n")
_LENGTH = re.compile(rb"content-length: (\d+)\r\n")


def _not_stored(server: Server, ids: list[str]) -> list[str]:
    missing = []
    for start in range(0, len(ids), ASKED_AT_ONCE):
        some = ids[start : start + ASKED_AT_ONCE]
        rows = server.rows(f"SELECT id FROM messages WHERE id IN ({','.join('?' * len(some))})", *some)  # noqa: S608
        missing += sorted(set(some) - {id_ for (id_,) in rows})
    return missing


def _peak_rss_mb(pid: int) -> int:
    with contextlib.suppress(OSError):
        if peak := re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()):
            return int(peak[1]) // 1024
    return 0


# --- what is sent -------------------------------------------------------------


class Conversation:
    """What one client sends, drawn from a seed and a number."""

    def __init__(self, seed: int, number: int) -> None:
        self.number = number
        self.rng = rng = random.Random(f"{seed}/{number}")
        self.requests = rng.choice(LENGTHS)
        self.stream = b"".join(self._request() for _ in range(self.requests))
        if rng.random() < 0.15:
            self.stream = self.stream[: rng.randrange(len(self.stream))]
        self.leaves = rng.random() < 0.03  # without a word

    def pieces(self) -> Iterator[bytes]:
        """The stream, cut at random: mostly into few pieces, sometimes into single bytes."""
        cuts = self.rng.choices((0, 1, 5, 100), (5, 4, 3, 1))[0]
        places = sorted(self.rng.randrange(len(self.stream) + 1) for _ in range(cuts))
        for start, end in zip([0, *places], [*places, len(self.stream)], strict=True):
            yield self.stream[start:end]

    def _request(self) -> bytes:
        rng = self.rng
        if rng.random() < 0.3:
            method, path, lines, body = rng.choice(METHODS), rng.choice(PATHS), [], b""
        else:
            workload, body = self._body()
            method, path, lines = "POST", f"/{workload}", ["content-type: application/json"]
            if rng.random() < 0.2:
                lines.append(f'idempotency-key: "{rng.getrandbits(12)}"')
        if body and rng.random() < 0.2:
            lines.append("transfer-encoding: chunked")
            body = _in_chunks(body, rng)
        elif body or rng.random() < 0.3:
            lines.append(f"content-length: {len(body) + rng.choices((0, -1, 1, 9), (60, 1, 1, 1))[0]}")
        while rng.random() < 0.15:
            lines.insert(rng.randrange(len(lines) + 1), rng.choice(LINES))
        version = rng.choices(VERSIONS, VERSION_WEIGHTS)[0]
        head = "\r\n".join([f"{method} {path} HTTP/{version}", "host: x", *lines, "", ""]).encode("latin-1")
        request = head + body
        while rng.random() < 0.25:
            request = rng.choice(SPOIL)(request, rng)
        return request

    def _body(self) -> tuple[str, bytes]:
        rng = self.rng
        good = some_request(rng)
        while good.workload not in WORKLOADS:
            good = some_request(rng)
        entries = good.entries
        while rng.random() < 0.4:
            entries = _with_a_change(entries, rng)
        if rng.random() < 0.01:
            entries = (entries if isinstance(entries, list) else [entries]) * rng.choice((50, 300, 1_001))
        text = json.dumps(entries, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
        if rng.random() < 0.005:
            text = text.ljust(rng.choice((limits.MAX_ENTRY_BYTES, limits.MAX_ENTRY_BYTES + 1, 1 << 20)))
        text = text[: limits.MAX_REQUEST_BYTES + 1]  # of what is refused, so much more is read that it ends by itself
        while rng.random() < 0.1:
            text = rng.choice(SPOIL)(text, rng)
        return good.workload, text


def _with_a_change(value: Any, rng: random.Random, depth: int = 0) -> Any:
    """The same JSON with something else somewhere."""
    if isinstance(value, dict) and value and (depth == 0 or rng.random() < 0.8):
        name = rng.choice(list(value))
        kind = rng.randrange(8)
        if kind == 0:
            return {key: part for key, part in value.items() if key != name}
        if kind == 1:
            return {**value, rng.choice(("x", "", name.upper(), "a/b~c", "\ud800", "k" * 300)): rng.choice(SCALARS)}
        return {**value, name: _with_a_change(value[name], rng, depth + 1)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        if rng.random() < 0.1:
            return value * rng.choice((0, 2, 100))
        return [*value[:place], _with_a_change(value[place], rng, depth + 1), *value[place + 1 :]]
    return rng.choice(SCALARS)


def _in_chunks(body: bytes, rng: random.Random) -> bytes:
    chunks = []
    while body:
        size = rng.choice((1, 7, 50, len(body)))
        chunks.append(b"%x%b\r\n%b\r\n" % (len(body[:size]), rng.choices((b"", b";a=b"), (9, 1))[0], body[:size]))
        body = body[size:]
    return b"".join(chunks) + b"0\r\n" + rng.choices((b"", b"x-trailer: 1\r\n"), (9, 1))[0] + b"\r\n"


def _flip(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]


def _leave_out(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + data[place + rng.choice((1, 2, 20)) :]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[: place + rng.choice((1, 4, 60))] + data[place:]


def _insert(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.choice(BYTES) + data[place:]


def _insert_a_line(data: bytes, rng: random.Random) -> bytes:
    ends = [match.end() for match in re.finditer(rb"\r\n", data[:2_000])] or [0]
    place = rng.choice(ends)
    return data[:place] + rng.choice(LINES).encode("latin-1") + b"\r\n" + data[place:]


SPOIL: tuple[Callable[[bytes, random.Random], bytes], ...] = (_flip, _leave_out, _repeat, _insert, _insert_a_line)
METHODS = ("GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "BREW", "get", "")
PATHS = (
    *("/health", "/orders", "/orders/none", "/transactions/balances/ana.EUR", "/readings/hourly/pump-1.2026-11-23T10"),
    *(
        "/",
        "*",
        "//",
        "/orders/",
        "/a/b/c/d",
        "/orders/%00",
        "/orders/%zz",
        "/orders/%C3%A9",
        "/orders?a=b&a=%41&c",
        "",
    ),
    *(
        "http://x/health",
        "http://x",
        "HTTP://[::1]:1/health",
        "http://u@x/health",
        "ftp://x/",
        "/health#a",
        "/\xe4",
        "/ /",
    ),
    *("/orders/" + "x" * 3_000, "/orders?" + "a&" * 7_000, "/" + "%41" * 2_000, "/" + "y" * 17_000),
)
VERSIONS = ("1.1", "1.0", "0.9", "2.0", "1.2", "1.10", "x", "")
VERSION_WEIGHTS = (300, 20, 1, 1, 1, 1, 1, 1)
LINES = (
    *(
        "host: y",
        "Host: a b",
        "host:",
        "content-length: 5",
        "content-length: 0",
        "content-length: 99999999999999999999",
    ),
    *("content-length: 4194305", "content-length: 3, 3", "content-length: -1", "transfer-encoding: chunked"),
    *("transfer-encoding: gzip, chunked", "transfer-encoding: chunked, chunked", "transfer-encoding: identity"),
    *("connection: close", "connection: keep-alive", "connection: upgrade", "upgrade: h2c", "http2-settings: AAMAAABk"),
    *("expect: 100-continue", "expect: 200-ok", "content-type: text/plain", "content-type: application/order+json"),
    *("content-encoding: gzip", 'idempotency-key: "a"', "idempotency-key: a b", "cookie: a=b; c=d", "x-odd: \xe4\xff"),
    *("x-folded: a\r\n b", "x-nul: \0", "x-cr: a\rb", "x y: z", ": z", "no-colon", "x-many: " + "a, " * 3_000),
    *("x-long: " + "a" * 17_000, "\r\n".join(f"x-{n}: {n}" for n in range(150)), "GET / HTTP/1.1", ""),
)
BYTES: tuple[bytes, ...] = (
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b" ",
    b":",
    b";",
    b",",
    b"{",
    b"]",
    b'"',
    b"\xff\xfe",
    b"\\u0000",
    b"\xef\xbf\xbe",
    b"0\r\n\r\n",
    b"\r\n\r\n",
    b"[" * 2_000,
    b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n",
    b"\x16\x03\x01",
    b"9" * 400,
)
SCALARS: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 10**30, 10**400, 1.5, 1e308, float("nan"), float("inf"), "", "x", "x" * 300, "0", "1e3"),
    *("\0", "\ud800", "\ufffe", "\u2028", "é", "🛒", "\uff12", [], {}, [[]], [{}] * 600, {"a": {"b": [None]}}),
    *("EUR", "open", "2026-11-23T10:15:30Z", "9999-12-31T23:59:59+23:59", "39.90", "-0.00", "1" * 5_000),
    json.loads("[" * 300 + "]" * 300),
)

if __name__ == "__main__":
    main()
