"""Messages that have ended and still have their bodies (`body_ttl`), the newest first: read a few at a time, by a
connection beside the server's, and by no index. Nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from decoupled.core.outcomes import Record
from decoupled.core.status import FINAL
from decoupled.core.upkeep_limits import KEPT_AT_ONCE, SWEEP_MESSAGES
from decoupled.core.workload import Message
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.table import COLUMNS, record_of

_READ = f"""
SELECT seq, message_group, body, {COLUMNS} FROM messages NOT INDEXED
WHERE seq BETWEEN ? AND ? AND status IN ({", ".join(repr(status) for status in FINAL)}) AND body IS NOT NULL
    AND finished_at >= ? AND coalesce(workload = ?, TRUE)
ORDER BY seq DESC LIMIT {KEPT_AT_ONCE}
"""  # noqa: S608  what is added is constant


class Kept(NamedTuple):
    """A message as it was processed or rejected, and what its record says."""

    message: Message
    record: Record


class KeptBodies:
    """Those of a file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self) -> int:
        """The number of the newest message. Raises StoreUnavailable."""
        with self._database.refusals:
            found: int = self._database.execute("SELECT coalesce(max(seq), 0) FROM messages").fetchone()[0]
        return found

    def find(self, workload: str | None, ended_after: int, looked_to: Callable[[int], None]) -> Iterator[Kept]:
        """Those of a workload, or of all, that ended since that time (milliseconds since the epoch). `looked_to` hears
        now and then of the number down to which was looked. Raises StoreUnavailable."""
        last = self.newest()
        while last > 0:
            first = max(1, last - SWEEP_MESSAGES + 1)
            with self._database.refusals:
                rows = self._database.execute(_READ, (first, last, ended_after, workload)).fetchall()
            for _, group, body, *record in rows:
                ended = record_of(record)
                yield Kept(Message(ended.id, ended.workload, body, ended.caller, ended.accepted_at, group), ended)
            last = rows[-1][0] - 1 if len(rows) == KEPT_AT_ONCE else first - 1
            looked_to(last)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()
