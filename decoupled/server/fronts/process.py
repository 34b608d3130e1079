"""A front: has clients, reads and checks what they send, and answers them. It writes nothing: messages go to the
writer's process, which has the queue; records are read by a connection of its own. Run as
`python -m decoupled.server.fronts.process`."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from decoupled.core.frames import frame
from decoupled.core.semconv import MESSAGING_SYSTEM_HERE
from decoupled.core.times import Clock
from decoupled.core.workload import Workloads
from decoupled.dashboard.access import Rules
from decoupled.engines.sqlite.database import FILE_NAME, Database
from decoupled.engines.sqlite.ends import SqliteEnds
from decoupled.engines.sqlite.keys_file import KeysFile, SendersFile
from decoupled.engines.sqlite.outage import Outage
from decoupled.engines.sqlite.queue_clock import QueueClock
from decoupled.engines.sqlite.table import SqliteTable
from decoupled.pipeline.loading import load
from decoupled.server import logs
from decoupled.server.callers import proofs
from decoupled.server.callers.callers import Callers
from decoupled.server.callers.proofs import Asked
from decoupled.server.certificate import Certificate
from decoupled.server.counting import Requests
from decoupled.server.fronts.link import Link
from decoupled.server.fronts.protocol import LISTENER, State, encode
from decoupled.server.fronts.seats import Seat, Seats
from decoupled.server.health import Look, Trouble
from decoupled.server.http.dashboard import Page
from decoupled.server.http.gateway import Gateway
from decoupled.server.http.listener import CLIENT, HttpServer
from decoupled.server.last_resort import LastResort
from decoupled.server.page import page_of
from decoupled.server.parent import end_before_it, end_with_parent, keep_from_children, leave_to_parent
from decoupled.server.quiet import quiet_collector
from decoupled.telemetry import process as telemetry

REPORT_S = 1.0
OOM_SCORE = 250  # after the workers

log = logging.getLogger("decoupled.fronts")


def main() -> None:
    """Arguments: the socket's number, and as JSON what `crew.py` and `app.py` say."""
    fd, given = int(sys.argv[1]), json.loads(sys.argv[2])
    leave_to_parent(signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
    connection = socket.socket(fileno=fd)
    end_with_parent(fd)
    end_before_it(OOM_SCORE)
    logs.configure_logs(given["log_level"])
    sys.stdout = logs.Printed()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(connection, given))


async def _serve(connection: socket.socket, given: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    workloads = load(given["workloads"], given["root"] and Path(given["root"]))
    telemetry.start("front", MESSAGING_SYSTEM_HERE, told=True)
    clock = Clock(ahead_ms=given["ahead_ms"])
    database, callers = _opened(Path(given["data"])), _callers(given, clock)
    if callers is not None:
        await callers.watch(loop)
    asked_to_leave: asyncio.Future[bool] = loop.create_future()

    def leave(at_once: bool) -> None:
        if not asked_to_leave.done():
            asked_to_leave.set_result(at_once)
        elif at_once:
            front.server.hurry()

    listener = _listener(connection)
    link = Link(loop, leave)
    await loop.create_connection(lambda: link, sock=connection)
    last_resort = LastResort(loop, lambda: leave(True), CLIENT)
    front = _front(given, link, database, workloads, callers, clock)
    front.server.start(listener)

    def report() -> None:
        link.report(front.troubles(), front.requests.take())
        loop.call_later(REPORT_S, report)

    def damaged(what: str) -> None:
        log.critical(what)
        link.report([Trouble(what)])

    quiet_collector()
    link.look()
    report()
    database.damage.tell = damaged
    at_once = await asked_to_leave
    await (front.server.stop() if at_once else front.server.retire())
    front.page.close()
    link.report([], front.requests.take())
    telemetry.stop()
    last_resort.check()


def _opened(data: Path) -> Database:
    database = Database(data / FILE_NAME, read_only=True)
    database.begin_serving(log.critical)
    return database


def _callers(given: dict[str, Any], clock: Clock) -> Callers | None:
    keys, senders = KeysFile(Path(given["data"])), SendersFile(Path(given["data"]))
    return proofs.callers(msgspec.convert(given["asked"], Asked), keys.look, senders.look, clock.now_ms)


def _listener(connection: socket.socket) -> socket.socket:
    """The front is ready, and gets it."""
    connection.sendall(frame(encode(State([]))))
    _, (listener,), _, _ = socket.recv_fds(connection, len(LISTENER), 1)
    keep_from_children(listener)
    return socket.socket(fileno=listener)


@dataclass(frozen=True, slots=True)
class _Front:
    """What has clients, and what is told of it."""

    server: HttpServer
    page: Page
    requests: Requests
    looks: Sequence[Look]

    def troubles(self) -> list[Trouble]:
        return [trouble for look in self.looks if (trouble := look()) is not None]


def _front(
    given: dict[str, Any], link: Link, database: Database, workloads: Workloads, callers: Callers | None, clock: Clock
) -> _Front:
    data, loop, of = Path(given["data"]), asyncio.get_running_loop(), given["of"]
    queue_clock, requests, ends = QueueClock.of(data), Requests(), SqliteEnds(database)
    table = SqliteTable(database, Outage(data, queue_clock), queue_clock)
    page = page_of(data, msgspec.convert(given["page"], Rules), workloads, callers, loop)
    now, snapshot, ask = clock.now_ms, database.snapshot, link.ask_health
    gateway = Gateway(link, table, ends, workloads, ask, loop, now, snapshot, callers, of, page, requests)
    link.watching = gateway.watching
    tls = None if given["certificate"] is None else Certificate.handed(given["certificate"]).context()
    gateway.scheme = "http" if tls is None else "https"
    seat = Seat(Seats(given["seats"]), given["seat"])
    server = HttpServer(gateway.handle, loop, of, seat, tls, given["origins"], gateway.hearing.close, requests)

    def damage() -> Trouble | None:
        told = database.damage.told()
        return None if told is None else Trouble(told)

    looks = [server.trouble, page.trouble, damage, *([] if callers is None else [callers.trouble])]
    return _Front(server, page, requests, looks)


if __name__ == "__main__":
    main()
