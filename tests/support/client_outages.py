"""Ten minutes in which whatever a workload calls is in trouble, by real client libraries and real sockets, in the
virtual time of the whole pipeline; then the trouble ends. Each library with each trouble is a workload of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

from decoupled.core.workload import Effects, Message, Workload
from tests.support.network_trouble import HTTP_CLIENTS, answering, hang, refusing, reset, say
from tests.support.virtual_time import EPOCH_MS, EmbeddedInVirtualTime, run

TEN_MINUTES_S = 600
ENOUGH_S = 1_800  # for messages to come back that were put off by the longest backoff, 15 minutes
TIMEOUT_S = 0.05  # of a call, in time that really passes
MESSAGES = 12  # of each workload: more than it takes to open a breaker
TROUBLES = ("refused", "hang", "reset", "503", "dns")

Places = dict[str, tuple[str, int]]
Statuses = dict[str, dict[str, int]]
"""How many messages have each status, by workload: `{"urllib_hang": {"queued": 12}}`."""


class Call(Struct):
    """An entry that says nothing: its workload knows whom to call."""


def ten_minutes(spread: Callable[[], float]) -> tuple[Statuses, Statuses]:
    """The statuses after ten minutes of trouble, and after the time that it takes from then on to process all."""
    with _places() as places, ThreadPoolExecutor(1) as thread:
        names = [(library, trouble) for library in HTTP_CLIENTS for trouble in TROUBLES]
        workloads = {workload.name: workload for workload in (_calls(*pair, places, thread) for pair in names)}

        async def trouble_and_its_end() -> tuple[Statuses, Statuses]:
            server = EmbeddedInVirtualTime(workloads, spread=spread)
            for name in workloads:
                server.send([Message(f"{name}-{n}", name, "{}", "anonymous", EPOCH_MS) for n in range(MESSAGES)])
            server.start()
            await asyncio.sleep(TEN_MINUTES_S)
            during = _statuses(server)
            places.update(dict.fromkeys(TROUBLES, places["well"]))
            await server.until_finished(ENOUGH_S)
            return during, _statuses(server)

        return run(trouble_and_its_end())


@contextlib.contextmanager
def _places() -> Iterator[Places]:
    """Where to find each trouble, and who is well."""
    unavailable = say("HTTP/1.1 503 No\ncontent-length: 0\n\n")
    fine = say("HTTP/1.1 200 OK\ncontent-type: application/x-amz-json-1.0\ncontent-length: 2\n\n{}")
    servers = {"hang": hang, "reset": reset, "503": unavailable, "well": fine}
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(answering(answer)) for name, answer in servers.items()}
        ports["refused"] = stack.enter_context(refusing())
        yield {name: ("127.0.0.1", port) for name, port in ports.items()} | {"dns": ("backend.invalid", 80)}


def _calls(library: str, trouble: str, places: Places, thread: ThreadPoolExecutor) -> Workload:
    def process(_entry: Call, _message: Message) -> Effects:
        # In a thread, because aiohttp's loop cannot run within the one that virtual time has here.
        thread.submit(HTTP_CLIENTS[library], *places[trouble], TIMEOUT_S).result()
        return Effects({})

    return Workload(f"{library}_{trouble}", Call, process)


def _statuses(server: EmbeddedInVirtualTime) -> Statuses:
    found: Statuses = {}
    for workload, status, count in server.database.execute(
        "SELECT workload, status, count(*) FROM messages GROUP BY workload, status"
    ):
        found.setdefault(workload, {})[status] = count
    return found
