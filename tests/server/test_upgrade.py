"""What an earlier version left behind still runs: its data directory, and a workload that was written for it. One of
each is kept in tests/support/data/VERSION, made by that version."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from decoupled.engines.sqlite.database import FILE_NAME, MIGRATIONS, SCHEMA_VERSION, Database, DataDirectoryError
from tests.support.server import ROOT, Server, serving

KEPT = sorted((ROOT / "tests" / "support" / "data").iterdir())
QUEUED = ("0ca06f5c3cc12980294aa106eb9258e0c4e22f01", "330d97f5b291c6182290f5a206d1352a2b532a9a")


def version_of(file: Path) -> int:
    with closing(sqlite3.connect(file)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def shape_of(file: Path) -> list[tuple[str, str]]:
    """Columns and indexes, whatever their order."""
    with closing(sqlite3.connect(file)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        columns = [
            (table, str(row[1:6])) for table in tables for row in connection.execute(f"PRAGMA table_info({table})")
        ]
        indexes = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index'").fetchall()
    return sorted(columns) + sorted((name, str(sql)) for name, sql in indexes)


@pytest.fixture(params=KEPT, ids=lambda path: path.name)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of what a version left behind."""
    return Path(shutil.copytree(request.param, tmp_path / "old"))


def test_a_file_of_each_older_version_is_kept() -> None:
    assert {version_of(path / FILE_NAME) for path in KEPT} >= set(MIGRATIONS)


def test_a_file_that_was_brought_up_to_date_is_like_a_new_one(old: Path, tmp_path: Path) -> None:
    Database(old / FILE_NAME).close()
    Database(tmp_path / "new.sqlite3").close()
    assert version_of(old / FILE_NAME) == SCHEMA_VERSION
    assert shape_of(old / FILE_NAME) == shape_of(tmp_path / "new.sqlite3")


def test_a_tool_leaves_an_old_file_to_the_server(old: Path) -> None:
    before = (old / FILE_NAME).read_bytes()
    with pytest.raises(DataDirectoryError, match="`decoupled serve` brings it up to date"):
        Database(old / FILE_NAME, create=False)
    assert (old / FILE_NAME).read_bytes() == before


def test_an_upgraded_server_has_what_was_accepted_and_goes_on(old: Path) -> None:
    names = f"orders,transactions,notifications,{old / 'votes.py'}"
    with serving(old, "--workloads", names) as server:
        server.wait_until("processed", *[f"/orders/{message_id}" for message_id in QUEUED])
        assert server.get("/orders/0804eb83cea3a41aa764f9490681bc8a5705aa66").json["result"]["total"] == "79.80"
        assert server.get("/transactions/d993b5c6732cb0804cc4df8c24dacaae48bc58db").json["status"] == "rejected"
        assert server.get("/notifications/12c1112cc95d17a4e015eb94ba0db4b9c7493afd").json["status"] == "dead"
        assert server.get("/transactions/balances/bob.EUR").json["balance"] == 12.5
        vote = {"poll": "tea", "voter": "ana", "choice": "yes"}
        (message_id,) = server.accept("/votes", vote)
        server.wait_until("processed", f"/votes/{message_id}")
    again = Server(old, "--workloads", "orders")
    again.start()
    again.stop()
