"""`decoupled serve`: the process that owns a data directory and writes, with fronts and workers beside it. Opens the
database, starts them all, and takes them down in the order that loses nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import uvloop

from decoupled.core.dead_letters import DeadLetter, Outcome
from decoupled.core.semconv import MESSAGING_SYSTEM_HERE
from decoupled.core.times import Clock, now_ms
from decoupled.core.upkeep_limits import STOP_GENTLY_S
from decoupled.core.workload import Workloads
from decoupled.engines.protocols import StoreDamaged, StoreUnavailable
from decoupled.engines.sqlite import admin_socket, ordered, waiting
from decoupled.engines.sqlite.admin import Admin
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.database import Database, DataDirectoryError
from decoupled.engines.sqlite.dead_letters import SqliteDeadLetters
from decoupled.engines.sqlite.departure import Departed, refuse_half_arrived
from decoupled.engines.sqlite.depths import Depths
from decoupled.engines.sqlite.driver import OLD_SQLITE, VERSION, wal_reset_bug
from decoupled.engines.sqlite.ends import SqliteEnds
from decoupled.engines.sqlite.history import HistoryFile
from decoupled.engines.sqlite.keys_file import KeysFile, SendersFile
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.outage import Outage
from decoupled.engines.sqlite.queue_clock import QueueClock
from decoupled.engines.sqlite.table import SqliteTable
from decoupled.pipeline.loading import load
from decoupled.pipeline.settlement import Policy
from decoupled.server.callers import proofs
from decoupled.server.callers.proofs import Asked
from decoupled.server.certificate import Served, served
from decoupled.server.counting import Counting
from decoupled.server.door import Door
from decoupled.server.files import Files, abandon
from decoupled.server.fronts.crew import Fronts
from decoupled.server.fronts.given import given_to_fronts
from decoupled.server.group_commit import Writer
from decoupled.server.health import Trouble
from decoupled.server.last_resort import LastResort
from decoupled.server.listening import bind, listen, raise_file_limit, refuse_strangers
from decoupled.server.options import Options
from decoupled.server.page_rules import rules_of
from decoupled.server.quiet import quiet_collector
from decoupled.server.quotas import Quotas
from decoupled.server.reload import Reload, take_over
from decoupled.server.sampler import Sampler
from decoupled.server.scheduling.claims import Poller
from decoupled.server.scheduling.unserved import Unserved
from decoupled.server.server_health import ServerHealth
from decoupled.server.service_manager import ServiceManager
from decoupled.server.signals import listen_to_signals
from decoupled.server.upkeep.departing import Departing
from decoupled.server.upkeep.upkeep import Upkeep, bodies_kept, upkeep_of
from decoupled.server.watches import Watches
from decoupled.server.welcome import welcome
from decoupled.telemetry import process as telemetry

log = logging.getLogger("decoupled.server")


def serve(options: Options, read: Callable[[], Options], announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP has the options `read` again. Raises DataDirectoryError or ValueError when
    it cannot start, UnforeseenError when it had to stop."""
    raise_file_limit()
    load(options.workloads, options.root)
    if {"keys", "signatures"}.intersection(options.auth):  # it must be readable now: later, what is known of it counts
        (KeysFile if "keys" in options.auth else SendersFile)(options.data).look()
    certificate = served(options, now_ms)
    manager, reload = ServiceManager(os.environ, os.getpid()), Reload(options, read)
    options = reload.options = manager.listening(options)
    with manager.listener or bind(options.host, options.port) as listener:
        refuse_strangers(listener, options)
        directory = DataDirectory(options.data)
        database = directory.own()
        files = Files(database.tend_log(), directory.watch())
        database.lost = files.watch
        if wal_reset_bug():
            log.warning(OLD_SQLITE, extra={"sqlite": VERSION})
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(reload, directory, database, files, listener, certificate, manager, announce))
        finally:
            if (why := files.watch.all()) is not None:
                abandon(why)
            directory.withdraw()
            database.close()


async def _serve(
    reload: Reload,
    directory: DataDirectory,
    database: Database,
    files: Files,
    listener: socket.socket,
    certificate: Served | None,
    manager: ServiceManager,
    announce: Callable[[str], None],
) -> None:
    loop = asyncio.get_running_loop()
    options = reload.options
    made = _made(options, database, files, loop)
    reload.take = partial(take_over, made.poller, made.quotas, made.upkeep)
    door = _door(made, reload, database, listener, certificate)
    numbers, depths = made.writer.counting.numbers, Depths(directory, made.queue_clock)
    sampler = Sampler(numbers, depths, HistoryFile(options.data), loop, made.clock.now_ms)
    made.health.looks += [sampler.trouble, reload.trouble]
    stop = asyncio.Event()
    last_resort = LastResort(loop, stop.set, door.client)

    def renew() -> None:
        reload()
        door.renew()

    listen_to_signals(loop, stop, renew)
    tools = await _tools(made, directory, database)
    directory.publish(options.url, options.page == "on")
    listen(listener)
    files.look_after(loop, stop)
    made.poller.start()
    await door.start()
    sampler.start()
    made.upkeep.start()
    announce(welcome(options, made.workloads, made.released, made.health.unserved.look(), made.entry.notes()))
    manager.ready(made.health.looks, loop)
    quiet_collector()
    await stop.wait()
    log.info("stopping")
    manager.stopping()
    listener.close()
    if tools is not None:
        tools.close()
    await door.leave(0.0 if manager.listener is None else STOP_GENTLY_S)
    await asyncio.gather(sampler.close(), made.upkeep.close())
    if files.taken():
        await made.poller.drain(0)
        return
    await _drain(made.poller, made.queue, options.drain_s)
    telemetry.stop()
    last_resort.check()


@dataclass(frozen=True, slots=True)
class _Made:
    """What writes and schedules, and what is told of it. `released`: how many messages an earlier server left."""

    workloads: Workloads
    clock: Clock
    queue_clock: QueueClock
    queue: SqliteQueue
    released: int
    writer: Writer
    watches: Watches
    table: SqliteTable
    poller: Poller
    quotas: Quotas
    entry: Departing  # where messages come in
    health: ServerHealth
    upkeep: Upkeep


def _made(options: Options, database: Database, files: Files, loop: asyncio.AbstractEventLoop) -> _Made:
    workloads = load(options.workloads, options.root)
    telemetry.start("writer", MESSAGING_SYSTEM_HERE)
    clock, queue_clock = Clock(_clock_set), QueueClock.keep(options.data)
    queue = SqliteQueue(database, queue_clock, clock.now_ms)
    released = _adopt(queue, database, workloads, options)
    writer = Writer(database, queue, loop, Counting(workloads))
    watches = Watches(SqliteEnds.adopted(database), writer.run)
    table = SqliteTable(database, Outage(options.data, queue_clock), queue_clock, bodies_kept(options, workloads))
    poller = Poller(writer, queue, table, watches, Policy(options.max_attempts, clock.now_ms), options, workloads)
    writer.taker = poller
    quotas = _quotas(writer, database, options)
    poller.settler.emitting = quotas.emitting if options.caller_waiting else None
    health = ServerHealth(poller, Unserved(queue, workloads, loop.time), workloads, quotas)
    health.sizes = database.sizes
    health.looks += [writer.trouble, files.taken, files.long, partial(_damage, database)]
    entry = Departing(Departed(database), writer, poller, quotas, clock.now_ms)
    upkeep = upkeep_of(options, database, writer, clock, table, workloads, entry, watches.tell_of)
    upkeep.show_in(health)
    return _Made(
        workloads, clock, queue_clock, queue, released, writer, watches, table, poller, quotas, entry, health, upkeep
    )


def _door(made: _Made, reload: Reload, database: Database, listener: socket.socket, certificate: Served | None) -> Door:
    door: Door
    if size := reload.options.front_processes:
        given, answer = lambda: given_to_fronts(reload.options, made.clock), made.health.answer
        loop, count = made.writer.loop, made.writer.counting.of_requests
        door = Fronts(size, listener, given, made.entry, made.watches, answer, loop, certificate, count)
    else:
        door = _inside(made, reload.options, database, listener, certificate)
    made.health.looks += [door.trouble, *([] if certificate is None else [certificate.trouble])]
    made.health.fronts = door.ready
    return door


async def _tools(made: _Made, directory: DataDirectory, database: Database) -> asyncio.Server | None:
    """Not every file system has sockets; requests are served all the same."""
    try:
        local = admin_socket.listen(directory.path)
    except OSError as error:
        log.warning("tools can change no dead letters while this server runs", extra={"error": str(error)})
        return None
    letters = SqliteDeadLetters(database, made.clock.now_ms, made.queue_clock)
    tell = partial(_tell, made.watches, made.writer.counting)
    admin = Admin(made.writer.run, letters, tell, made.health.look, made.writer.loop)
    admin.calls |= made.upkeep.calls
    return await admin.start(local)


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
        refuse_half_arrived(database)
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


def _inside(
    made: _Made, options: Options, database: Database, listener: socket.socket, certificate: Served | None
) -> Door:
    """A front within this process, for those that want no others."""
    from decoupled.server.http.inside import Inside
    from decoupled.server.page import page_of

    clock, health = made.clock, made.health
    keys, senders = KeysFile(options.data), SendersFile(options.data)
    callers = proofs.callers(Asked.by(options), keys.look, senders.look, clock.now_ms)
    page = page_of(options.data, rules_of(options), made.workloads, callers, made.writer.loop)
    health.looks += [page.trouble, *([] if callers is None else [callers.trouble])]
    requests, origins = made.writer.counting.requests, options.cors_origins
    sender, watches, table, workloads = made.entry, made.watches, made.table, made.workloads
    now, read, answer = clock.now_ms, database.snapshot, health.answer
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
