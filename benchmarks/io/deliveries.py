"""What receivers of webhooks get: one that answers at once, one that takes its time, and 99 that have a neighbour who
hangs. Clients and receivers are one process, in one loop; what that costs is told, as it has the same cores."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from benchmarks.io.receiver import Receiver
from benchmarks.report import Target
from tests.support.server import Server, serving

SLOW_S = 0.3
WARM_UP_S = 3.0
LOOK_S = 0.02
BATCH = 100  # entries of a request
LEAST_WAITING, MOST_WAITING = 500, 4_000
DRAIN_S = 60.0  # for what was accepted to be delivered, once nothing more is sent
SETTLE_S = 5.0  # for what was delivered to be stored
HEALTHY = [f"127.0.1.{n}" for n in range(1, 100)]
SICK = "127.0.2.1"
SICK_MESSAGES = 10_000
OFFERED_PER_S = 400  # to the healthy, together
RECOVERY_S = 120.0  # for what waited for the sick one, once it answers


@dataclass
class Clients:
    """Send notifications, and keep at which time of the loop each id that was accepted should have been sent."""

    session: aiohttp.ClientSession
    server: Server
    due: dict[str, float] = field(default_factory=dict)

    async def send(self, due: float, urls: Sequence[str]) -> list[str]:
        """One request; all of it must be accepted."""
        async with self.session.post(f"{self.server.url}/notifications", json=[_to(url) for url in urls]) as answer:
            body = await answer.json()
        if answer.status != 202 or body["rejected"]:
            raise RuntimeError(f"not accepted: {answer.status} {str(body)[:500]}")
        ids = [entry["id"] for entry in body["accepted"]]
        self.due.update(dict.fromkeys(ids, due))
        return ids


def _to(url: str) -> dict[str, Any]:
    to = [{"kind": "webhook", "url": url}]
    return {"to": to, "type": "order.shipped", "subject": "On its way", "text": "It comes tomorrow."}


@asynccontextmanager
async def _both(server: Server, receiver: Receiver, *hosts: str) -> AsyncIterator[Clients]:
    await receiver.listen(*hosts)
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64)) as session:
            yield Clients(session, server)
    finally:
        receiver.close()


def _serving_notifications(data: Path, hosts: Sequence[str], measure: Callable[[Server], Any]) -> Any:
    """With the defaults of `decoupled serve`, and the loopback allowed."""
    settings = {"WEBHOOK_SECRET": "whsec_YmVuY2htYXJrcw==", "WEBHOOK_TRUSTED_HOSTS": ",".join(hosts)}
    with serving(data, "--workloads", "notifications", "--log-level", "ERROR", environment=settings) as server:
        return uvloop.run(measure(server))


# --- one receiver -----------------------------------------------------------------


def fast(data: Path, seconds: float) -> list[Target]:
    """A receiver that answers at once."""
    return _one_receiver(data, seconds, 0.0, ">= 2,000")


def slow(data: Path, seconds: float) -> list[Target]:
    """A receiver that answers after 300 ms."""
    return _one_receiver(data, seconds, SLOW_S, ">= 1,000")


def _one_receiver(data: Path, seconds: float, answer_s: float, wanted: str) -> list[Target]:
    async def measure(server: Server) -> tuple[float, float, int]:
        receiver = Receiver(answer_s)
        async with _both(server, receiver, "127.0.0.1") as clients:
            per_s, cores = await _feed(clients, receiver, seconds)
            await _until(lambda: len(receiver.answered) >= len(clients.due), DRAIN_S)
            await _until(lambda: "queued" not in server.statuses(), SETTLE_S)
        return per_s, cores, _wrong(server, clients, receiver)

    per_s, cores, wrong = _serving_notifications(data, ["127.0.0.1"], measure)
    what = f"a receiver that answers after {answer_s * 1000:.0f} ms"
    return [
        (f"{what}: deliveries/s (clients and receiver took {cores:.2f} of a core)", per_s, wanted),
        (f"{what}: ids that were not delivered once and processed", wrong, "= 0"),
    ]


async def _feed(clients: Clients, receiver: Receiver, seconds: float) -> tuple[float, float]:
    """Deliveries a second, and what of a core this process took meanwhile. As many messages wait as are delivered in
    two seconds: enough for any concurrency, and few enough to be delivered afterwards."""
    loop = asyncio.get_running_loop()
    url, began = receiver.url("127.0.0.1"), loop.time()
    last_second = deque([(began, 0)])  # times, and how many were delivered by then
    since: tuple[float, int, float] | None = None
    while (now := loop.time()) < began + WARM_UP_S + seconds:
        delivered = len(receiver.answered)
        if since is None and now >= began + WARM_UP_S:
            since = now, delivered, time.process_time()
        last_second.append((now, delivered))
        while last_second[0][0] < now - 1:
            last_second.popleft()
        wanted = min(MOST_WAITING, max(LEAST_WAITING, 2 * (delivered - last_second[0][1])))
        if len(clients.due) - delivered < wanted:
            await clients.send(now, [url] * BATCH)
        else:
            await asyncio.sleep(LOOK_S)
    assert since is not None  # noqa: S101  the warm-up is over by now
    took_s = now - since[0]
    return (len(receiver.answered) - since[1]) / took_s, (time.process_time() - since[2]) / took_s


def _wrong(server: Server, clients: Clients, receiver: Receiver) -> int:
    """How many ids were accepted and not delivered, or twice, or have a record that does not say so; or were delivered
    and never accepted."""
    processed = {id_ for (id_,) in server.rows("SELECT id FROM messages WHERE status = 'processed'")}
    right = {id_ for id_ in clients.due if receiver.answered[id_] == 1} & processed
    return len(clients.due.keys() | receiver.came.keys() | processed) - len(right)


async def _until(done: Callable[[], bool], seconds: float) -> float:
    """Wait for it, at most so long; how long that was."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not done() and loop.time() < began + seconds:
        await asyncio.sleep(LOOK_S)
    return loop.time() - began


# --- a hundred receivers, one of them sick ------------------------------------------


def neighbour(data: Path, seconds: float) -> list[Target]:
    """99 receivers get the same load twice: alone, and from the moment on at which a 100th, which hangs, has 10,000
    messages."""

    targets: list[Target] = _serving_notifications(
        data, [SICK, *HEALTHY], lambda server: _alone_and_beside(server, seconds)
    )
    return targets


async def _alone_and_beside(server: Server, seconds: float) -> list[Target]:
    receiver = Receiver()
    receiver.hanging.add(SICK)
    async with _both(server, receiver, SICK, *HEALTHY) as clients:
        await _offer(clients, receiver, WARM_UP_S)
        alone = await _offer(clients, receiver, seconds)
        sick: list[str] = []
        while len(sick) < SICK_MESSAGES:
            sick += await clients.send(asyncio.get_running_loop().time(), [receiver.url(SICK)] * 1_000)
        beside = await _offer(clients, receiver, seconds)
        still_hangs = not any(receiver.answered[id_] for id_ in sick)
        receiver.heal()
        took_s = await _until(lambda: all(receiver.answered[id_] for id_ in clients.due), RECOVERY_S)
        await _until(lambda: "queued" not in server.statuses(), SETTLE_S)
    missing = sum(not receiver.answered[id_] for id_ in clients.due)
    statuses = server.statuses()
    return [
        *_compared(alone, beside, still_hangs),
        (f"and when it answers: messages not delivered after {took_s:.0f} s", missing, "= 0"),
        ("messages that died", statuses.get("dead", 0), "= 0"),
        ("messages that are not processed", len(clients.due) - statuses.get("processed", 0), "= 0"),
    ]


@dataclass(frozen=True, slots=True)
class _Offered:
    """What became of a load. What has not come took for ever."""

    per_s: float
    p50_s: float
    p99_s: float
    usual_p99_s: float  # of a second, the median of all: what others on the machine do now and then is not in it

    def told(self) -> str:
        return f"p50 {1000 * self.p50_s:.0f}, p99 {1000 * self.p99_s:.0f}, usually {1000 * self.usual_p99_s:.0f} ms"


async def _offer(clients: Clients, receiver: Receiver, seconds: float) -> _Offered:
    """So many notifications a second, whatever becomes of those before: a receiver each at every turn."""
    loop = asyncio.get_running_loop()
    a_turn = OFFERED_PER_S // 40
    urls = [receiver.url(host) for host in HEALTHY]
    began = loop.time()
    async with asyncio.TaskGroup() as sending:
        for turn in range(int(40 * seconds)):
            due = began + turn / 40
            await asyncio.sleep(due - loop.time())
            chosen = [urls[(turn * a_turn + n) % len(urls)] for n in range(a_turn)]
            sending.create_task(clients.send(due, chosen))
    ids = [id_ for id_, due in clients.due.items() if due >= began]
    await _until(lambda: all(id_ in receiver.came for id_ in ids), 1.0)
    took_s = [receiver.came.get(id_, float("inf")) - clients.due[id_] for id_ in ids]
    within = sum(receiver.came.get(id_, float("inf")) <= began + seconds for id_ in ids)
    each_second = [_part(0.99, took_s[start : start + OFFERED_PER_S]) for start in range(0, len(ids), OFFERED_PER_S)]
    return _Offered(within / seconds, _part(0.5, took_s), _part(0.99, took_s), _part(0.5, each_second))


def _part(part: float, numbers: Sequence[float]) -> float:
    """What that part of them is below."""
    return sorted(numbers)[int(len(numbers) * part)]


def _compared(alone: _Offered, beside: _Offered, still_hangs: bool) -> list[Target]:
    told = f"alone: {alone.told()}; beside it: {beside.told()}"
    return [
        ("99 receivers beside one that hangs: throughput, of that without it", beside.per_s / alone.per_s, ">= 0.90"),
        (f"p99 until delivery, of that without it ({told})", beside.p99_s / alone.p99_s, "<= 2"),
        ("did the one hang meanwhile?", still_hangs, "= 1"),
    ]
