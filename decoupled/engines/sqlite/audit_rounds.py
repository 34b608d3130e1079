"""The audit of a server's file in its background: a block at a time, from where the last server left off, round after
round, by a read-only connection of its own. What is written is where it has got to; the server does that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from decoupled.core import acknowledged
from decoupled.core.audit import Mark, Report, Step
from decoupled.core.upkeep_limits import BLOCK_MESSAGES
from decoupled.core.workload import Unavailable
from decoupled.engines.protocols import StoreDamaged
from decoupled.engines.sqlite import acknowledging
from decoupled.engines.sqlite.audit import SqliteAudit
from decoupled.engines.sqlite.audit_blocks import MARK, Blocks, Depth, find_shorter, newest
from decoupled.engines.sqlite.database import Database, DataDirectoryError


class AuditRounds:
    """Used by one thread. Its `mark` is of what it has read, and so of what is on the disk."""

    def __init__(self, file: Path, mark: Mark) -> None:
        self._file = file
        self.mark = mark
        self._report = _begun()  # of this round
        self._database: Database | None = None

    def step(self) -> Step:
        """Audit the next block, and at the end of a round what stands beside the rows. Raises Unavailable."""
        if self._database is None:
            try:
                self._database = Database(self._file, read_only=True)
            except DataDirectoryError as error:
                raise Unavailable(str(error)) from error
        report = self._report
        audit = SqliteAudit(self._database, "", live=True)
        audit.report = report
        upto = newest(self._database)
        rows = self._block(self._database, report, upto)
        ended = (self.mark.block + 1) * BLOCK_MESSAGES > upto
        if ended:
            audit.beside()
        found = [msgspec.structs.replace(fault, ids=list(fault.ids)) for fault in report.faults]
        acknowledged.mark(found, acknowledging.read(self._database))
        if ended:
            self._report = _begun()
        self.mark = Mark(max(upto, self.mark.highest), 0 if ended else self.mark.block + 1, self.mark.rounds + ended)
        return Step(rows, found, ended)

    def _block(self, database: Database, report: Report, upto: int) -> int:
        block, seen = self.mark.block, self.mark.highest
        if seen > upto:
            find_shorter(report, upto, seen)
        if block * BLOCK_MESSAGES > upto:
            return 0
        try:
            return Blocks(database, report, Depth()).audit(block, upto)
        except StoreDamaged as error:
            report.find("file", f"a part of it cannot be read: {error.advice}", f"messages, block {block}")
            return 0

    def close(self) -> None:
        """Let go of the connection."""
        if self._database is not None:
            self._database.close()
            self._database = None


def _begun() -> Report:
    return Report(of="", removed={})


def writing(database: Database, mark: Mark) -> Callable[[], None]:
    """What keeps that, as an operation of the writer."""
    text = msgspec.json.encode(mark).decode()

    def write() -> None:
        database.execute("INSERT OR REPLACE INTO marks (name, value) VALUES (?, ?)", (MARK, text))

    return write
