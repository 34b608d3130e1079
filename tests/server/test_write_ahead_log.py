"""SQLite's log under a server: folded into the file while nobody is in the way; otherwise told of, bounded, and small
again when that is over. With real files, real readers and a real fault of the file system."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import resource
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from decoupled.core import limits
from decoupled.engines.protocols import StoreUnavailable
from decoupled.engines.sqlite.database import FILE_NAME, Database
from decoupled.engines.sqlite.wal import WriteAheadLog
from tests.support.server import DECOUPLED, Server, wait_for

PAGE_BYTES = 4096
_keys = itertools.count()


class Store:
    """A server's database, and a clock for the log."""

    def __init__(self, directory: Path) -> None:
        self.now = 0.0
        self.file = directory / FILE_NAME
        self.database = Database(self.file)
        self.database.wal = self.wal = WriteAheadLog(self.database.connection, str(self.file), lambda: self.now)

    def write(self, pages: int) -> None:
        """So many at least, ten a commit."""
        for _ in range(0, pages, 10):
            with self.database.transaction():
                values = [(f"key-{next(_keys):09}", "x" * PAGE_BYTES) for _ in range(10)]
                self.database.executemany("INSERT INTO items (key, item) VALUES (?, ?)", values)

    @property
    def log_bytes(self) -> int:
        return self.file.with_name(f"{FILE_NAME}-wal").stat().st_size

    def reading(self) -> contextlib.closing[sqlite3.Connection]:
        """Another one, in a transaction that has begun."""
        reader = sqlite3.connect(f"file:{self.file}?mode=ro", uri=True, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM items").fetchone()
        return contextlib.closing(reader)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.database.close()


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "decoupled.wal"]


def test_the_log_is_folded_again_and_again_and_stays_small(store: Store) -> None:
    store.write(4 * limits.WAL_FOLD_FRAMES)
    assert store.log_bytes < 2 * limits.WAL_FOLD_FRAMES * PAGE_BYTES
    assert store.file.stat().st_size > 3 * limits.WAL_FOLD_FRAMES * PAGE_BYTES
    assert store.wal.trouble() is None


def test_what_an_earlier_server_left_is_folded_at_start(tmp_path: Path) -> None:
    left = Store(tmp_path)
    left.write(100)
    for name in (FILE_NAME, f"{FILE_NAME}-wal"):  # as after a crash: without a close
        (tmp_path / "copy").mkdir(exist_ok=True)
        (tmp_path / "copy" / name).write_bytes((tmp_path / name).read_bytes())
    left.database.close()
    with contextlib.closing(Store(tmp_path / "copy").database) as database:
        assert (tmp_path / "copy" / FILE_NAME).stat().st_size > 100 * PAGE_BYTES
        assert database.execute("SELECT count(*) FROM items").fetchone() == (100,)


def test_a_reader_that_keeps_the_log_is_told_of_once_and_its_log_does_not_stay(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(limits, "WAL_LONG_BYTES", 5 * limits.MIB)
    monkeypatch.setattr(limits, "WAL_KEPT_BYTES", 5 * limits.MIB)
    with store.reading():
        for _ in range(5):
            store.write(limits.WAL_FOLD_FRAMES)
            store.now += limits.CHECKPOINT_RETRY_S
            store.wal.tend()
        trouble = store.wal.trouble()
        assert trouble is not None
        assert f"has {store.log_bytes / limits.MIB:.0f} MiB" in trouble
        assert "another process reads the database" in trouble
        assert not store.wal.refuses
        assert told(caplog) == ["the log is not folded; it is tried again"]
    store.now += limits.CHECKPOINT_RETRY_S
    store.wal.tend()  # nobody writes: a quiet moment is enough
    assert store.log_bytes <= limits.WAL_KEPT_BYTES
    assert store.wal.trouble() is None
    assert told(caplog)[1:] == ["the log is folded again"]


def test_a_reader_that_comes_and_goes_is_nobodys_trouble(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with store.reading():
        store.write(limits.WAL_FOLD_FRAMES + 10)
    store.now += limits.CHECKPOINT_RETRY_S
    store.write(limits.WAL_FOLD_FRAMES)
    assert store.log_bytes < 3 * limits.WAL_FOLD_FRAMES * PAGE_BYTES
    assert told(caplog) == []


def test_a_log_that_cannot_be_folded_is_not_tried_at_every_commit(store: Store) -> None:
    tried = []
    store.database.connection.set_trace_callback(lambda sql: tried.append(sql) if "wal_checkpoint" in sql else None)
    with store.reading():
        store.write(2 * limits.WAL_FOLD_FRAMES)
        assert len(tried) == 1
        store.now += limits.CHECKPOINT_RETRY_S
        store.write(50)
        assert len(tried) == 2


def test_a_log_past_all_bounds_takes_nothing_more_until_its_reader_is_gone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WAL_LONG_BYTES", limits.MIB)
    monkeypatch.setattr(limits, "MAX_WAL_BYTES", 5 * limits.MIB)
    with store.reading():
        store.write(2 * limits.WAL_FOLD_FRAMES)
        store.now += limits.CHECKPOINT_RETRY_S
        with pytest.raises(StoreUnavailable, match="another process reads the database"):
            store.write(1)
        assert store.wal.refuses
        before = store.log_bytes
        with pytest.raises(StoreUnavailable):
            store.write(1)
        assert store.log_bytes == before
    store.now += limits.CHECKPOINT_RETRY_S
    store.write(1)
    assert not store.wal.refuses


def test_a_checkpoint_that_fails_is_in_the_log_in_health_and_in_status_and_over_when_it_works(tmp_path: Path) -> None:
    """The file cannot grow any more, the log still can: a disk that fails in places."""
    server = Server(tmp_path / "data", "--workloads", "ledger,echoes")
    server.data.mkdir(mode=0o700)
    with contextlib.closing(Database(server.data / FILE_NAME)) as database, database.transaction():
        values = [(f"key-{number}", "x" * PAGE_BYTES) for number in range(1_600)]
        database.executemany("INSERT INTO items (key, item) VALUES (?, ?)", values)
    size = (server.data / FILE_NAME).stat().st_size
    try:
        server.start()
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

        def sick() -> str | None:
            server.accept("/ledger", *[{"account": number, "amount": 1} for number in range(1_000)])
            detail: str | None = server.get("/health").json["detail"]
            return detail

        detail = wait_for(sick, lambda detail: detail is not None and "cannot be folded" in detail)
        assert "disk I/O error" in str(detail)
        assert server.get("/health").json["status"] == "degraded"
        ended = subprocess.run(
            [DECOUPLED, "status", "--json", "--data", server.data],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert any("cannot be folded" in note for note in json.loads(ended.stdout)["notes"])

        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        wait_for(lambda: server.get("/health").json["status"], lambda status: status == "ok")
        messages = [line["message"] for line in server.log_lines() if line["logger"] == "decoupled.wal"]
        assert messages == ["the log is not folded; it is tried again", "the log is folded again"]
        assert server.stop() == 0, server.logged()
    finally:
        server.end()
    assert os.stat(server.data / FILE_NAME).st_size > size  # noqa: PTH116
