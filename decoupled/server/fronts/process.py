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
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from decoupled.core.frames import frame
from decoupled.core.semconv import MESSAGING_SYSTEM_HERE
from decoupled.core.times import Clock
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
from decoupled.server.callers.proofs import Asked
from decoupled.server.certificate import Certificate
from decoupled.server.counting import Requests
from decoupled.server.fronts.link import Link
from decoupled.server.fronts.protocol import LISTENER, State, encode
from decoupled.server.fronts.seats import Seat, Seats
from decoupled.server.health import Trouble
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
    data = Path(given["data"])
    telemetry.start("front", MESSAGING_SYSTEM_HERE, told=True)
    clock, queue_clock = Clock(ahead_ms=given["ahead_ms"]), QueueClock.of(data)
    database = Database(data / FILE_NAME, read_only=True)
    database.begin_serving(log.critical)
    table = SqliteTable(database, Outage(data, queue_clock), queue_clock)
    keys, senders = KeysFile(data), SendersFile(data)
    callers = proofs.callers(msgspec.convert(given["asked"], Asked), keys.look, senders.look, clock.now_ms)
    if callers is not None:
        await callers.watch(loop)

    asked_to_leave: asyncio.Future[bool] = loop.create_future()

    def leave(at_once: bool) -> None:
        if not asked_to_leave.done():
            asked_to_leave.set_result(at_once)
        elif at_once:
            server.hurry()

    connection.sendall(frame(encode(State([]))))
    _, (listener,), _, _ = socket.recv_fds(connection, len(LISTENER), 1)
    keep_from_children(listener)
    link = Link(loop, leave)
    await loop.create_connection(lambda: link, sock=connection)
    last_resort = LastResort(loop, lambda: leave(True), CLIENT)
    seat = Seat(Seats(given["seats"]), given["seat"])
    of, ends, ask = given["of"], SqliteEnds(database), link.ask_health
    requests = Requests()
    page = page_of(data, msgspec.convert(given["page"], Rules), workloads, callers, loop)
    now, snapshot = clock.now_ms, database.snapshot
    gateway = Gateway(link, table, ends, workloads, ask, loop, now, snapshot, callers, of, page, requests)
    link.watching = gateway.watching
    tls = None if given["certificate"] is None else Certificate.handed(given["certificate"]).context()
    gateway.scheme = "http" if tls is None else "https"
    server = HttpServer(gateway.handle, loop, of, seat, tls, given["origins"], gateway.hearing.close, requests)
    server.start(socket.socket(fileno=listener))

    def report() -> None:
        told = database.damage.told()
        looks = [server.trouble(), None if told is None else Trouble(told)]
        looks += [] if callers is None else [callers.trouble()]
        link.report([trouble for trouble in looks if trouble is not None], requests.take())
        loop.call_later(REPORT_S, report)

    def damaged(what: str) -> None:
        log.critical(what)
        link.report([Trouble(what)])

    quiet_collector()
    link.look()
    report()
    database.damage.tell = damaged
    at_once = await asked_to_leave
    await (server.stop() if at_once else server.retire())
    page.close()
    link.report([], requests.take())
    telemetry.stop()
    last_resort.check()


if __name__ == "__main__":
    main()
