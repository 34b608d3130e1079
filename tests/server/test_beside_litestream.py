"""A server's log beside a program that folds it, too, as Litestream does: who folds when, that nobody writes while we
do, and that a copy made meanwhile is whole. With real files, and a stand-in that does to the file what Litestream does;
the program itself is in test_replica.py."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from decoupled.core import limits, upkeep_limits
from decoupled.engines.protocols import StoreUnavailable
from decoupled.engines.sqlite import driver, log_file
from decoupled.engines.sqlite.backup_tool import back_up
from decoupled.engines.sqlite.beside import Beside, has_come
from decoupled.engines.sqlite.compaction import compact
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.database import FILE_NAME, Database, DataDirectoryError
from decoupled.engines.sqlite.live_copy import LiveCopy
from decoupled.engines.sqlite.restoring import restore
from decoupled.engines.sqlite.wal import LOOK_EVERY, WriteAheadLog

PAGE_BYTES = 4096
FRAME_BYTES = PAGE_BYTES + log_file.FRAME_HEADER_BYTES


class Litestream:
    """What it does to a file: it reads in one transaction, and folds the log while nobody else may write."""

    def __init__(self, file: Path) -> None:
        self.writer, self.reader = (sqlite3.connect(file, isolation_level=None) for _ in range(2))
        for connection in (self.writer, self.reader):
            connection.execute("PRAGMA wal_autocheckpoint = 0")
        self.writer.execute("CREATE TABLE IF NOT EXISTS _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)")
        self.read()

    def read(self) -> None:
        self.reader.execute("BEGIN")
        self.reader.execute("SELECT count(*) FROM _litestream_seq").fetchone()

    def fold(self) -> None:
        """And begin the log anew, if all of it is in the file."""
        self.writer.execute("BEGIN IMMEDIATE")
        self.reader.execute("ROLLBACK")
        self.reader.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self.read()
        self.writer.execute("ROLLBACK")
        bump = "INSERT INTO _litestream_seq VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET seq = seq + 1"
        self.writer.execute(bump)

    def close(self) -> None:
        self.reader.close()
        self.writer.close()


class Store:
    """A server's database, and a clock for the log."""

    def __init__(self, directory: Path) -> None:
        self.now = 0.0
        self.file = directory / FILE_NAME
        self.database = Database(self.file)
        self.database.wal = self.wal = WriteAheadLog(self.database.connection, str(self.file), lambda: self.now)
        self.keys = 0
        self.checkpoints = 0
        self.database.connection.set_trace_callback(self._count)

    def _count(self, sql: str) -> None:
        self.checkpoints += "wal_checkpoint" in sql

    def write(self, pages: int) -> None:
        for _ in range(0, pages, 10):
            with self.database.transaction():
                values = [(f"key-{self.keys + number:09}", "x" * PAGE_BYTES) for number in range(10)]
                self.database.executemany("INSERT INTO items (key, item) VALUES (?, ?)", values)
                self.keys += 10

    def later(self) -> None:
        self.now += limits.CHECKPOINT_RETRY_S
        for _ in range(LOOK_EVERY):
            self.wal.tend()

    def log_bytes(self) -> int:
        descriptor = os.open(f"{self.file}-wal", os.O_RDONLY)
        try:
            return log_file.end(descriptor, FRAME_BYTES)
        finally:
            os.close(descriptor)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.database.close()


@pytest.fixture
def litestream(store: Store) -> Iterator[Litestream]:
    with contextlib.closing(Litestream(store.file)) as litestream:
        yield litestream


def test_the_end_of_a_log_is_that_of_the_log_and_not_of_its_file(store: Store) -> None:
    store.write(500)
    size = Path(f"{store.file}-wal").stat().st_size
    assert store.log_bytes() == size
    store.database.execute("PRAGMA wal_checkpoint(PASSIVE)")
    store.write(10)
    assert Path(f"{store.file}-wal").stat().st_size == size
    assert log_file.HEADER_BYTES < store.log_bytes() < size / 2


def test_what_litestream_folds_is_left_to_it(store: Store, litestream: Litestream) -> None:
    for _ in range(3):
        store.write(2 * limits.WAL_FOLD_FRAMES)
        store.later()
        litestream.fold()
    assert store.checkpoints == 0
    assert store.log_bytes() < 100 * PAGE_BYTES
    assert store.wal.trouble() is None


def test_without_litestream_the_log_is_folded_when_it_is_long_enough(
    store: Store, litestream: Litestream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep_limits, "WAL_LEFT_BYTES", 6 * limits.MIB)
    litestream.close()  # it was killed
    store.write(limits.WAL_FOLD_FRAMES // 2)
    store.later()
    assert store.checkpoints == 0  # within that, it finds what it has not got yet
    store.write(4 * limits.WAL_FOLD_FRAMES)
    assert store.checkpoints > 0
    assert store.log_bytes() < 8 * limits.MIB
    assert store.wal.trouble() is None


def test_nothing_is_left_of_a_log_that_we_begin_anew(
    store: Store, litestream: Litestream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Litestream would find the place where it was in what is left, and miss what came after it."""
    store.write(limits.WAL_FOLD_FRAMES)
    before = store.log_bytes()
    litestream.close()
    monkeypatch.setattr(upkeep_limits, "WAL_LEFT_BYTES", 0)
    store.later()
    store.write(10)
    assert store.log_bytes() == Path(f"{store.file}-wal").stat().st_size < before


def test_nor_of_one_that_a_killed_server_began_anew(store: Store, litestream: Litestream) -> None:
    store.write(500)
    size = Path(f"{store.file}-wal").stat().st_size
    litestream.fold()  # it begins it anew, and is killed
    litestream.close()
    assert Path(f"{store.file}-wal").stat().st_size == size
    with contextlib.closing(Database(store.file)):
        assert Path(f"{store.file}-wal").stat().st_size < size


def test_a_litestream_that_hangs_is_told_of_long_before_requests_are_refused(
    store: Store, litestream: Litestream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep_limits, "WAL_LEFT_BYTES", 2 * limits.MIB)
    monkeypatch.setattr(limits, "WAL_LONG_BYTES", 6 * limits.MIB)
    monkeypatch.setattr(limits, "MAX_WAL_BYTES", 12 * limits.MIB)
    store.write(limits.WAL_FOLD_FRAMES)
    store.later()
    trouble = store.wal.trouble()
    assert trouble is not None
    assert "Litestream" in trouble
    assert not store.wal.refuses
    store.write(limits.WAL_FOLD_FRAMES)
    with pytest.raises(StoreUnavailable, match="Litestream"):
        store.later()
    assert store.wal.refuses
    litestream.fold()  # it goes on
    store.later()
    store.write(10)
    assert store.wal.trouble() is None


def test_nobody_writes_while_we_fold(store: Store, litestream: Litestream, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite up to 3.51.2 would lose what is written then, if that begins the log anew."""
    monkeypatch.setattr(upkeep_limits, "WAL_LEFT_BYTES", 0)
    refused: list[bool] = []

    def write() -> None:
        try:
            litestream.writer.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            refused.append(True)
        else:
            litestream.writer.execute("ROLLBACK")
            refused.append(False)

    litestream.writer.execute("PRAGMA busy_timeout = 0")
    store.database.connection.set_trace_callback(lambda sql: write() if "wal_checkpoint" in sql else None)
    store.write(limits.WAL_FOLD_FRAMES)
    store.later()
    assert refused
    assert all(refused)


def test_nor_while_a_file_is_to_be_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Database(tmp_path / FILE_NAME).close()
    with contextlib.closing(Litestream(tmp_path / FILE_NAME)) as litestream:
        litestream.writer.execute("PRAGMA busy_timeout = 0")
        refused: list[bool] = []
        connect = driver.sqlite3.connect

        def looked_at(sql: str) -> None:
            if "wal_checkpoint" in sql:
                try:
                    litestream.writer.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError:
                    refused.append(True)
                else:
                    litestream.writer.execute("ROLLBACK")
                    refused.append(False)

        def connected(*arguments: Any, **more: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*arguments, **more)
            connection.set_trace_callback(looked_at)
            return connection

        monkeypatch.setattr(driver.sqlite3, "connect", connected)
        with pytest.raises(DataDirectoryError, match="another process reads"):
            compact(DataDirectory(tmp_path))
        assert refused
        assert all(refused)


def test_while_somebody_writes_we_do_not_fold(
    store: Store, litestream: Litestream, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(limits.WAL_FOLD_FRAMES)
    assert store.checkpoints == 0
    monkeypatch.setattr(upkeep_limits, "WAL_LEFT_BYTES", 0)
    litestream.writer.execute("BEGIN IMMEDIATE")
    store.later()
    store.later()
    assert store.checkpoints == 0
    litestream.writer.execute("ROLLBACK")
    store.later()
    assert store.checkpoints == 1


def test_a_copy_is_whole_although_litestream_folds_meanwhile(
    store: Store, litestream: Litestream, tmp_path: Path
) -> None:
    store.write(1_000)
    litestream.fold()
    target = os.open(tmp_path / "copy.sqlite3", os.O_RDWR | os.O_CREAT, 0o600)
    copy = LiveCopy(target, PAGE_BYTES, threading.Event())
    source = store.wal.follow(copy)
    for _ in range(10):  # it begins anew, and nobody tells the copier
        store.write(50)
        litestream.fold()
    copying = threading.Thread(target=copy.run, args=(source,))
    copying.start()
    store.write(500)
    while copying.is_alive():
        store.later()
    copying.join()
    os.pwrite(target, bytes((1, 1)), 18)  # no log beside it
    os.close(target)
    with contextlib.closing(sqlite3.connect(tmp_path / "copy.sqlite3")) as copied:
        assert copied.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (there,) = copied.execute("SELECT count(*) FROM items").fetchone()
    assert there == store.keys
    litestream.fold()
    store.write(10)
    litestream.fold()
    assert store.log_bytes() < 100 * PAGE_BYTES  # and the log goes again


def test_a_copy_that_takes_too_long_is_given_up_and_the_log_is_free(
    store: Store, litestream: Litestream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(limits, "WAL_LONG_BYTES", 4 * limits.MIB)
    target = os.open(tmp_path / "copy.sqlite3", os.O_RDWR | os.O_CREAT, 0o600)
    copy = LiveCopy(target, PAGE_BYTES, threading.Event())
    store.wal.follow(copy)
    store.write(2 * limits.WAL_FOLD_FRAMES)
    store.later()
    with pytest.raises(Exception, match="while Litestream replicates"):
        copy.run(0)
    os.close(target)
    litestream.fold()
    assert store.log_bytes() < 100 * PAGE_BYTES


def test_a_file_that_litestream_has_had_is_ours_all_the_same(tmp_path: Path) -> None:
    with contextlib.closing(Database(tmp_path / FILE_NAME)) as database:
        Litestream(tmp_path / FILE_NAME).close()
        beside = Beside(database.connection, str(tmp_path / FILE_NAME))
        assert beside.is_there()
        beside.close()
    with contextlib.closing(Database(tmp_path / FILE_NAME)) as database:
        assert database.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)


def test_a_file_that_was_restored_or_made_anew_is_nobody_else_s(tmp_path: Path) -> None:
    """Or its backups, and what is forgotten, would wait for a Litestream that is long gone."""
    data = tmp_path / "data"
    data.mkdir()
    with contextlib.closing(Database(data / FILE_NAME)):
        Litestream(data / FILE_NAME).close()
    back_up(DataDirectory(data), tmp_path / "backup.sqlite3", lambda _: None)
    restore(tmp_path / "backup.sqlite3", tmp_path / "restored", lambda _: None)
    compact(DataDirectory(data))
    for directory in (data, tmp_path / "restored"):
        with contextlib.closing(sqlite3.connect(directory / FILE_NAME)) as file:
            assert not has_come(file)
            assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
