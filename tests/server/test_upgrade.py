"""What an earlier version left behind still runs: its data directory, and what was written for it. One of each is kept
in tests/support/data/VERSION, made by that version: of 0.1.0 a workload, since 0.2.0 a project with its test. What
stands under `schema-N` was made between two versions: those who follow main have such files, too."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from decoupled.engines.sqlite import driver
from decoupled.engines.sqlite.database import FILE_NAME, Database, DataDirectoryError
from decoupled.engines.sqlite.schema import MIGRATIONS, SCHEMA_VERSION
from tests.support.audited import sound
from tests.support.server import ROOT, Server, serving

KEPT = sorted((ROOT / "tests" / "support" / "data").iterdir())


def file_of(kept: Path) -> Path:
    (file,) = kept.rglob(FILE_NAME)
    return file


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
def old_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the file that a version left behind."""
    return Path(shutil.copyfile(file_of(request.param), tmp_path / FILE_NAME))


def copy_of(version: str, directory: Path) -> Path:
    """A copy of all that it left behind."""
    (kept,) = (path for path in KEPT if path.name == version)
    return Path(shutil.copytree(kept, directory / "old", ignore=shutil.ignore_patterns("__pycache__")))


def test_what_each_version_made_is_kept() -> None:
    versions = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert [path.name for path in KEPT if not path.name.startswith("schema-")] == sorted(versions)


def test_a_file_of_each_older_schema_is_kept() -> None:
    assert {version_of(file_of(path)) for path in KEPT} >= set(MIGRATIONS)


def test_a_file_that_was_brought_up_to_date_is_like_a_new_one(old_file: Path, tmp_path: Path) -> None:
    Database(old_file).close()
    Database(tmp_path / "new.sqlite3").close()
    assert version_of(old_file) == SCHEMA_VERSION
    with closing(Database(old_file, read_only=True)) as brought_up_to_date:
        assert sound(brought_up_to_date).accepted
    assert shape_of(old_file) == shape_of(tmp_path / "new.sqlite3")


OLDER = [path for path in KEPT if version_of(file_of(path)) < SCHEMA_VERSION]
RELEASED = [path for path in OLDER if not path.name.startswith("schema-")]  # the first goes through every step


@pytest.mark.parametrize("old_file", OLDER, ids=lambda path: path.name, indirect=True)
def test_a_tool_leaves_an_old_file_to_the_server(old_file: Path) -> None:
    before = old_file.read_bytes()
    with pytest.raises(DataDirectoryError, match="`decoupled serve` brings it up to date"):
        Database(old_file, read_only=True)
    assert old_file.read_bytes() == before


def opened_and_killed(file: Path, at: int) -> bool:
    """Open it in a process that is killed when its SQLite begins the statement of that number. Whether it was."""
    if (pid := os.fork()) == 0:
        begun = count(1)

        def connect(*arguments: Any, **more: Any) -> sqlite3.Connection:
            connection = sqlite3.Connection(*arguments, **more)
            connection.set_trace_callback(lambda _: os.kill(os.getpid(), signal.SIGKILL) if next(begun) == at else None)
            return connection

        driver.sqlite3.connect = connect  # type: ignore[assignment]  # in this process only
        try:
            Database(file)
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("old_file", RELEASED, ids=lambda path: path.name, indirect=True)
def test_a_server_that_is_killed_while_it_brings_a_file_up_to_date_leaves_it_as_it_was_or_as_it_is_to_be(
    old_file: Path, tmp_path: Path
) -> None:
    """At each statement of it: then the next one starts where this one did, or goes on."""
    old, shape = version_of(old_file), shape_of(old_file)
    kept = rows_of(old_file)
    killed = tmp_path / "killed" / FILE_NAME
    seen = set()
    for at in count(1):
        shutil.rmtree(killed.parent, ignore_errors=True)
        killed.parent.mkdir()
        shutil.copyfile(old_file, killed)
        if not opened_and_killed(killed, at):
            break
        seen.add(version := version_of(killed))
        assert version in (old, SCHEMA_VERSION)
        assert version == SCHEMA_VERSION or shape_of(killed) == shape
        Database(killed).close()
        assert version_of(killed) == SCHEMA_VERSION
        assert rows_of(killed) == kept
    assert old in seen
    assert at > len(re.findall(";", MIGRATIONS[old]))


def rows_of(file: Path) -> list[tuple[Any, ...]]:
    """What every version has of a message."""
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(
            "SELECT seq, id, workload, status, body, result FROM messages ORDER BY seq"
        ).fetchall()


def test_an_older_version_leaves_a_newer_file_alone(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    Database(file).close()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = file.read_bytes()
    with pytest.raises(DataDirectoryError, match="which a newer decoupled made"):
        Database(file)
    assert file.read_bytes() == before


def test_an_upgraded_server_has_what_0_1_accepted_and_goes_on(tmp_path: Path) -> None:
    old = copy_of("0.1.0", tmp_path)
    queued = ("0ca06f5c3cc12980294aa106eb9258e0c4e22f01", "330d97f5b291c6182290f5a206d1352a2b532a9a")
    names = f"orders,transactions,notifications,{old / 'votes.py'}"
    with serving(old, "--workloads", names) as server:
        server.wait_until("processed", *[f"/orders/{message_id}" for message_id in queued])
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


def test_a_project_of_0_2_passes_its_test_and_is_served_with_what_it_had(tmp_path: Path) -> None:
    project = copy_of("0.2.0", tmp_path)
    tested = subprocess.run([sys.executable, "-m", "unittest"], cwd=project, capture_output=True, text=True, timeout=60)
    assert tested.returncode == 0, tested.stderr
    queued = ("0f2528ff1a2fceba5597e207f08e1a6a712de35b", "4ff46429ac8b7ec3f733f21e6a7993357c192bd7")
    with serving(project / "data") as server:  # its decoupled.toml names the workload
        server.wait_until("processed", *[f"/returns/{message_id}" for message_id in queued])
        assert server.get("/returns/39bf019c138856e47cfbc86ab88ba959ecea7ab4").json["status"] == "processed"
        assert server.get("/returns/7e3f857fe4e9d545e9e5e62320385add5b5e60f4").json["reason"] == "returned already"
        assert server.get("/returns/reasons/all").json == {"broken": 1, "late": 1, "unwanted": 3}
    with serving(project / "data", "--workloads", "./boxes.py") as server:
        assert server.get("/boxes/83c00570989d7328c961c32f07580960d805e7cd").json["status"] == "dead"


def test_an_upgraded_server_processes_what_schema_4_had_queued(tmp_path: Path) -> None:
    with serving(copy_of("schema-4", tmp_path), "--workloads", "orders,notifications") as server:
        server.wait_until("processed", "/orders/1c16550b29f53a632bbcd50b9a05713cece14685")
        assert server.get("/orders/cb3da910673d5402451bf9d347b6b2cbe13e0438").json["status"] == "processed"
        assert server.rows("SELECT DISTINCT trace FROM messages") == [("",)]


def test_an_upgraded_server_processes_what_schema_5_had_queued_and_counts_what_was_rejected(tmp_path: Path) -> None:
    with serving(copy_of("schema-5", tmp_path), "--workloads", "orders,transactions") as server:
        server.wait_until("processed", "/orders/bec641bb692803da576c150b6a020cc2c27af7d5")
        assert server.get("/orders/cb3da910673d5402451bf9d347b6b2cbe13e0438").json["status"] == "processed"
        assert server.rows("SELECT name, n FROM tallies") == [("rejected", 1)]
