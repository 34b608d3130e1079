"""Finds what is due to be removed, by a connection beside the one that writes. No index has that: it would make each
message dearer. Rows stand in the order of their acceptance, so the file is read from the oldest on, a part at a time,
and of each part it is remembered when the first of it can be due: one whose rows are kept for years is read once."""

from __future__ import annotations

import math
from pathlib import Path

from decoupled.core.retention import Found, Looked, Retention
from decoupled.core.status import FINAL
from decoupled.core.upkeep_limits import SWEEP_MESSAGES
from decoupled.engines.protocols import StoreUnavailable
from decoupled.engines.sqlite.database import Database, DataDirectoryError


class Sweep:
    """Looks again and again, in one thread at a time."""

    def __init__(self, file: Path, records: Retention, bodies: Retention) -> None:
        self._file = file
        self._records = records
        self._bodies = bodies
        self._shortest = min(ms for ms in (records.shortest(), bodies.shortest(), math.inf) if ms is not None)
        self._due: dict[int, float] = {}  # by part: before that, nothing of it is
        self._database: Database | None = None

    def look(self, now_ms: int, part: int) -> Looked:
        """At the next part, from this one on, that may have something due. Raises StoreUnavailable."""
        try:
            if self._database is None:
                self._database = Database(self._file, read_only=True)
            with self._database.refusals:
                return self._look(self._database, now_ms, part)
        except DataDirectoryError as error:
            raise StoreUnavailable(str(error)) from error
        except StoreUnavailable:
            self.close()  # what is wrong may be over with another one
            raise

    def _look(self, database: Database, now_ms: int, part: int) -> Looked:
        while True:
            while self._due.get(part, -math.inf) > now_ms:
                part += 1
            first = database.execute(
                "SELECT seq, accepted_at FROM messages WHERE seq >= ? ORDER BY seq LIMIT 1", (part * SWEEP_MESSAGES,)
            ).fetchone()
            if first is None:
                return Looked([], [], None)
            part, oldest = first[0] // SWEEP_MESSAGES, first[1] + self._shortest
            if self._due.get(part, -math.inf) <= now_ms < oldest:
                self._due[part] = oldest
            elif self._due.get(part, -math.inf) <= now_ms:
                return self._read(database, now_ms, part)

    def _read(self, database: Database, now_ms: int, part: int) -> Looked:
        """By workload and status, of which there are few: so that SQLite does it, without Python's lock."""
        looked, due = Looked([], [], part + 1), math.inf
        bounds = (part * SWEEP_MESSAGES, (part + 1) * SWEEP_MESSAGES)
        groups = database.execute(
            """
            SELECT workload, status, min(finished_at), min(CASE WHEN body IS NOT NULL THEN finished_at END)
            FROM messages NOT INDEXED WHERE seq >= ? AND seq < ? GROUP BY workload, status
            """,
            bounds,
        ).fetchall()
        for workload, status, finished_at, with_body in groups:
            which = (*bounds, workload, status)
            if (ms := self._records.of(workload, status)) is not None:
                due = min(due, finished_at + ms)
                if finished_at + ms <= now_ms:
                    looked.records.extend(_found(database, (*which, now_ms - ms)))
            if status not in FINAL:  # it may end at any moment, or again
                soonest = [self._records.soonest(workload), self._bodies.soonest(workload)]
                due = min([due, *(now_ms + ms for ms in soonest if ms is not None)])
            elif with_body is not None and (ms := self._bodies.of(workload, status)) is not None:
                due = min(due, with_body + ms)
                if with_body + ms <= now_ms:
                    looked.bodies.extend(_found(database, (*which, now_ms - ms), "AND body IS NOT NULL"))
        self._due[part] = due  # of what is due now: it is looked for again, should it not be removed
        return looked

    def close(self) -> None:
        """Let go of the connection."""
        if self._database is not None:
            self._database.close()
            self._database = None


def _found(database: Database, which: tuple[int, int, str, str, int], more: str = "") -> list[Found]:
    rows = database.execute(
        f"""
        SELECT seq, finished_at FROM messages NOT INDEXED
        WHERE seq >= ? AND seq < ? AND workload = ? AND status = ? AND finished_at <= ? {more} ORDER BY seq
        """,  # noqa: S608  what is added is constant
        which,
    )
    return [Found(*row) for row in rows.fetchall()]
