"""`make bench-keep`'s own parts: a year-old database that is one, as a server leaves it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import year
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.database import FILE_NAME, Database
from decoupled.engines.sqlite.stats import SqliteStats
from decoupled.engines.sqlite.table import SqliteTable

RECORDS = 5_000


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("year")
    year.make(directory / FILE_NAME, RECORDS)
    return directory


def test_a_year_old_database_has_messages_of_every_status(data: Path) -> None:
    overview = SqliteStats(DataDirectory(data)).look()
    assert overview.accepted == RECORDS
    assert (overview.delayed, overview.rejected, overview.dead) == (500, 30 * 5 - 1, 2 * 4)


def test_a_year_old_database_is_whole_and_has_the_indexes_of_its_schema(data: Path, tmp_path: Path) -> None:
    names = "SELECT name FROM sqlite_schema WHERE type = 'index' ORDER BY name"
    database = Database(data / FILE_NAME, read_only=True)
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert database.execute(names).fetchall() == Database(tmp_path / FILE_NAME).execute(names).fetchall()
    assert database.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
    assert database.execute("PRAGMA auto_vacuum").fetchall() == [(2,)]


def test_its_records_can_be_read_as_those_of_any_other(data: Path) -> None:
    database = Database(data / FILE_NAME, read_only=True)
    ids = [row[0] for row in database.execute("SELECT id FROM messages WHERE status = 'processed' LIMIT 20")]
    assert {len(message_id) for message_id in ids} == {33, 40}  # as the receiver makes them, and of keys
    records = [SqliteTable(database).get(message_id) for message_id in ids]
    results = [json.loads(record.result or "") for record in records if record is not None]
    assert {len(result["lines"]) for result in results} == {1, 2, 3, 4}
    assert {result["state"] for result in results} == {"confirmed"}
