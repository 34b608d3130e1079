"""The copy of a database that is written meanwhile: it is what the database was after some transaction, to the byte of
each row, whichever pages were copied before or after they changed. Real SQLite, a real log."""

from __future__ import annotations

import contextlib
import queue
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from decoupled.core import limits, upkeep_limits
from decoupled.core.backups import Told
from decoupled.engines.sqlite import live_copy
from decoupled.engines.sqlite.backup import Backup
from decoupled.engines.sqlite.database import FILE_NAME, Database
from decoupled.engines.sqlite.live_copy import LiveCopy

Items = dict[str, str]


class Written:
    """A database that a test writes, and what was in it after each transaction."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.directory = directory
        self.file = directory / FILE_NAME
        self.database = Database(self.file)
        self.wanted: queue.SimpleQueue[tuple[Callable[[], int], Future[int]]] = queue.SimpleQueue()
        self.log = self.database.tend_log()
        self.items: Items = {}
        self.after: list[Items] = []
        for _ in range(40):
            self.write(50)

    def write(self, changes: int = 8) -> None:
        """A transaction: items come, change and go, and space goes back to the system."""
        with self.database.transaction():
            for _ in range(changes):
                key = f"key-{self.random.randrange(3_000)}"
                if self.random.random() < 0.2:
                    self.items.pop(key, None)
                    self.database.execute("DELETE FROM items WHERE key = ?", (key,))
                    continue
                self.items[key] = self.random.randbytes(self.random.randrange(1_500)).hex()
                self.database.execute("INSERT OR REPLACE INTO items (key, item) VALUES (?, ?)", (key, self.items[key]))
            self.database.execute("PRAGMA incremental_vacuum(2)")
        self.after.append(dict(self.items))

    def do(self, wanted: Callable[[], int]) -> int:
        """In the test's thread, between two transactions: as a server does."""
        done: Future[int] = Future()
        self.wanted.put((wanted, done))
        return done.result(20)

    def go_on(self) -> None:
        with contextlib.suppress(queue.Empty):
            wanted, done = self.wanted.get_nowait()
            done.set_result(wanted())


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    monkeypatch.setattr(limits, "WAL_FOLD_FRAMES", 20)
    monkeypatch.setattr(upkeep_limits, "BACKUP_PIECE_BYTES", 64 * limits.KIB)
    monkeypatch.setattr(live_copy, "CHUNK_BYTES", 8 * limits.KIB)
    (tmp_path / "data").mkdir()
    written = Written(tmp_path / "data", seed=random.randrange(2**32))
    yield written
    written.database.close()


def items_of(file: Path) -> Items:
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return dict(connection.execute("SELECT key, item FROM items").fetchall())


def backed_up(written: Written, to: Path, also: Callable[[], None] = lambda: None) -> Told:
    """One that is made while the test writes."""
    backup = Backup(written.directory, to, written.log, written.do)
    thread = threading.Thread(target=backup.run)
    thread.start()
    while not backup.told().ended:
        written.go_on()
        written.write()
        also()
    thread.join()
    return backup.told()


@pytest.mark.parametrize("_round", range(2))
def test_a_copy_is_what_the_database_was_after_a_transaction(written: Written, tmp_path: Path, _round: int) -> None:
    before = len(written.after)
    told = backed_up(written, tmp_path / "copy")
    assert told.error is None
    assert items_of(tmp_path / "copy") in written.after[before - 1 :], f"seed {written.seed}"
    assert len(written.after) > before + 10, "nothing was written meanwhile"


def test_a_reader_that_stays_makes_the_copy_wait_for_it(written: Written, tmp_path: Path) -> None:
    """What a checkpoint cannot fold yet is not in the file, and is not to be in the copy before it is."""
    reader = sqlite3.connect(written.file, isolation_level=None, check_same_thread=False)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM items").fetchone()
    begun = len(written.after)

    def end_some_day() -> None:
        if len(written.after) == begun + 60:
            reader.execute("COMMIT")

    told = backed_up(written, tmp_path / "copy", end_some_day)
    reader.close()
    assert told.error is None
    assert items_of(tmp_path / "copy") in written.after[begun + 59 :]


def test_a_reader_that_never_ends_makes_it_fail_in_a_bounded_time(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep_limits, "BACKUP_FINISH_S", 0.5)
    with contextlib.closing(sqlite3.connect(written.file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM items").fetchone()
        told = backed_up(written, tmp_path / "copy")
    assert "another process reads the database" in str(told.error)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_place_that_is_too_slow_lets_the_log_grow_so_far_and_no_further(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep_limits, "BACKUP_BEHIND_BYTES", limits.KIB)
    monkeypatch.setattr(limits, "WAL_LONG_BYTES", 2 * limits.MIB)
    hangs = threading.Event()
    monkeypatch.setattr(LiveCopy, "_copy_piece", lambda *_: hangs.wait(20))  # as a disk does that is gone

    def until_given_up() -> None:
        if written.log._follower is None and len(written.after) > 60:
            hangs.set()

    told = backed_up(written, tmp_path / "copy", until_given_up)
    assert "more slowly than messages come" in str(told.error)
    size = written.file.with_name(f"{FILE_NAME}-wal").stat().st_size
    assert size < 4 * limits.MIB
    written.log.tend()
    assert written.log.trouble() is None


def test_sqlite_keeps_its_locks(written: Written, tmp_path: Path) -> None:
    """A descriptor of the file that is closed takes all locks of its process away; then another process that closes
    the database would take itself for the last one, and delete the log."""
    backed_up(written, tmp_path / "copy")
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM items').fetchone(); c.close()"
    )
    log = written.file.with_name(f"{FILE_NAME}-wal")
    number = log.stat().st_ino
    subprocess.run([sys.executable, "-c", code, str(written.file)], check=True)
    assert log.stat().st_ino == number
