"""A data directory that a move goes to: new, and nobody's but the move's until all has arrived. No server starts on it
before that, so that what is put here can have been put by the move alone, and what the other side says of it counts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence

from decoupled.core.dead_letters import PURGED
from decoupled.core.fingerprints import difference, item_difference
from decoupled.core.forgetting import is_forgotten
from decoupled.core.limits import MIB
from decoupled.core.moving import Carried, CarriedItem, Counts
from decoupled.core.outcomes import Record
from decoupled.core.status import FINAL
from decoupled.core.times import now_ms
from decoupled.engines.sqlite import removal, tallies
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.database import DataDirectoryError
from decoupled.engines.sqlite.dead_looks import QUEUE_BURIED
from decoupled.engines.sqlite.departure import ARRIVAL, MOVE_IN
from decoupled.engines.sqlite.moving_rows import COLUMNS, FIELDS, carried, edits_of, put_edits
from decoupled.engines.sqlite.queue_clock import QueueClock

ARRIVED = "arrived"  # in `marks`: from where, once all has
_RECORD_BYTES = 1_000  # that a record takes, about
_STATE = [*FIELDS.values(), "visible_at", "receive_count", "in_flight", "mark", "ended"]
_PUT = f"""
INSERT INTO messages ({", ".join(_STATE)}) VALUES ({", ".join("?" * len(_STATE))})
ON CONFLICT (id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _STATE if name != "id")}
"""  # noqa: S608  the columns are constants


def name_of(directory: DataDirectory) -> str:
    """As people call it, and the other side."""
    return f"the data directory {directory.path}"


class SqliteTarget:
    """Implements Target; and Marks, of a move that comes here."""

    def __init__(self, directory: DataDirectory, of: str, clock_ms: Callable[[], int] = now_ms) -> None:
        """`of`: the side that is left, the same each time. Owns the directory until it is closed. Raises
        DataDirectoryError: it is another's, or in use."""
        self.name = name_of(directory)
        self.identity = ""  # how far it has got goes with its file
        self._directory = directory
        self._of = of
        self._clock_ms = clock_ms
        self._database = directory.own()
        try:
            self._adopt()
            self._queue_clock_ms = QueueClock.keep(directory.path)
        except BaseException:
            self.close()
            raise

    def _adopt(self) -> None:
        marks = dict(self._database.execute("SELECT name, value FROM marks").fetchall())
        if (of := marks.get(ARRIVAL, marks.get(ARRIVED))) is None:
            (foreign,) = self._database.execute(
                "SELECT EXISTS (SELECT 1 FROM messages) OR EXISTS (SELECT 1 FROM items)"
            ).fetchone()
            if foreign or "departure" in marks:
                raise DataDirectoryError(f"{self.name} has messages of its own: name a new directory")
        elif of != self._of:
            raise DataDirectoryError(f"{self.name} is where {of} moves to, and not {self._of}: name another directory")

    def _begin(self) -> None:
        """From the first thing that is put here on, it is the move's; a look at it changes nothing."""
        if not self.arrived and self.marked(ARRIVAL) is None:
            self.mark(ARRIVAL, self._of)

    @property
    def arrived(self) -> bool:
        """Whether all has: then it may have been served since."""
        return self.marked(ARRIVED) is not None

    def check(self, counts: Counts) -> Sequence[str]:
        needed, free = counts.all * _RECORD_BYTES, shutil.disk_usage(self._directory.path).free
        if needed > free:
            raise ValueError(
                f"{self.name} has room for {free / MIB:,.0f} MiB, and {counts.all:,} records need about"
                f" {needed / MIB:,.0f}"
            )
        return [f"about {needed / MIB:,.0f} MiB on the disk of {self.name}, which has {free / MIB:,.0f}"]

    # --- records ------------------------------------------------------------------

    def put(self, records: Sequence[Carried]) -> Sequence[str]:
        """What was forgotten since it was copied, also when all has arrived."""
        if not all(map(_forgotten, records)):
            self._refuse_when_arrived()
        differs: list[str] = []
        latest = {record.id: record for record in records}
        with self._database.transaction():
            self._begin()
            there = self.get(list(latest))
            rejected = 0
            for record in latest.values():
                before = there.get(record.id)
                if before is not None and (why := _kept(before, record)) is not None:
                    differs += [why] if why else []
                    continue
                self._put_one(record)
                rejected += (record.status == "rejected") - (before is not None and before.status == "rejected")
            tallies.add_rejected(self._database, rejected)
        return differs

    def _put_one(self, record: Carried) -> None:
        if record.status in ("queued", "dead") and record.body is None:
            raise ValueError(f"{record.id} is {record.status}, and has no body")
        values = {column: getattr(record, field) for field, column in FIELDS.items()}
        if record.status == "dead":
            values["error_type"], values["error"] = record.error_type or QUEUE_BURIED, record.error or ""
        self._database.execute(_PUT, [*values.values(), self._visible_at(record), 0, 0, 0, None])
        put_edits(self._database, record)

    def _visible_at(self, record: Carried) -> int:
        wait = 0 if record.due_at is None else max(0, record.due_at - self._clock_ms())
        return self._queue_clock_ms() + wait

    def get(self, ids: Sequence[str]) -> Mapping[str, Carried]:
        wanted = json.dumps(list(ids))
        with self._database.refusals:
            rows = self._database.execute(
                f"SELECT {COLUMNS} FROM messages WHERE id IN (SELECT value FROM json_each(?))",  # noqa: S608  the columns are a constant
                (wanted,),
            ).fetchall()
            edits = edits_of(self._database, ids)
        return {row[0]: carried(row, edits.get(row[0], ())) for row in rows}

    def send(self, records: Sequence[Carried]) -> None:
        """They are there, and are handed out once all is: a server starts no sooner."""
        there = self.get([record.id for record in records])
        if missing := [record.id for record in records if record.id not in there]:
            raise ValueError(f"{missing[0]} was not put into {self.name}")

    def take_back(self, records: Sequence[Carried]) -> None:
        self._refuse_when_arrived()
        removal.take_back(self._database, [record.id for record in records])

    # --- items --------------------------------------------------------------------

    def put_items(self, items: Sequence[CarriedItem]) -> Sequence[str]:
        self._refuse_when_arrived()
        with self._database.transaction():
            self._begin()
            there = self.get_items([item.key for item in items])
            self._database.executemany(
                "INSERT INTO items (key, item, owner) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING",
                [(item.key, item.item, item.owner) for item in items],
            )
        pairs = [(item, there[item.key]) for item in items if item.key in there]
        return [why for item, before in pairs if (why := item_difference(item, before)) is not None]

    def get_items(self, keys: Sequence[str]) -> Mapping[str, CarriedItem]:
        with self._database.refusals:
            rows = self._database.execute(
                "SELECT key, item, owner FROM items WHERE key IN (SELECT value FROM json_each(?))",
                (json.dumps(list(keys)),),
            ).fetchall()
        return {row[0]: CarriedItem(*row) for row in rows}

    def take_back_items(self, items: Sequence[CarriedItem]) -> None:
        self._refuse_when_arrived()
        there = self.get_items([item.key for item in items])
        same = [item.key for item in items if item_difference(item, there.get(item.key)) is None]
        with self._database.transaction():
            self._database.execute(
                "DELETE FROM items WHERE key IN (SELECT value FROM json_each(?))", (json.dumps(same),)
            )

    # --- the end --------------------------------------------------------------------

    def finish(self) -> None:
        if self.arrived:
            return
        with self._database.refusals:
            removal.close_up(self._database)
        with self._database.transaction():
            self._database.execute("DELETE FROM marks WHERE name = ?", (ARRIVAL,))
            self.mark(ARRIVED, self._of)

    def _refuse_when_arrived(self) -> None:
        if self.arrived:
            raise ValueError(f"all of {self._of} has arrived in {self.name}, which may have been served since")

    def close(self) -> None:
        self._database.close()
        self._directory.unlock()

    # --- marks ----------------------------------------------------------------------

    def read(self) -> str | None:
        return self.marked(MOVE_IN)

    def write(self, text: str) -> None:
        with self._database.transaction():
            self._begin()
            self.mark(MOVE_IN, text)

    def marked(self, name: str) -> str | None:
        """What a mark says."""
        with self._database.refusals:
            row = self._database.execute("SELECT value FROM marks WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def mark(self, name: str, text: str) -> None:
        """Have it say that."""
        with self._database.transaction():
            self._database.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (name, text))


def _kept(there: Carried, record: Carried) -> str | None:
    """What is there stays if this is not None; and then, why that is not what goes over, if it is not."""
    if _forgotten(record) and (there.workload, there.accepted_at) == (record.workload, record.accepted_at):
        return "" if _forgotten(there) else None
    if _identity(there) != _identity(record):
        same_sender = (there.workload, there.caller) == (record.workload, record.caller)
        if same_sender and record.accepted_at > there.accepted_at:
            return None  # sent again under its key, when the other side had forgotten it
        return f"{record.id} is another message in {there.workload} here"
    if there.reason == PURGED:  # the only one that is not final for ever: it may have been imported since, and redriven
        return "" if difference(there, record) is None else None
    if there.status in FINAL:
        return (difference(record, there) or "") if record.status in FINAL else ""
    return "" if record.status == there.status and difference(record, there) is None else None


def _forgotten(record: Carried) -> bool:
    told = (record.id, record.workload, record.status, record.accepted_at, record.caller, record.result, record.reason)
    return record.status in FINAL and is_forgotten(Record(*told))


def _identity(record: Carried) -> tuple[str, str, int, str]:
    return record.workload, record.caller, record.accepted_at, record.digest
