"""`make bench-keep`'s own parts: a year-old database that is one, as a server leaves it; and a pace that a slow server
does not change."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from benchmarks import paced, year
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


ANSWER = b"HTTP/1.1 %d OK\r\nContent-Length: 2\r\n\r\n{}"


class Answering:
    """A server of one connection, which has its first answer wait for a second."""

    def __init__(self, *statuses: int) -> None:
        self._statuses = statuses
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with self._listener, self._listener.accept()[0] as client:
            threading.Event().wait(1.0)
            for status in self._statuses:
                if b"\r\n\r\n" in client.recv(65_536):
                    client.sendall(ANSWER % status)
            client.recv(65_536)


def test_what_is_due_while_the_server_is_slow_has_waited_since_then() -> None:
    """Of those that are due within that second, half have waited for half of it; who asks only when he was answered
    would have one that waited."""
    load = paced.gets(Answering(*[200] * 100).url, ["/orders/1"], per_s=100, seconds=1, connections=1)
    assert load.requests == 100
    assert load.p50_ms > 400


def test_a_get_that_is_refused_is_no_fast_one() -> None:
    with pytest.raises(SystemExit, match="404"):
        paced.gets(Answering(200, 404).url, ["/orders/1"], per_s=100, seconds=1, connections=1)
