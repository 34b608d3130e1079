"""Counts the messages of a data directory beside its server, by indexes alone: no row of a large table is read. What
only the server knows, the breakers, it is asked over HTTP."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, assert_never

import msgspec

from decoupled.core import limits
from decoupled.core.overview import Overview
from decoupled.core.status import STATUSES, Status
from decoupled.core.times import now_ms
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.messages import queued
from decoupled.engines.sqlite.queue_clock import QueueClock

HEALTH_TIMEOUT_S = limits.HEALTH_WAIT_S + 1.0  # a front waits so long for the writer, and then says so


class SqliteStats:
    """Implements Stats."""

    def __init__(
        self,
        directory: DataDirectory,
        clock_ms: Callable[[], int] = now_ms,
        queue_clock_ms: Callable[[], int] | None = None,
    ) -> None:
        self.directory = directory
        self.database = Database(directory.file, read_only=True)
        self.clock_ms = clock_ms
        self.queue_clock_ms = queue_clock_ms or QueueClock.of(directory.path)

    def look(self) -> Overview:
        with self.database.refusals:
            return self._look(self.clock_ms(), self.queue_clock_ms())

    def _look(self, now: int, visible_until: int) -> Overview:
        self.database.execute("BEGIN")  # all counts are of the same moment
        try:
            unfinished, visible = self.database.execute(
                """
                SELECT count(*), coalesce(sum(visible_at <= ?), 0)
                FROM messages INDEXED BY messages_queued WHERE status = 'queued'
                """,
                (visible_until,),
            ).fetchone()
            in_flight = self._one(
                """
                SELECT coalesce(sum(in_flight), 0) FROM messages INDEXED BY messages_queued
                WHERE status = 'queued' AND visible_at > ?
                """,
                visible_until,
            )
            oldest = self._one(
                """
                SELECT min(seq) FROM messages INDEXED BY messages_queued WHERE status = 'queued' AND seq NOT IN (
                    SELECT seq FROM messages INDEXED BY messages_due
                    WHERE status = 'queued' AND due_at IS NOT NULL AND due_at > ?
                )
                """,
                now,
            )
            since = None if oldest is None else self._one("SELECT accepted_at FROM messages WHERE seq = ?", oldest)
            by_workload = queued(self.database, limits.MAX_QUEUED_COUNTED)
            counts = self._by_status(unfinished)
        finally:
            self.database.roll_back()
        server = self.directory.server_url()
        health, notes = _ask(server) if server else (_Health(), [])
        return Overview(
            taken_at=now,
            queued=visible,
            in_flight=in_flight,
            delayed=unfinished - visible - in_flight,
            dead=counts["dead"],
            processed=counts["processed"],
            rejected=counts["rejected"],
            oldest_age_s=None if since is None else max(0.0, (now - since) / 1000),
            queued_by_workload=by_workload,
            server=server,
            breakers=health.breakers,
            limited=health.limited,
            notes=notes,
        )

    def _by_status(self, queued: int) -> dict[Status, int]:
        """How many messages have each status, of which those that are `queued` were counted already."""
        total = self._one("SELECT count(*) FROM messages")
        counts: dict[Status, int] = {}
        for status in STATUSES:
            match status:
                case "queued":
                    counts[status] = queued
                case "rejected" | "dead":  # each has an index that holds nothing else
                    counts[status] = self._one(f"SELECT count(*) FROM messages WHERE status = '{status}'")  # noqa: S608
                case "processed":  # the rest: an index of them would make every message dearer
                    pass
                case never:
                    assert_never(never)
        return {**counts, "processed": total - sum(counts.values())}

    def _one(self, statement: str, *values: Any) -> int:
        number: int = self.database.execute(statement, values).fetchone()[0]
        return number

    def close(self) -> None:
        """Close the connection."""
        self.database.close()


class _Health(msgspec.Struct):
    breakers: dict[str, dict[str, Any]] | None = None  # which, as the next, a front does not know whose writer hangs
    limited: dict[str, Any] | None = None
    status: str = "ok"
    detail: str | None = None
    log_lines_dropped: int = 0
    workers_replaced: dict[str, int] = {}


def _anyone() -> ssl.SSLContext:
    """Its certificate has the name that clients know it by, and not this machine's; and it is told no secret."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _ask(server: str) -> tuple[_Health, list[str]]:
    """What it says, and what of that there is to note."""
    try:
        try:
            with urllib.request.urlopen(  # noqa: S310  our own server
                f"{server}/health", timeout=HEALTH_TIMEOUT_S, context=_anyone() if server.startswith("https") else None
            ) as answer:
                body = answer.read()
        except urllib.error.HTTPError as refusal:
            body = refusal.read()  # 503 with the same members: it cannot accept, and says why
        health = msgspec.json.decode(body, type=_Health)
    except (OSError, msgspec.DecodeError) as error:
        return _Health(), [f"the server does not answer GET /health: {error}"]
    what = "nothing can be accepted" if health.status == "unavailable" else health.status
    notes = [f"{what}: {health.detail}"] if health.detail else []
    if health.log_lines_dropped:
        notes.append(f"{health.log_lines_dropped:,} lines of its log were dropped, because nobody read them in time")
    over = health.workers_replaced | {"calls that do not end": health.workers_replaced.get("stuck", 0), "stuck": 0}
    notes += [f"workers replaced for their {what}: {count:,}" for what, count in over.items() if count]
    return health, notes


def effects(database: Database, marker: str) -> dict[str, int]:
    """How many processed records there are for each customer address with this marker in it: what `decoupled spike`
    sent, counted where effects are, whatever the ids."""
    with database.refusals:
        rows = database.execute(
            """
            SELECT json_extract(result, '$.customer.email') AS address, count(*) FROM messages
            WHERE status = 'processed' AND instr(result, ?) > 0 GROUP BY address
            """,
            (marker,),
        )
        return dict(rows.fetchall())
