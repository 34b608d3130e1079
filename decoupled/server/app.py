"""`decoupled serve`: one process that owns a data directory. Opens the database, starts the writer, the poller with its
workers and the gateway, and takes them down in the order that loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import uvloop

from decoupled.core import limits
from decoupled.core.times import Clock
from decoupled.core.workload import Workloads
from decoupled.engines.protocols import StoreDamaged, StoreUnavailable
from decoupled.engines.sqlite import admin_socket, ordered
from decoupled.engines.sqlite.data_directory import DataDirectory, Watch
from decoupled.engines.sqlite.database import Database, DataDirectoryError
from decoupled.engines.sqlite.dead_letters import SqliteDeadLetters
from decoupled.engines.sqlite.driver import VERSION, wal_reset_bug
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.outage import Outage
from decoupled.engines.sqlite.queue_clock import QueueClock
from decoupled.engines.sqlite.table import SqliteTable
from decoupled.engines.sqlite.wal import WriteAheadLog
from decoupled.pipeline.loading import load
from decoupled.pipeline.settlement import Policy
from decoupled.server.group_commit import Writer
from decoupled.server.health import Look, Trouble, summary
from decoupled.server.http.admin import Admin
from decoupled.server.http.gateway import Gateway
from decoupled.server.http.listener import HttpServer, bind, raise_file_limit
from decoupled.server.last_resort import LastResort
from decoupled.server.options import Options
from decoupled.server.outlet import standard_error
from decoupled.server.scheduling.claims import Poller
from decoupled.server.scheduling.unserved import Unserved

log = logging.getLogger("decoupled.server")


def serve(options: Options, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. Raises DataDirectoryError or ValueError when it cannot start, UnforeseenError when
    it had to stop."""
    raise_file_limit()
    load(options.workloads, options.root)
    with bind(options.host, options.port) as listener:
        directory = DataDirectory(options.data)
        database = directory.own()
        files = _Files(database.tend_log(), directory.watch())
        database.lost = files.watch
        if wal_reset_bug():
            log.warning(_OLD_SQLITE, extra={"sqlite": VERSION})
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(options, directory, database, files, listener, announce))
        finally:
            if (why := files.watch.all()) is not None:
                _abandon(why)
            directory.withdraw()
            database.close()


async def _serve(
    options: Options,
    directory: DataDirectory,
    database: Database,
    files: _Files,
    listener: socket.socket,
    announce: Callable[[str], None],
) -> None:
    loop = asyncio.get_running_loop()
    workloads = load(options.workloads, options.root)
    clock, queue_clock = Clock(_clock_set), QueueClock.keep(options.data)
    queue = SqliteQueue(database, queue_clock, clock.now_ms)
    try:
        released = queue.release_in_flight()
        ordered.adopt(database, workloads)
    except StoreDamaged as error:
        raise DataDirectoryError(error.advice) from error
    except StoreUnavailable as error:
        raise DataDirectoryError(f"the data directory {options.data} cannot be written: {error}") from error
    database.begin_serving(log.critical)
    unserved = Unserved(queue, workloads, loop.time)
    writer = Writer(database, queue, loop)
    table = SqliteTable(database, Outage(options.data, queue_clock), queue_clock)
    poller = Poller(writer, queue, table, Policy(options.max_attempts, clock.now_ms), options, workloads)
    writer.taker = poller

    def damage() -> Trouble | None:
        what = database.damage.told()
        return None if what is None else Trouble(what)

    looks: list[Look] = [writer.trouble, *(crew.trouble for crew in poller.crews)]
    looks += [files.taken, files.long, damage, standard_error.trouble, poller.groups.trouble]

    def health() -> Mapping[str, Any]:
        return {
            **summary(looks),
            "workloads": list(workloads),
            "workers": sum(crew.ready() for crew in poller.crews),
            "workers_replaced": {
                over: sum(crew.replaced[over] for crew in poller.crews) for over in poller.crew.replaced
            },
            "breakers": poller.breakers.states(),
            "not_served": unserved.look(),
            "log_lines_dropped": standard_error.dropped,
        }

    asked_to_stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked_to_stop.set)
    last_resort = LastResort(loop, asked_to_stop.set)
    servers = []
    if (local := _admin_listener(directory)) is not None:
        letters = SqliteDeadLetters(database, clock.now_ms, queue_clock)
        servers.append(HttpServer(Admin(writer, letters).handle, loop))
        servers[-1].start(local)
    servers.append(HttpServer(Gateway(writer, table, workloads, health, clock.now_ms).handle, loop))
    servers[-1].start(listener)
    looks += [server.trouble for server in servers]
    files.look_after(loop, asked_to_stop)
    poller.start()
    directory.publish(options.url)
    announce(_welcome(options, workloads, released, unserved.look()))
    _quiet_collector()
    await asked_to_stop.wait()
    log.info("stopping")
    await asyncio.gather(*(server.stop() for server in servers))
    if files.taken():
        await poller.drain(0)
        return
    if not await poller.drain(options.drain_s):
        log.warning("stopped before all in flight was settled; it is still on the queue")
    try:
        queue.release_in_flight()
    except StoreUnavailable as error:
        log.warning("what was in flight is visible again when a server starts", extra={"error": str(error)})
    last_resort.check()


def _clock_set(by_ms: int) -> None:
    log.warning("the system's clock was set; timestamps follow it, waits do not", extra={"by_s": by_ms / 1000})


_OLD_SQLITE = (
    "this SQLite may damage a file that two programs write at the same moment; decoupled and its tools never do, so let"
    " no other program write to it. The README says how to get a newer SQLite"
)


@dataclass(frozen=True, slots=True)
class _Files:
    """Those of the data directory, while the server has them open."""

    wal: WriteAheadLog
    watch: Watch

    def taken(self) -> Trouble | None:
        """They are not ours any more."""
        return None if self.watch.lost is None else Trouble(self.watch.lost, refuses=True)

    def long(self) -> Trouble | None:
        """The log grows."""
        why = self.wal.trouble()
        return None if why is None else Trouble(why, self.wal.refuses)

    def look_after(self, loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
        """About once a second, between transactions: also when nobody writes."""
        if self.watch.all() is not None:
            stop.set()
            return
        with contextlib.suppress(StoreUnavailable):  # who writes is told, and health says it
            self.wal.tend()
        loop.call_later(limits.FILES_LOOK_S, self.look_after, loop, stop)


def _abandon(why: str) -> NoReturn:
    """End without closing the database: SQLite would delete the log of that name, which is somebody else's by now."""
    log.critical("the server ends: its files are not its own any more", extra={"error": why})
    standard_error.flush(limits.LOG_FLUSH_S)
    os._exit(1)


def _admin_listener(directory: DataDirectory) -> socket.socket | None:
    """Not every file system has sockets; requests are served all the same."""
    try:
        return admin_socket.listen(directory.path)
    except OSError as error:
        log.warning("tools can change no dead letters while this server runs", extra={"error": str(error)})
        return None


def _quiet_collector() -> None:
    """What is alive now stays alive: the garbage collector need not walk it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _welcome(options: Options, workloads: Workloads, released: int, unserved: Mapping[str, int]) -> str:
    url = options.url
    lines = [
        f"decoupled serves {', '.join(workloads)} on {url}; data in {options.data.resolve()}",
        *([f"{released} messages were in flight when the last server died; they are visible again"] * bool(released)),
    ]
    lines += [
        f"{count:,} messages of {name!r} are queued, which is not served: they wait" for name, count in unserved.items()
    ]
    if "orders" in workloads:
        lines += [
            "",
            "Send an order, then ask what became of it:",
            "",
            f"  curl -i {url}/orders -H 'content-type: application/json' -d '"
            '{"customer": {"email": "ana@example.com", "name": "Ana Ruiz"}, "currency": "EUR",'
            ' "lines": [{"sku": "KB-104", "quantity": 2, "unit_price": "39.90"}],'
            ' "shipping_address": {"line1": "1 Main Street", "city": "Dublin", "postal_code": "D01 F5P2",'
            """ "country": "IE"}}'""",
            f"  curl {url}/orders/<id>",
            "",
        ]
    return "\n".join(lines)
