"""Backups of a server that runs, or of a directory without one: whole or not at all, whatever happens meanwhile; and
what becomes of them when they are restored. Real processes, real disks."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.damage import Pages
from tests.support.server import DECOUPLED, Server, children, command, decoupled, serving, wait_for

FILE = "decoupled.sqlite3"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests that do not end it."""
    with serving(tmp_path_factory.mktemp("served") / "data", "--workloads", "ledger,echoes,gates") as server:
        server.accept("/ledger", *[{"account": number, "amount": 1} for number in range(200)])
        server.wait_until_settled()
        yield server


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where backups go."""
    place = tmp_path / "backups"
    place.mkdir()
    return place


@contextmanager
def verifying(owner: Callable[[], int], arguments: list[str | Path]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A tool whose backup stands still while it is verified: the tool, and the process that stands still. `owner`: the
    process that makes it."""
    tool = subprocess.Popen([DECOUPLED, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:

        def found() -> int | None:
            modules = [pid for pid in children(owner() or tool.pid) if any("verification" in it for it in command(pid))]
            return modules[0] if modules else None

        pid = wait_for(found) or 0
        os.kill(pid, signal.SIGSTOP)
        try:
            yield tool, pid
        finally:
            if tool.poll() is None:
                os.kill(pid, signal.SIGCONT)
    finally:
        tool.kill()
        tool.communicate()


def kept(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


# --- under a server -------------------------------------------------------------


def test_what_was_accepted_before_a_backup_is_in_it_and_requests_go_on(server: Server, place: Path) -> None:
    accepted: list[str] = []
    stop = threading.Event()

    def post() -> None:
        while not stop.is_set():
            accepted.extend(server.accept("/ledger", *[{"account": 1, "amount": 1} for _ in range(20)]))

    thread = threading.Thread(target=post)
    thread.start()
    try:
        wait_for(lambda: len(accepted) >= 100)
        before = list(accepted)
        said = decoupled("backup", "--data", server.data, place)
        after = len(accepted)
        wait_for(lambda: len(accepted) > after)
    finally:
        stop.set()
        thread.join()
    (name,) = kept(place)
    assert re.fullmatch(r"decoupled-\d{8}T\d{6}Z\.sqlite3", name)
    assert (place / name).stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(place / name)) as file:
        ids = {message_id for (message_id,) in file.execute("SELECT id FROM messages")}
        (mark,) = file.execute("SELECT value FROM marks WHERE name = 'backup'").fetchone()
    assert ids.issuperset(before)
    assert json.loads(mark)["holds"]["highest"] == len(ids)
    assert said.startswith("verified, as of 20")
    assert f"{len(ids):,} messages = " in said


def test_a_second_backup_is_refused_while_one_is_made_and_one_that_is_interrupted_leaves_nothing(
    server: Server, place: Path
) -> None:
    one, two = place / "one.sqlite3", place / "two.sqlite3"
    with verifying(lambda: server.pid, ["backup", "--data", server.data, one]) as (tool, _):
        said = decoupled("backup", "--data", server.data, two, status=1)
        assert f"a backup to {one} is being made: verifying" in said
        said = server.get("/health").json["upkeep"]["backup"]
        assert said == {"running": one.name, "says": f"a backup to {one.name} is being made: verifying"}
        assert kept(place) == ["one.sqlite3.part"]
        tool.send_signal(signal.SIGINT)
        assert tool.wait(20) == 1
        wait_for(lambda: kept(place) == [])
    assert server.get("/health").json["status"] == "ok"
    decoupled("backup", "--data", server.data, one)
    assert kept(place) == ["one.sqlite3"]


def test_a_place_that_will_not_do_is_named(server: Server, place: Path) -> None:
    def refusal(to: Path) -> str:
        return decoupled("backup", "--data", server.data, to, status=1)

    (place / "there").write_text("precious")
    assert "there is there already" in refusal(place / "there")
    assert (place / "there").read_text() == "precious"
    assert "is in the data directory" in refusal(server.data / "copy")
    assert "is in the data directory" in refusal(server.data)
    assert f"there is no directory {place}/nowhere" in refusal(place / "nowhere" / "copy")
    (place / "link.part").symlink_to(place / "there")
    assert "link.part cannot be made: Too many levels of symbolic links" in refusal(place / "link")
    assert (place / "there").read_text() == "precious"


def test_a_place_that_vanishes_is_told(server: Server, place: Path) -> None:
    with verifying(lambda: server.pid, ["backup", "--data", server.data, place / "copy"]) as (tool, pid):
        (place / "copy.part").unlink()
        place.rmdir()
        os.kill(pid, signal.SIGCONT)
        assert tool.wait(20) == 1
        assert tool.stderr is not None
        assert "there is no backup" in tool.stderr.read()
    assert server.get("/health").json["status"] == "ok"


def test_a_server_that_is_killed_leaves_a_part_that_the_next_backup_replaces(tmp_path: Path, place: Path) -> None:
    server = Server(tmp_path / "data", "--workloads", "ledger,echoes")
    try:
        server.start()
        server.accept("/ledger", {"account": 1, "amount": 1})
        with verifying(lambda: server.pid, ["backup", "--data", server.data, place / "copy"]) as (tool, _):
            server.end()
            assert tool.wait(20) == 1
        assert kept(place) == ["copy.part"]
        (place / "copy.part-journal").write_bytes(b"of another file")
        server.start()
        decoupled("backup", "--data", server.data, place / "copy")
        assert kept(place) == ["copy"]
    finally:
        server.end()


# --- without one ----------------------------------------------------------------


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose server has ended, which waits for a file beside it; and has keys."""
    data = tmp_path_factory.mktemp("ended") / "data"
    with serving(data, "--workloads", "ledger,echoes,gates", "--drain", "0") as server:
        server.accept("/ledger", *[{"account": number, "amount": 1} for number in range(1_000)])
        server.wait_until_settled()
        server.accept("/gates", {"file": str(data.parent / "open")})
    decoupled("keys", "add", "--data", data, "shop")
    return data


@pytest.fixture
def data(ended: Path, tmp_path: Path) -> Path:
    """The same for one test."""
    return Path(shutil.copytree(ended, tmp_path / "data"))


def test_without_a_server_a_tool_makes_the_backup_and_a_directory_comes_of_it_that_goes_on(
    data: Path, ended: Path, place: Path, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(data / FILE)) as file:  # as in a backup of a server that runs
        file.execute("UPDATE messages SET in_flight = 1, visible_at = visible_at + 10000000 WHERE status = 'queued'")
        (message_id,) = file.execute("SELECT id FROM messages WHERE status = 'queued'").fetchone()
        file.commit()
    decoupled("backup", "--data", data, place)
    decoupled("backup", "--data", data, copy := place / "copy")
    said = decoupled("restore", place, "--data", tmp_path / "new")  # a directory: the newest that has a time
    assert "2,001 messages = processed 2,000 + queued 1" in said
    assert (tmp_path / "new" / "keys").read_text() == (data / "keys").read_text()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    (ended.parent / "open").touch()
    with serving(tmp_path / "new", "--workloads", "ledger,echoes,gates") as server:
        server.wait_until("processed", f"/gates/{message_id}")
        assert server.statuses() == {"processed": 2_001}
        assert server.rows("SELECT name FROM marks WHERE name = 'backup keys'") == []
    assert "is there already" in decoupled("restore", copy, "--data", tmp_path / "new", status=1)


def test_a_full_disk_leaves_nothing(data: Path, place: Path) -> None:
    most = (data / FILE).stat().st_size // 2

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    said = decoupled("backup", "--data", data, place / "copy", status=1, preexec_fn=limited)
    assert f"{place / 'copy'} cannot be written: File too large" in said
    assert kept(place) == []
    said = decoupled("backup", "--data", data, place / "copy")
    said = decoupled("restore", place / "copy", "--data", place / "new", status=1, preexec_fn=limited)
    assert "File too large" in said
    assert kept(place / "new") == ["lock"]


def test_a_copy_that_is_not_whole_gets_no_name_and_is_not_restored(data: Path, place: Path, tmp_path: Path) -> None:
    decoupled("backup", "--data", data, good := place / "good")
    with closing(sqlite3.connect(good)) as file:
        file.execute("DELETE FROM messages WHERE seq = 1000")
        file.commit()
    said = decoupled("restore", good, "--data", tmp_path / "new", status=1)
    assert "its ledger does not add up: of the 2,001 messages from number 1 on, 2,000 are there" in said
    assert not (tmp_path / "new").exists()

    with closing(sqlite3.connect(data / FILE)) as file:
        file.execute("DELETE FROM messages WHERE seq = 1000")
        file.commit()
    assert "its ledger does not add up" in decoupled("backup", "--data", data, place / "bad", status=1)
    with closing(sqlite3.connect(data / FILE)) as file:
        file.execute("INSERT INTO removed (block, processed) VALUES (0, 1)")  # as retention says it
        file.commit()
    decoupled("backup", "--data", data, place / "counted")

    pages = Pages(data / FILE)
    pages.overwrite(pages.leaves("messages")[3])
    assert "it is damaged: " in decoupled("backup", "--data", data, place / "bad", status=1)
    assert kept(place) == ["counted", "good"]


def test_only_a_backup_is_restored(data: Path, place: Path, tmp_path: Path) -> None:
    def refusal(source: Path) -> str:
        return decoupled("restore", source, "--data", tmp_path / "new", status=1)

    assert f"there is no backup in {place}" in refusal(place)
    (place / "text").write_text("no database at all, whatever it may be called" * 100)
    assert "text cannot be used: it is damaged: file is not a database" in refusal(place / "text")
    decoupled("backup", "--data", data, place / "copy")
    (place / "half").write_bytes((place / "copy").read_bytes()[: 40 * 4096])
    assert "half cannot be used: it is damaged: " in refusal(place / "half")
    with closing(sqlite3.connect(place / "other")) as file:
        file.execute("CREATE TABLE other (a)")
    assert "it is no database of decoupled" in refusal(place / "other")
    (data / f"{FILE}-wal").write_bytes(b"x" * 32)
    assert "has a log beside it" in refusal(data / FILE)
    assert not (tmp_path / "new").exists()


def test_a_backup_of_an_earlier_version_is_brought_up_to_date(tmp_path: Path) -> None:
    earlier = Path(__file__).parents[1] / "support" / "data" / "schema-5" / FILE
    assert "it is no backup that decoupled made" in decoupled("restore", earlier, "--data", tmp_path / "new")
    with closing(sqlite3.connect(tmp_path / "new" / FILE)) as file:
        assert file.execute("PRAGMA user_version").fetchone() >= (6,)
