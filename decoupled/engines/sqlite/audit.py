"""The audit of a SQLite file: a running server's, read beside it in pieces of a moment each, or one that nobody writes
to: of a stopped server, a backup, a restored replica. It only reads, and goes on where something is damaged."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import msgspec

from decoupled.core import upkeep_limits
from decoupled.core.acknowledged import Acknowledged
from decoupled.core.audit import Kept, Past, Progress, Report, TooLong
from decoupled.core.status import STATUSES
from decoupled.core.upkeep_limits import BLOCK_MESSAGES
from decoupled.engines.protocols import StoreDamaged, StoreUnavailable
from decoupled.engines.sqlite import acknowledging, audit_effects
from decoupled.engines.sqlite.audit_blocks import QUICK, REMOVED, Blocks, Depth, find_shorter, mark_of, newest
from decoupled.engines.sqlite.database import Database

_OF_WORKLOAD = "SELECT key, item FROM items WHERE key >= ? AND key < ? ORDER BY key"
STEPS = 1_000_000  # of SQLite's machine, some 50 ms, between two looks at the time
IDS_AT_ONCE = 500
_REJECTED = "SELECT count(*) FROM messages INDEXED BY messages_rejected WHERE status = 'rejected'"
_ITEMS = "SELECT rowid, key, item FROM items WHERE rowid > ? AND rowid <= ? ORDER BY rowid LIMIT 1000"


_LATE = f"beside a server it may take {upkeep_limits.AUDIT_CHECK_S:g} s. Audit a backup, or stop the server"


def unheard(_what: str, _done: int, _of: int) -> None:
    """For who need not know how far it is."""


class SqliteAudit:
    """Of one file. `live`: a server writes to it, so that no statement may take longer than AUDIT_CHECK_S."""

    def __init__(self, database: Database, of: str, live: bool, quick: bool = False) -> None:
        self.database = database
        self.live = live
        self.quick = quick
        self.report = Report(of=of, removed=dict.fromkeys(REMOVED, 0))
        self._until = float("inf")
        database.connection.set_progress_handler(lambda: time.monotonic() > self._until, STEPS)

    def run(self, progress: Progress = unheard, ledger: Iterable[str] = ()) -> Report:
        """All of it. `ledger`: ids that clients have got a 202 for. Raises StoreUnavailable where nothing can be
        read."""
        began = time.monotonic()
        self._blocks(progress)
        self.beside()
        if self.quick:
            self.report.unchecked += [
                "SQLite's own check, each row against its index, results, items, invariants and effects: --quick"
            ]
        else:
            self._items(progress)
            self._file(progress)
        self._ledger(ledger)
        self.report.took_s = round(time.monotonic() - began, 3)
        return self.report

    def _blocks(self, progress: Progress) -> None:
        upto, seen = newest(self.database), mark_of(self.database).highest
        blocks = Blocks(self.database, self.report, QUICK if self.quick else Depth())
        self.report.accepted = max(upto, seen)
        if seen > upto:
            find_shorter(self.report, upto, seen)
        for block in range(upto // BLOCK_MESSAGES + 1 if upto else 0):
            progress("messages", block * BLOCK_MESSAGES, upto)
            try:
                blocks.audit(block, upto)
            except StoreDamaged as error:
                self.report.find("file", f"a part of it cannot be read: {error.advice}", f"messages, block {block}")
        progress("messages", upto, upto)
        if lost := (self.report.removed or {}).get("lost"):
            self.report.remarks.append(f"{lost:,} messages were lost before this file was recovered")
        self.report.days = [blocks.days[key] for key in sorted(blocks.days)]
        if blocks.before:
            self.report.remarks.append(f"{blocks.before:,} messages ended before they were accepted: a clock was set")
        self.report.checked.append(f"the ledger, and each field of {sum(self.report.counts.values()):,} messages")

    def beside(self) -> None:
        """What is kept beside the rows: what was removed is of numbers that there were; as many are rejected as is
        said; ends have a last number."""
        with self._bounded("how many are rejected"), self.database.snapshot():
            there = self.database.execute(_REJECTED).fetchone()
            told = self.database.execute("SELECT n FROM tallies WHERE name = 'rejected'").fetchone()
            if told != there:
                said = f"the tally says {told[0]:,}" if told else "there is no tally"
                off = abs(there[0] - told[0]) if told else there[0]
                what = f"{there[0]:,} messages are rejected, and {said}"
                self.report.find("tally", what, "tallies", key="rejected", size=off)
        with self._bounded("what was removed"), self.database.snapshot():
            (over,) = self.database.execute(
                """
                SELECT count(*) FROM removed
                WHERE block < 0 OR block * ? > (SELECT coalesce(max(seq), 0) FROM messages)
                """,
                (BLOCK_MESSAGES,),
            ).fetchone()
            if over:
                self.report.find("surplus", "messages were removed that there have not been", "removed", count=over)
            if self.database.execute("SELECT count(*) FROM ends").fetchone() != (1,):
                self.report.find("tally", "there is not one last number of ends", "ends")

    def _items(self, progress: Progress) -> None:
        """Each is a JSON object under a key, a thousand at once, by their numbers."""
        after = count = 0
        try:
            with self.database.refusals:
                (upto,) = self.database.execute("SELECT coalesce(max(rowid), 0) FROM items").fetchone()
                while rows := self.database.execute(_ITEMS, (after, upto)).fetchall():
                    for _, key, item in rows:
                        if not isinstance(key, str) or not _is_object(item):
                            self.report.find("item", "it is no JSON object", ids=[str(key)])
                    after, count = rows[-1][0], count + len(rows)
                    progress("items", after, upto)
        except StoreDamaged as error:
            self.report.find("file", f"items cannot be read: {error.advice}", f"items after number {after}")
        self.report.checked.append(f"the form of {count:,} items")

    def items(self, workload: str) -> Iterator[tuple[str, str]]:
        """All items of a workload, each a key and its text, in the order of their keys, and all of one moment. Raises
        StoreUnavailable, and TooLong: the log of a server cannot be reset meanwhile."""
        until = time.monotonic() + upkeep_limits.AUDIT_CHECK_S if self.live else float("inf")
        with self.database.refusals:
            rows = self.database.execute(_OF_WORKLOAD, (f"{workload}/", f"{workload}0"))  # "0" comes after "/"
            for number, row in enumerate(rows):
                if number % 100 == 0 and time.monotonic() > until:
                    raise TooLong(_LATE)
                yield row

    def every_item(self) -> Iterator[tuple[str, str]]:
        """Likewise, of all, where nobody writes meanwhile."""
        with self.database.refusals:
            yield from self.database.execute("SELECT key, item FROM items ORDER BY key")

    def kept(self, past: Past) -> Iterator[Kept]:
        return audit_effects.kept(self.database, past)

    def acknowledged(self) -> list[Acknowledged]:
        """Faults that somebody has looked into. Raises StoreUnavailable."""
        return acknowledging.read(self.database)

    def missing(self, ids: list[str]) -> list[str]:
        return audit_effects.missing(self.database, ids)

    def removed(self) -> int:
        return audit_effects.removed(self.database)

    def _file(self, progress: Progress) -> None:
        """SQLite's own check: pages, and each index against its table. One statement; of a large file it takes
        minutes, in which a server could not reset its log."""
        progress("file", 0, 1)
        with self._bounded("the whole file, by SQLite's own check"):
            for (what,) in self.database.execute(f"PRAGMA integrity_check({upkeep_limits.FAULTS})"):
                if what != "ok":
                    self.report.find("file", what)
            self.report.checked.append("the file, and each index against its table, by SQLite's own check")
        progress("file", 1, 1)

    def _ledger(self, ids: Iterable[str]) -> None:
        """Each is known. Where messages were removed, an id that is not known may be of one of them."""
        counts: dict[str, int] = dict.fromkeys(STATUSES, 0)
        unknown: list[str] = []
        missing = asked = 0
        for some in _parts(ids):
            asked += len(some)
            found = self._statuses(some)
            for status in found.values():
                counts[status] = counts.get(status, 0) + 1
            gone = [message_id for message_id in some if message_id not in found]
            missing += len(gone)
            unknown += gone[: upkeep_limits.FAULT_IDS - len(unknown)]
        if not asked:
            return
        removed = sum(count for status, count in (self.report.removed or {}).items() if status != "lost")
        if missing > removed:
            what = "clients got a 202 for them, and they are not there"
            what += f" ({removed:,} were removed, and may be among them)" if removed else ""
            self.report.find("unknown", what, "ledger", unknown, count=missing)
        elif missing:
            self.report.unchecked.append(f"{missing:,} ids of the ledger: not there, and {removed:,} were removed")
        said = ", ".join(f"{status} {count:,}" for status, count in counts.items())
        self.report.checked.append(f"{asked:,} ids of the ledger: {said}")

    def _statuses(self, ids: Sequence[str]) -> dict[str, str]:
        with self.database.refusals:
            return dict(
                self.database.execute(
                    "SELECT id, status FROM messages WHERE id IN (SELECT value FROM json_each(?))",
                    (msgspec.json.encode(ids).decode(),),
                ).fetchall()
            )

    @contextmanager
    def _bounded(self, what: str) -> Iterator[None]:
        """A statement over a whole table: beside a server it is given up after a while, and then the report says so."""
        if self.live:
            self._until = time.monotonic() + upkeep_limits.AUDIT_CHECK_S
        try:
            with self.database.refusals:
                yield
        except StoreDamaged as error:
            self.report.find("file", f"a part of it cannot be read: {error.advice}", what)
        except StoreUnavailable:
            if time.monotonic() <= self._until:
                raise
            self.report.unchecked.append(f"{what}: {_LATE}")
        finally:
            self._until = float("inf")


def _is_object(text: Any) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, TypeError):
        return False


def _parts(ids: Iterable[str]) -> Iterator[list[str]]:
    left = iter(ids)
    while some := list(islice(left, IDS_AT_ONCE)):
        yield some
