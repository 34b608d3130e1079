"""Counts the messages of a data directory beside its server, by indexes alone: no row of a large table is read. What
only the server knows, the breakers, it is asked at its own socket; one that does not answer there, over HTTP."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Any, assert_never

import msgspec

from decoupled.core import limits
from decoupled.core.metrics import Numbers
from decoupled.core.overview import Look, Overview
from decoupled.core.status import STATUSES, Status
from decoupled.core.times import now_ms
from decoupled.core.workload import Unavailable
from decoupled.engines.sqlite import tallies
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.departure import said_of
from decoupled.engines.sqlite.depths import waiting_now
from decoupled.engines.sqlite.messages import queued
from decoupled.engines.sqlite.queue_clock import QueueClock
from decoupled.engines.sqlite.tool import ServerNumbers

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
        return self.look_at_all().overview

    def look_at_all(self) -> Look:
        """What the file says, and what its server says."""
        with self.database.refusals:
            overview, dead_lately = self._count(self.clock_ms(), self.queue_clock_ms())
        numbers, health, notes = self._alone() if overview.server is None else self._told(overview.server)
        if health is not None:
            breakers, limited = health.get("breakers"), health.get("limited")
            overview = msgspec.structs.replace(overview, breakers=breakers, limited=limited)
            notes = [*notes, *_notes(health)]
        return Look(
            system=f"data directory {self.directory.path.absolute()}",
            engine="sqlite",
            overview=msgspec.structs.replace(overview, notes=notes),
            health=health,
            numbers=numbers,
            dead_lately=dead_lately,
        )

    def _alone(self) -> tuple[None, None, list[str]]:
        """What there is to note where no server runs."""
        return None, None, [said] if (said := said_of(self.database)) is not None else []

    def _told(self, server: str) -> tuple[Numbers | None, dict[str, Any] | None, list[str]]:
        """What only the server knows: its numbers, its health, and what there is to note."""
        with contextlib.suppress(Unavailable):  # an older one, or it has no socket, or is very busy
            if (told := ServerNumbers(self.directory).ask()) is not None:
                return *told, []
        return None, *_ask(server)

    def _count(self, now: int, visible_until: int) -> tuple[Overview, int]:
        """By the file alone; and how many have died lately."""
        self.database.execute("BEGIN")  # all counts are of the same moment
        try:
            unfinished, visible, in_flight, since = waiting_now(self.database, now, visible_until)
            by_workload = queued(self.database, limits.MAX_QUEUED_COUNTED)
            counts = self._by_status(unfinished)
            died = self._one(
                "SELECT count(*) FROM messages INDEXED BY messages_dead WHERE status = 'dead' AND finished_at > ?",
                now - limits.DEAD_LATELY_S * 1000,
            )
        finally:
            self.database.roll_back()
        overview = Overview(
            taken_at=now,
            queued=visible,
            in_flight=in_flight,
            delayed=unfinished - visible - in_flight,
            dead=counts["dead"],
            processed=counts["processed"],
            rejected=counts["rejected"],
            oldest_age_s=None if since is None else max(0.0, (now - since) / 1000),
            queued_by_workload=by_workload,
            server=self.directory.server_url(),
        )
        return overview, died

    def _by_status(self, queued: int) -> dict[Status, int]:
        """How many messages have each status, of which those that are `queued` were counted already."""
        total = tallies.messages(self.database)
        counts: dict[Status, int] = {}
        for status in STATUSES:
            match status:
                case "queued":
                    counts[status] = queued
                case "rejected":
                    counts[status] = tallies.rejected(self.database)
                case "dead":  # there is an index that holds nothing else
                    counts[status] = self._one("SELECT count(*) FROM messages WHERE status = 'dead'")
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


def _anyone() -> ssl.SSLContext:
    """Its certificate has the name that clients know it by, and not this machine's; and it is told no secret."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _ask(server: str) -> tuple[dict[str, Any] | None, list[str]]:
    """What GET /health says; or None, and why."""
    import urllib.error  # here, because every front loads this module, and none asks
    import urllib.request

    try:
        try:
            with urllib.request.urlopen(  # noqa: S310  our own server
                f"{server}/health", timeout=HEALTH_TIMEOUT_S, context=_anyone() if server.startswith("https") else None
            ) as answer:
                body = answer.read()
        except urllib.error.HTTPError as refusal:
            body = refusal.read()  # 503 with the same members: it cannot accept, and says why
        return msgspec.json.decode(body, type=dict[str, Any]), []
    except (OSError, msgspec.DecodeError) as error:
        return None, [f"the server does not answer GET /health: {error}"]


def _notes(health: Mapping[str, Any]) -> Iterator[str]:
    """What there is to note of it. A front whose writer hangs knows little."""
    if health.get("detail"):
        what = "nothing can be accepted" if health["status"] == "unavailable" else health["status"]
        yield f"{what}: {health['detail']}"
    if dropped := health.get("log_lines_dropped"):
        yield f"{dropped:,} lines of its log were dropped, because nobody read them in time"
    over = dict(health.get("workers_replaced", {}))
    over["calls that do not end"] = over.pop("stuck", 0)
    yield from (f"workers replaced for their {what}: {count:,}" for what, count in over.items() if count)
    yield from (f"{name}: {told['says']}" for name, told in health.get("upkeep", {}).items() if told.get("says"))


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
