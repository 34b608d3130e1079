"""The wiring of what a server does beside its requests: which pieces there are, and who is told of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any

from decoupled.core import limits
from decoupled.core.forgetting import Asked
from decoupled.core.retention import parse
from decoupled.core.status import FINAL, Status
from decoupled.core.times import Clock
from decoupled.core.workload import Workloads
from decoupled.engines.sqlite import acknowledging, departure
from decoupled.engines.sqlite.admin import Call
from decoupled.engines.sqlite.audit_blocks import mark_of
from decoupled.engines.sqlite.audit_rounds import AuditRounds, writing
from decoupled.engines.sqlite.backup import Backup
from decoupled.engines.sqlite.backup_place import BackupPlace
from decoupled.engines.sqlite.backup_tool import BEGIN, CANCEL, LOOK
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.erasure import Erased
from decoupled.engines.sqlite.forget_tool import BEGIN as FORGET
from decoupled.engines.sqlite.forget_tool import LOOK as FORGET_LOOK
from decoupled.engines.sqlite.forgetting import Forgetting
from decoupled.engines.sqlite.kept import Kept
from decoupled.engines.sqlite.litestream import Watched, drop_keys
from decoupled.engines.sqlite.sweep import Sweep
from decoupled.engines.sqlite.table import SqliteTable
from decoupled.server.group_commit import Writer
from decoupled.server.options import Options
from decoupled.server.server_health import ServerHealth
from decoupled.server.upkeep.auditing import Auditing
from decoupled.server.upkeep.backup_schedule import BackupSchedule, Plan
from decoupled.server.upkeep.backups import Backups
from decoupled.server.upkeep.departing import Departing
from decoupled.server.upkeep.disk import Disk
from decoupled.server.upkeep.forgetting import Forgettings, Owning
from decoupled.server.upkeep.piece import Piece
from decoupled.server.upkeep.replicating import Replicating
from decoupled.server.upkeep.retention import Keeping, Store

Ended = Callable[[Iterable[tuple[str, str, str]]], None]
"""Told of messages that have ended, each by its id, workload and caller: who waits for them asks then."""


def upkeep_of(
    options: Options,
    database: Database,
    writer: Writer,
    clock: Clock,
    table: SqliteTable,
    workloads: Workloads,
    departing: Departing,
    ended: Ended,
) -> Upkeep:
    """What is to be done in this server. `table` keeps the bodies of these workloads that shall be kept."""
    backups = Backups(partial(_backup, options.data, database, writer.loop, clock))
    auditing = _auditing(options.data, database, writer)
    keeping = Keeping(*_kept(options, database, workloads), writer, clock.now_ms)
    schedule = BackupSchedule(_plan(options), backups.begin_at, clock.now_ms)
    calls: dict[str, Call] = {BEGIN: backups.begin, LOOK: backups.look, CANCEL: backups.cancel}
    calls[acknowledging.CALL] = auditing.acknowledge
    calls |= {departure.CHANGE: departing.change, departure.LOOK: departing.look}
    calls[departure.REMEMBER] = departing.remember
    keeping.rests = departing.away
    forgettings = _forgettings(options.data, database, writer, clock, ended)
    calls |= {FORGET: forgettings.begin, FORGET_LOOK: forgettings.look}
    pieces: list[Piece] = [departing, backups, keeping, auditing, forgettings, schedule, Disk(options.data)]
    if options.replica is not None:
        pieces.append(_replicating(options.data, options.replica, database, writer, clock))
    else:  # those that it had once may be revoked by now
        drop_keys(database)
    upkeep = Upkeep(pieces, calls)

    def take(options: Options, changed: Set[str]) -> None:
        if changed & {"record_ttl", "body_ttl"}:
            table.keeps = bodies_kept(options, workloads)
            keeping.change(*_kept(options, database, workloads))
        if any(name.startswith("backup_") for name in changed):
            schedule.change(_plan(options))

    upkeep.take = take
    return upkeep


def _auditing(data: Path, database: Database, writer: Writer) -> Auditing:
    rounds = AuditRounds(DataDirectory(data).file, mark_of(database))
    return Auditing(rounds, writer, partial(writing, database), writer.loop, partial(acknowledging.write, database))


def _replicating(data: Path, replica: str, database: Database, writer: Writer, clock: Clock) -> Replicating:
    (database.wal or database.tend_log()).expect_another()
    return Replicating(Watched(data.absolute(), replica, database), replica, writer, writer.loop, clock.now_ms)


def _forgettings(data: Path, database: Database, writer: Writer, clock: Clock, ended: Ended) -> Forgettings:
    owning, file = Owning(writer), DataDirectory(data).file

    def erased(what: Erased) -> None:
        writer.counting.given_up(what.was)
        ended(what.whose)

    def make(asked: Asked) -> Forgetting:
        log = database.wal or database.tend_log()

        def told(what: Erased) -> None:
            writer.loop.call_soon_threadsafe(erased, what)

        return Forgetting(database, log, file, owning, asked, told, clock.now_ms)

    return Forgettings(owning, make)


def _backup(data: Path, database: Database, loop: asyncio.AbstractEventLoop, clock: Clock, to: Path) -> Backup:
    log = database.wal or database.tend_log()

    def in_owner(do: Callable[[], int]) -> int:
        async def done() -> int:
            return do()

        return asyncio.run_coroutine_threadsafe(done(), loop).result(limits.ANSWER_S)

    return Backup(data, to, log, in_owner, clock.now_ms)


def bodies_kept(options: Options, workloads: Workloads) -> Mapping[Status, frozenset[str]]:
    """The workloads whose final messages keep their bodies for a time, by what they have come to."""
    said = parse(options.body_ttl, "body_ttl")
    return {status: said.keeping(status, workloads) for status in FINAL}


def _kept(options: Options, database: Database, workloads: Workloads) -> tuple[Store | None, str]:
    """Who removes what is due, if anything ever is; and what was said of it, for people, who mistype names."""
    records, bodies = (parse(options.record_ttl, "record_ttl"), parse(options.body_ttl, "body_ttl"))
    due = any(said.shortest() is not None for said in (records, bodies))
    says = [("records", options.record_ttl), ("bodies", options.body_ttl)]
    kept = "; ".join(f"{what} {', '.join(said)}" for what, said in says if said)
    if strange := sorted((records.named() | bodies.named()) - set(workloads)):
        kept += f"; not served here: {', '.join(strange)}"
    return Kept(database, Sweep(DataDirectory(options.data).file, records, bodies)) if due else None, kept


def _plan(options: Options) -> Plan | None:
    """Of backups, if any are to be made."""
    if options.backup_dir is None:
        return None
    to = options.backup_dir.absolute()
    return Plan(BackupPlace(to, options.data), to, options.backup_every_s, options.backup_keep)


class Upkeep:
    """All pieces. `calls`: what tools may ask them at the admin socket, by name. `take`: goes on by other options, of
    which these have changed, by field."""

    def __init__(self, pieces: Sequence[Piece], calls: Mapping[str, Call] = {}) -> None:
        self.pieces = pieces
        self.calls = calls
        self.take: Callable[[Options, Set[str]], None] = lambda _options, _changed: None

    def show_in(self, health: ServerHealth) -> None:
        """Have /health and metrics tell of them."""
        health.looks += [piece.trouble for piece in self.pieces]
        health.upkeep = self

    def start(self) -> None:
        """Begin."""
        for piece in self.pieces:
            piece.start()

    async def close(self) -> None:
        """Begin nothing more."""
        await asyncio.gather(*(piece.close() for piece in self.pieces))

    def told(self) -> dict[str, Mapping[str, Any]]:
        """How each goes that has something to do."""
        return {piece.name: told for piece in self.pieces if (told := piece.told()) is not None}

    def numbers(self) -> dict[str, float]:
        """Gauges, by their metrics."""
        return {metric: number for piece in self.pieces for metric, number in piece.numbers().items()}

    def troubled(self) -> dict[str, float]:
        """1 for each that has a trouble, by name."""
        return {piece.name: float(piece.trouble() is not None) for piece in self.pieces}
