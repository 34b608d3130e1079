"""`decoupled serve`: the process that owns a data directory and writes, with fronts and workers beside it. Opens the
database, starts them all, and takes them down in the order that loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import msgspec
import uvloop

from decoupled.core import limits
from decoupled.core.dead_letters import DeadLetter, Outcome
from decoupled.core.semconv import MESSAGING_SYSTEM_HERE
from decoupled.core.times import Clock, now_ms
from decoupled.core.workload import Workloads
from decoupled.engines.protocols import StoreDamaged, StoreUnavailable
from decoupled.engines.sqlite import admin_socket, ordered, waiting
from decoupled.engines.sqlite.admin import Admin
from decoupled.engines.sqlite.data_directory import DataDirectory, Watch
from decoupled.engines.sqlite.database import Database, DataDirectoryError
from decoupled.engines.sqlite.dead_letters import SqliteDeadLetters
from decoupled.engines.sqlite.depths import Depths
from decoupled.engines.sqlite.driver import OLD_SQLITE, VERSION, wal_reset_bug
from decoupled.engines.sqlite.ends import SqliteEnds
from decoupled.engines.sqlite.history import HistoryFile
from decoupled.engines.sqlite.keys_file import KeysFile, SendersFile
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.outage import Outage
from decoupled.engines.sqlite.queue_clock import QueueClock
from decoupled.engines.sqlite.table import SqliteTable
from decoupled.engines.sqlite.wal import WriteAheadLog
from decoupled.pipeline.loading import load
from decoupled.pipeline.settlement import Policy
from decoupled.server.callers import proofs
from decoupled.server.callers.proofs import Asked
from decoupled.server.certificate import Served, served
from decoupled.server.counting import Counting, Requests
from decoupled.server.door import Door, Sender
from decoupled.server.fronts.crew import Fronts
from decoupled.server.group_commit import Writer
from decoupled.server.health import Trouble
from decoupled.server.last_resort import LastResort
from decoupled.server.listening import bind, listen, raise_file_limit, refuse_strangers
from decoupled.server.options import Options
from decoupled.server.outlet import standard_error
from decoupled.server.page_rules import rules_of
from decoupled.server.quiet import quiet_collector
from decoupled.server.quotas import Quotas
from decoupled.server.sampler import Sampler
from decoupled.server.scheduling.claims import Poller
from decoupled.server.scheduling.unserved import Unserved
from decoupled.server.server_health import ServerHealth
from decoupled.server.signals import listen_to_signals
from decoupled.server.watches import Watches
from decoupled.server.welcome import welcome
from decoupled.telemetry import process as telemetry

log = logging.getLogger("decoupled.server")


def serve(options: Options, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. Raises DataDirectoryError or ValueError when it cannot start, UnforeseenError when
    it had to stop."""
    raise_file_limit()
    load(options.workloads, options.root)
    if {"keys", "signatures"}.intersection(options.auth):  # it must be readable now: later, what is known of it counts
        (KeysFile if "keys" in options.auth else SendersFile)(options.data).look()
    certificate = served(options, now_ms)
    with bind(options.host, options.port) as listener:
        refuse_strangers(listener, options)
        directory = DataDirectory(options.data)
        database = directory.own()
        files = _Files(database.tend_log(), directory.watch())
        database.lost = files.watch
        if wal_reset_bug():
            log.warning(OLD_SQLITE, extra={"sqlite": VERSION})
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(options, directory, database, files, listener, certificate, announce))
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
    certificate: Served | None,
    announce: Callable[[str], None],
) -> None:
    loop = asyncio.get_running_loop()
    workloads = load(options.workloads, options.root)
    telemetry.start("writer", MESSAGING_SYSTEM_HERE)
    clock, queue_clock = Clock(_clock_set), QueueClock.keep(options.data)
    queue = SqliteQueue(database, queue_clock, clock.now_ms)
    released = _adopt(queue, database, workloads, options)
    writer = Writer(database, queue, loop, Counting(workloads))
    watches = Watches(SqliteEnds.adopted(database), writer.run)
    table = SqliteTable(database, Outage(options.data, queue_clock), queue_clock)
    poller = Poller(writer, queue, table, watches, Policy(options.max_attempts, clock.now_ms), options, workloads)
    writer.taker = poller
    quotas = _quotas(writer, database, options)
    poller.settler.emitting = quotas.emitting if options.caller_waiting else None
    health = ServerHealth(poller, Unserved(queue, workloads, loop.time), workloads, quotas)
    health.sizes = database.sizes
    health.looks += [writer.trouble, files.taken, files.long, partial(_damage, database)]

    door: Door
    if size := options.front_processes:
        given, answer = partial(_given, options, clock), health.answer
        door = Fronts(size, listener, given, quotas, watches, answer, loop, certificate, writer.counting.of_requests)
    else:
        requests = writer.counting.requests
        door = _inside(
            listener, quotas, watches, database, table, workloads, health, clock, options, certificate, requests
        )
    health.looks += [door.trouble, *([] if certificate is None else [certificate.trouble])]
    health.fronts = door.ready
    sampler = Sampler(
        writer.counting.numbers, Depths(directory, queue_clock), HistoryFile(options.data), loop, clock.now_ms
    )
    health.looks.append(sampler.trouble)
    stop = asyncio.Event()
    last_resort = LastResort(loop, stop.set, door.client)
    listen_to_signals(loop, stop, door)
    tools = None
    if (local := _admin_listener(directory)) is not None:
        letters = SqliteDeadLetters(database, clock.now_ms, queue_clock)
        tell = partial(_tell, watches, writer.counting)
        tools = await Admin(writer.run, letters, tell, health.look, loop).start(local)
    directory.publish(options.url)
    listen(listener)
    files.look_after(loop, stop)
    poller.start()
    await door.start()
    sampler.start()
    announce(welcome(options, workloads, released, health.unserved.look()))
    quiet_collector()
    await stop.wait()
    log.info("stopping")
    listener.close()
    if tools is not None:
        tools.close()
    await door.leave()
    await sampler.close()
    if files.taken():
        await poller.drain(0)
        return
    await _drain(poller, queue, options.drain_s)
    telemetry.stop()
    last_resort.check()


async def _drain(poller: Poller, queue: SqliteQueue, seconds: float) -> None:
    """Settle what is in flight, for so long; what is left is still on the queue, for the next server."""
    if not await poller.drain(seconds):
        log.warning("stopped before all in flight was settled; it is still on the queue")
    try:
        queue.release_in_flight()
    except StoreUnavailable as error:
        log.warning("what was in flight is visible again when a server starts", extra={"error": str(error)})


def _adopt(queue: SqliteQueue, database: Database, workloads: Workloads, options: Options) -> int:
    """Take over what an earlier server left: how many messages it had in flight. Raises DataDirectoryError."""
    try:
        released = queue.release_in_flight()
        ordered.adopt(database, workloads)
        waiting.adopt(database, counted=options.caller_waiting is not None)
    except StoreDamaged as error:
        raise DataDirectoryError(error.advice) from error
    except StoreUnavailable as error:
        raise DataDirectoryError(f"the data directory {options.data} cannot be written: {error}") from error
    database.begin_serving(log.critical)
    return released


def _quotas(writer: Writer, database: Database, options: Options) -> Quotas:
    """Of every caller; and of those whose keys have rates, as the file has it once a second."""
    read = KeysFile(options.data).look if "keys" in options.auth else lambda: None
    count = partial(waiting.count, database)
    quotas = Quotas(writer, options.caller_rate, options.caller_waiting, count, read, writer.loop, time.monotonic)
    if "keys" in options.auth:
        quotas.look_again()
    return quotas


def _given(options: Options, clock: Clock) -> dict[str, Any]:
    """What a front is told when it starts."""
    return {
        "workloads": options.workloads,
        "root": options.root and str(options.root),
        "log_level": options.log_level,
        "data": str(options.data.absolute()),
        "asked": msgspec.to_builtins(Asked.by(options)),
        "origins": options.cors_origins,
        "of": options.front_processes,
        "ahead_ms": clock.ahead_ms,
        "page": msgspec.to_builtins(rules_of(options)),
    }


def _inside(
    listener: socket.socket,
    sender: Sender,
    watches: Watches,
    database: Database,
    table: SqliteTable,
    workloads: Workloads,
    health: ServerHealth,
    clock: Clock,
    options: Options,
    certificate: Served | None,
    requests: Requests,
) -> Door:
    """A front within this process, for those that want no others."""
    from decoupled.server.http.inside import Inside
    from decoupled.server.page import page_of

    keys, senders = KeysFile(options.data), SendersFile(options.data)
    callers = proofs.callers(Asked.by(options), keys.look, senders.look, clock.now_ms)
    if callers is not None:
        health.looks.append(callers.trouble)
    answer, now, read, origins = health.answer, clock.now_ms, database.snapshot, options.cors_origins
    page = page_of(options.data, rules_of(options), workloads, callers, asyncio.get_running_loop())
    return Inside(
        listener, sender, watches, table, workloads, answer, now, read, callers, certificate, origins, page, requests
    )


def _tell(watches: Watches, counting: Counting, letters: Sequence[DeadLetter], outcomes: Sequence[Outcome]) -> None:
    """A tool has changed dead letters."""
    counting.changed(letters, outcomes)
    watches.tell_of([(letter.id, letter.workload, letter.caller) for letter in letters])


def _damage(database: Database) -> Trouble | None:
    what = database.damage.told()
    return None if what is None else Trouble(what)


def _clock_set(by_ms: int) -> None:
    log.warning("the system's clock was set; timestamps follow it, waits do not", extra={"by_s": by_ms / 1000})


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
