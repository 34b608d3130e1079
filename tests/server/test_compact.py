"""A data directory's file is made anew: smaller, and so that it gives room back from then on; or it stays as it was."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest

from decoupled.core.retention import Found
from decoupled.engines.sqlite import removal
from decoupled.engines.sqlite.database import FILE_NAME, Database
from tests.support import rows
from tests.support.server import DECOUPLED, decoupled, serving, wait_for

ROWS = 20_000


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """As an earlier version has left it: room in it is never given back."""
    rows.many(tmp_path / "data", ROWS)
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / FILE_NAME, isolation_level=None)) as file:
        file.execute("PRAGMA auto_vacuum = NONE")
        file.execute("VACUUM")
    database = Database(tmp_path / "data" / FILE_NAME)
    removal.remove(database, [Found(seq, rows.T0 + seq) for seq in range(1, ROWS // 2)])
    database.close()
    return tmp_path / "data"


def ask(data: Path, sql: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(data / FILE_NAME)) as file:
        return file.execute(sql).fetchall()


def all_of_it(data: Path) -> list[list[tuple[object, ...]]]:
    assert ask(data, "PRAGMA integrity_check") == [("ok",)]
    tables = [str(name) for (name,) in ask(data, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    return [ask(data, f"SELECT * FROM {table}") for table in tables]  # noqa: S608  our own


def test_it_is_smaller_and_has_all_that_it_had_and_gives_room_back_from_then_on(data: Path) -> None:
    before, size = all_of_it(data), (data / FILE_NAME).stat().st_size
    said = decoupled("compact", "--data", data)
    now = (data / FILE_NAME).stat()
    assert now.st_size < 0.6 * size
    assert said == f"{size / 2**20:,.1f} MiB before, {now.st_size / 2**20:,.1f} MiB now"
    assert now.st_mode & 0o777 == 0o600
    assert all_of_it(data) == before
    assert ask(data, "PRAGMA auto_vacuum") == [(2,)]
    with serving(data, "--fronts", "0") as server:
        assert server.get("/health").json["status"] == "ok"


def test_it_does_nothing_while_a_server_runs_or_somebody_reads(data: Path) -> None:
    with serving(data, "--fronts", "0"):
        assert "in use" in decoupled("compact", "--data", data, status=1)
    with contextlib.closing(Database(data / FILE_NAME, read_only=True)) as reader:
        reader.execute("SELECT count(*) FROM messages").fetchall()
        assert "another process reads" in decoupled("compact", "--data", data, status=1)
    assert ask(data, "PRAGMA auto_vacuum") == [(0,)]
    assert "there is no" in decoupled("compact", "--data", data.parent, status=1)


def test_whenever_it_is_killed_the_file_is_whole(data: Path) -> None:
    before, new = all_of_it(data), data / f"{FILE_NAME}.compact"
    for size in (1, 4096, 500_000):
        running = subprocess.Popen([DECOUPLED, "compact", "--data", data], stdout=subprocess.DEVNULL)
        wait_for(
            lambda size=size, running=running: (
                running.poll() is not None  # type: ignore[misc]
                or (new.exists() and new.stat().st_size >= size)
            )
        )
        running.send_signal(signal.SIGKILL)
        running.wait()
        assert all_of_it(data) == before
    decoupled("compact", "--data", data)
    assert not new.exists()
    assert all_of_it(data) == before
