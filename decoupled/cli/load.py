"""Sends many orders at once and keeps a ledger of every one that was answered 202: the first half of `decoupled spike`.
A client like any other; what became of the orders is asked in `reconcile.py`."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import IO, Any
from urllib.parse import urlsplit

import aiohttp

from decoupled.core import limits

RESEND_EVERY = 100  # orders: one of so many is sent again under its key, as by a client that lost the answer
REQUEST_TIMEOUT_S = 30.0
REACH_TIMEOUT_S = 5.0  # for the first connection
_SKUS = ("KB-104", "MS-220", "CB-7", "DP-31")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send, where to, how fast. `run` is in every order, so that they can be told from all others."""

    url: str
    orders: int
    connections: int
    run: str
    rate: float | None = None  # orders a second; None: as fast as they are answered
    headers: Mapping[str, str] = field(default_factory=dict)
    sign: Callable[[str, str, Mapping[str, str], bytes], Mapping[str, str]] = lambda _method, _url, headers, _body: (
        headers
    )


@dataclass(frozen=True, slots=True)
class Accepted:
    """An order that got a 202. `sent_at` is in seconds of the loop's clock; `took_s` is that of the last try."""

    number: int
    id: str
    sent_at: float
    took_s: float


@dataclass(slots=True)
class Sent:
    """What was answered. `refused` counts answers that say no; `given_up` counts orders never answered for good, which
    the queue may hold or not; `resent` tells an order's other id, where sending it again gave another."""

    accepted: list[Accepted] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    given_up: int = 0
    tried_again: int = 0
    resent: dict[int, str] = field(default_factory=dict)


def address(run: str, number: int) -> str:
    """The customer of an order, who has no other: its reference."""
    return f"{run}-{number}@example.com"


def order(run: str, number: int) -> tuple[dict[str, Any], str]:
    """An order, and the total that it must come to."""
    lines = [
        {"sku": sku, "quantity": 1 + (number + place) % 4, "unit_price": f"{5 + (number * 7 + place) % 90}.{place}9"}
        for place, sku in enumerate(_SKUS[: 1 + number % len(_SKUS)])
    ]
    total = sum(int(str(line["quantity"])) * Decimal(str(line["unit_price"])) for line in lines)
    body = {
        "customer": {"email": address(run, number), "name": "Ana Ruiz"},
        "currency": "EUR",
        "lines": lines,
        "shipping_address": {"line1": "1 Main Street", "city": "Dublin", "postal_code": "D01 F5P2", "country": "IE"},
    }
    return body, str(total)


def session(plan: Plan) -> aiohttp.ClientSession:
    """A client with that many connections."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=plan.connections),
        timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
    )


async def reach(plan: Plan) -> None:
    """Raises ValueError if nobody listens where the orders are to go: then there is nothing to try again."""
    parts = urlsplit(plan.url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        async with asyncio.timeout(REACH_TIMEOUT_S):
            _, writer = await asyncio.open_connection(parts.hostname, port)
        writer.close()
    except (OSError, TimeoutError, ValueError) as error:
        raise ValueError(f"{plan.url} cannot be reached: {error or 'no answer'}") from error


async def send(
    plan: Plan, client: aiohttp.ClientSession, ledger: IO[str], on_answer: Callable[[Sent], None] = lambda _: None
) -> Sent:
    """Send every order until it is answered for good, `connections` at a time. The ledger, line-buffered,
    gets each id before the next order is sent on its connection."""
    sent = Sent()
    numbers = iter(range(plan.orders))
    started = time.monotonic()

    async def connection() -> None:
        for number in numbers:
            if plan.rate is not None and (early_s := started + number / plan.rate - time.monotonic()) > 0:
                await asyncio.sleep(early_s)
            accepted = await _send_one(plan, client, number, sent)
            if accepted is not None:
                sent.accepted.append(accepted)
                ledger.write(json.dumps({"id": accepted.id, "order": number, "key": _key(plan, number)}) + "\n")
                if number % RESEND_EVERY == 0:
                    await _resend(plan, client, accepted, sent)
            on_answer(sent)

    await asyncio.gather(*(connection() for _ in range(min(plan.connections, plan.orders))))
    return sent


def _key(plan: Plan, number: int) -> str:
    return f"{plan.run}-{number}"


async def _send_one(plan: Plan, client: aiohttp.ClientSession, number: int, sent: Sent) -> Accepted | None:
    for pause_s in _pauses():
        sent_at = time.monotonic()
        status, answer, retry_after = await _post(plan, client, number)
        if status == 202:
            return Accepted(number, answer["id"], sent_at, time.monotonic() - sent_at)
        if status and status != 429 and status < 500:
            sent.refused[f"{status} {answer.get('detail', '')}"] += 1
            return None
        sent.tried_again += 1
        await asyncio.sleep(min(max(pause_s, retry_after), limits.SPIKE_PAUSE_S))
    sent.given_up += 1
    return None


def _pauses() -> Iterator[float]:
    for tries in range(limits.SPIKE_TRIES):
        yield min(0.1 * 2**tries, limits.SPIKE_PAUSE_S)


async def _resend(plan: Plan, client: aiohttp.ClientSession, accepted: Accepted, sent: Sent) -> None:
    status, answer, _ = await _post(plan, client, accepted.number)
    if status == 202 and answer["id"] != accepted.id:
        sent.resent[accepted.number] = answer["id"]


async def _post(plan: Plan, client: aiohttp.ClientSession, number: int) -> tuple[int, dict[str, Any], float]:
    body, _ = order(plan.run, number)
    headers = {"content-type": "application/json", "idempotency-key": f'"{_key(plan, number)}"'}
    return await ask(plan, client, "POST", "/orders", headers, json.dumps(body).encode())


async def ask(
    plan: Plan,
    client: aiohttp.ClientSession,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> tuple[int, dict[str, Any], float]:
    """One request: status (0: no answer), the answer's object, and the seconds of its Retry-After."""
    url = plan.url + path
    signed = plan.sign(method, url, {**plan.headers, **(headers or {})}, body)
    try:
        async with client.request(method, url, data=body or None, headers=signed) as response:
            retry_after = response.headers.get("retry-after", "")
            answer = json.loads(await response.read())
            return response.status, answer, float(retry_after) if retry_after.isdecimal() else 0.0
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return 0, {}, 0.0
