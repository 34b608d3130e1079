"""Whether a file is whole: every page of it in its place (integrity), and every number that was given to a message
there or counted as removed (the ledger). In a process of its own, of low priority, which ends with the one that began
it: it reads all there is, and nobody who serves is to wait for that.

    python -m decoupled.engines.sqlite.verification FILE      prints lines of JSON: Step, Step, …, and Verified or Wrong
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from decoupled.core.backups import Holdings, Step
from decoupled.core.upkeep_limits import BLOCK_MESSAGES
from decoupled.engines.sqlite.database import APPLICATION_ID
from decoupled.engines.sqlite.driver import sqlite3
from decoupled.engines.sqlite.live_copy import BackupError
from decoupled.engines.sqlite.schema import SCHEMA_VERSION

LEDGER_SINCE = 6  # version of the schema
LOOK_OPERATIONS = 1_000_000  # of SQLite, between two looks at whether the process that wants to know it still lives
NICE = 10  # a saturated machine still comes to its end with it


class Wrong(msgspec.Struct, tag=True):
    """It is not, and why."""

    why: str


_decoder: msgspec.json.Decoder[Step | Holdings | Wrong] = msgspec.json.Decoder(Step | Holdings | Wrong)


def verify(file: Path, tell: Callable[[Step], None], cancelled: threading.Event) -> Holdings:
    """Raises BackupError: it is not whole, or it was cancelled; OSError if no process can be started."""
    command = [sys.executable, "-P", "-m", __name__, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:  # noqa: S603  our own
        ended = threading.Event()
        threading.Thread(target=_end_when, args=(process, cancelled, ended), daemon=True).start()
        try:
            for line in process.stdout or ():
                said = _decoder.decode(line)
                if isinstance(said, Holdings):
                    return said
                if isinstance(said, Wrong):
                    raise BackupError(said.why)
                tell(said)
        finally:
            ended.set()
    raise BackupError("it was cancelled" if cancelled.is_set() else "its verification came to no end")


def _end_when(process: subprocess.Popen[bytes], cancelled: threading.Event, ended: threading.Event) -> None:
    while not ended.wait(0.1):
        if cancelled.is_set():
            process.kill()
            return


# --- in the process -----------------------------------------------------------


def main() -> None:
    """Of the process."""
    os.nice(NICE)
    try:
        with contextlib.closing(_open(Path(sys.argv[1]))) as connection:
            for said in look(connection):
                _say(said)
    except sqlite3.Error as error:
        _say(Wrong(f"it is damaged: {error}"))


def _say(said: Step | Holdings | Wrong) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    sys.stdout.buffer.flush()


def _open(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
    connection.execute("PRAGMA cache_size = -65536")  # KiB
    parent = os.getppid()
    connection.set_progress_handler(lambda: os.getppid() != parent, LOOK_OPERATIONS)
    return connection


def look(connection: sqlite3.Connection) -> Iterator[Step | Holdings | Wrong]:
    """At everything. Raises sqlite3.Error."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application_id != APPLICATION_ID:
        yield Wrong("it is no database of decoupled")
        return
    if version > SCHEMA_VERSION:
        yield Wrong(f"it has schema version {version}, which a newer decoupled made; this one knows {SCHEMA_VERSION}")
        return
    yield Step("verifying", 0, 0)  # nobody knows how far this is
    (said,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if said != "ok":
        yield Wrong(f"it is damaged: {said}")
        return
    yield from _ledger(connection, with_removed=version >= LEDGER_SINCE)


def _ledger(connection: sqlite3.Connection, with_removed: bool) -> Iterator[Step | Holdings | Wrong]:
    (highest,) = connection.execute("SELECT coalesce(max(seq), 0) FROM messages").fetchone()
    counts: dict[str, int] = {}
    all_removed = 0
    for first in range(0, highest + 1, BLOCK_MESSAGES):
        yield Step("verifying", first, highest)
        last = min(first + BLOCK_MESSAGES - 1, highest)
        rows = connection.execute(
            "SELECT status, count(*) FROM messages WHERE seq BETWEEN ? AND ? GROUP BY status", (max(first, 1), last)
        ).fetchall()
        removed = _removed(connection, first // BLOCK_MESSAGES) if with_removed else 0
        there, given = sum(count for _, count in rows), last - max(first, 1) + 1
        if there + removed != given:
            yield Wrong(
                f"its ledger does not add up: of the {given:,} messages from number {max(first, 1):,} on,"
                f" {there:,} are there and {removed:,} were removed"
            )
            return
        for status, count in rows:
            counts[status] = counts.get(status, 0) + count
        all_removed += removed
    yield Holdings(highest, counts, all_removed)


def _removed(connection: sqlite3.Connection, block: int) -> int:
    sql = "SELECT processed + rejected + dead + lost FROM removed WHERE block = ?"
    row = connection.execute(sql, (block,)).fetchone()
    return 0 if row is None else int(row[0])


if __name__ == "__main__":
    main()
