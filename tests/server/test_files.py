"""The files of a data directory: private whatever the umask, one server's under every name that they may have, and when
somebody takes them away from under it, nothing more is accepted into files that nobody will find."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from decoupled.engines.sqlite import outage
from decoupled.engines.sqlite.driver import VERSION, wal_reset_bug
from tests.support.server import DECOUPLED, Answer, Server, wait_for

ENTRY = {"account": 1, "amount": 5}
FILE = "decoupled.sqlite3"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data", "--workloads", "ledger,echoes")
    yield server
    server.end()


@pytest.fixture
def second(server: Server) -> Iterator[Server]:
    """Another one, whose directory the test chooses."""
    second = Server(server.data, "--workloads", "ledger,echoes")
    second.log = server.data.parent / "second.log"
    yield second
    second.end()


def refusal(server: Server) -> str:
    """What a server that does not start says, in its last line."""
    server.spawn()
    assert server.wait() == 1, server.logged()
    said = server.logged().splitlines()[-1]
    assert said.startswith("Error: "), server.logged()
    return said


# --- private ------------------------------------------------------------------


def modes(directory: Path) -> dict[str, int]:
    paths = [directory, *directory.rglob("*")]
    return {str(path.relative_to(directory)): stat.S_IMODE(path.stat().st_mode) for path in paths}


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def run(*arguments: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """A command, which must end with that status."""
    ended = subprocess.run([DECOUPLED, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == status, ended.stderr
    return ended


def test_all_that_a_server_makes_is_its_users_alone(server: Server) -> None:
    with umask(0):
        server.start()
    server.accept("/ledger", *[ENTRY] * 20)
    server.wait_until_settled()
    wait_for((server.data / "server").exists)
    made = modes(server.data)
    assert {FILE, f"{FILE}-wal", f"{FILE}-shm", "lock", "server", "admin"} <= set(made)
    assert made.pop(".") == 0o700
    assert set(made.values()) == {0o600}, made


def test_files_that_were_open_to_others_are_mended_at_start_and_told_of(server: Server) -> None:
    server.start()
    server.accept("/ledger", *[ENTRY] * 20)
    wait_for((server.data / "server").exists)
    server.kill()
    server.data.chmod(0o755)
    for name in (FILE, f"{FILE}-wal", f"{FILE}-shm", "lock", "server"):
        (server.data / name).chmod(0o644)
    server.start()
    assert {mode & 0o077 for mode in modes(server.data).values()} == {0}
    (line,) = [line for line in server.log_lines() if "files" in line]
    assert line["level"] == "WARNING"
    assert set(line["files"]) == {str(server.data), FILE, f"{FILE}-wal", f"{FILE}-shm", "lock", "server"}
    server.stop()
    server.log.unlink()
    server.start()
    assert [line for line in server.log_lines() if "files" in line] == []


def test_files_that_are_not_ours_keep_their_permissions(server: Server) -> None:
    server.data.mkdir()
    theirs = server.data / "notes.txt"
    theirs.touch()
    theirs.chmod(0o644)
    server.start()
    assert stat.S_IMODE(theirs.stat().st_mode) == 0o644


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a directory away")
def test_a_directory_of_another_user_is_refused(server: Server) -> None:
    server.data.mkdir()
    os.chown(server.data, 12_345, 12_345)
    said = refusal(server)
    assert f"{server.data} belongs to user 12345, and this process runs as user 0" in said
    assert list(server.data.iterdir()) == []


def test_what_commands_write_is_their_users_alone(server: Server, tmp_path: Path) -> None:
    server.options = ("--workloads", "orders")
    server.start()
    wait_for((server.data / "server").exists)
    exported, ledger = tmp_path / "dead.jsonl", tmp_path / "ledger.jsonl"
    for file in (exported, ledger):
        file.touch()
        file.chmod(0o644)
    with umask(0):
        run("dead", "export", "--data", server.data, "--output", exported)
        run("spike", "--orders", "20", "--data", server.data, "--ledger", ledger)
        outage.begin(server.data, 60)
    for file in (exported, ledger, server.data / "outage"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert len(ledger.read_text().splitlines()) == 20


def test_an_export_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    exported = tmp_path / "dead.jsonl"
    exported.write_text("the last one\n")
    run("dead", "export", "--data", tmp_path / "nothing", "--output", exported, status=1)
    assert exported.read_text() == "the last one\n"
    assert list(tmp_path.iterdir()) == [exported]


# --- one server, under every name ---------------------------------------------


def test_a_lock_that_was_removed_lets_no_second_server_in(server: Server, second: Server) -> None:
    server.start()
    os.kill(server.pid, signal.SIGSTOP)
    (server.data / "lock").unlink()
    assert "is in use by another process; one process owns it at a time" in refusal(second)
    os.kill(server.pid, signal.SIGCONT)
    assert server.wait() == 1
    assert f"{server.data}/lock was taken away" in server.logged()


def test_a_directory_under_another_name_is_the_same_directory(server: Server, second: Server) -> None:
    server.start()
    second.data = server.data.parent / "link"
    second.data.symlink_to(server.data)
    assert f"is in use by process {server.pid}" in refusal(second)


@pytest.mark.parametrize(
    ("link", "said"), [(os.symlink, "is a symbolic link"), (os.link, "has 2 names (hard links)")], ids=["soft", "hard"]
)
def test_a_database_under_another_name_is_refused(
    server: Server, second: Server, link: Callable[[Path, Path], None], said: str
) -> None:
    server.start()
    second.data = server.data.parent / "other"
    second.data.mkdir(mode=0o700)
    link(server.data / FILE, second.data / FILE)
    assert said in refusal(second)
    (message_id,) = server.accept("/ledger", ENTRY)
    server.wait_until("processed", f"/ledger/{message_id}")


# --- taken away ---------------------------------------------------------------


def remove_all(data: Path) -> None:
    shutil.rmtree(data)


def remove_database(data: Path) -> None:
    (data / FILE).unlink()


def remove_log(data: Path) -> None:
    (data / f"{FILE}-wal").unlink()


def remove_index(data: Path) -> None:
    (data / f"{FILE}-shm").unlink()


def remove_lock(data: Path) -> None:
    (data / "lock").unlink()


def move_away(data: Path) -> None:
    data.rename(data.with_name("moved"))


def move_away_and_copy_back(data: Path) -> None:
    data.rename(data.with_name("moved"))
    shutil.copytree(data.with_name("moved"), data, ignore=shutil.ignore_patterns("admin"))


def restore_database(data: Path) -> None:
    """As from a backup: the name stays, the file is another one."""
    shutil.copyfile(data / FILE, data / "restored")
    (data / "restored").rename(data / FILE)


LOST = (remove_all, remove_database, remove_log, move_away, move_away_and_copy_back, restore_database)


@pytest.mark.parametrize("take", [*LOST, remove_index, remove_lock])
def test_a_server_whose_files_are_taken_away_accepts_nothing_more_and_ends(
    server: Server, take: Callable[[Path], None]
) -> None:
    """Not one request into a file that nobody will find: each commit is looked at before it is believed."""
    server.start()
    server.accept("/ledger", *[ENTRY] * 20)
    take(server.data)
    answers: list[Answer] = []
    with contextlib.suppress(OSError):  # it ends meanwhile
        answers.extend(server.post("/ledger", ENTRY) for _ in range(20))
    assert server.wait() == 1, server.logged()
    if take in LOST:
        assert {answer.status for answer in answers} <= {503}
        assert {answer.json["resend"] for answer in answers} <= {"safe", "with_idempotency_key"}
    (line,) = [line for line in server.log_lines() if line["level"] == "CRITICAL"]
    assert line["message"] == "the server ends: its files are not its own any more"
    assert str(server.data) in line["error"]
    assert "Traceback" not in server.logged()


def test_a_server_that_was_suspended_while_its_files_were_replaced_leaves_the_new_ones_alone(
    server: Server, second: Server
) -> None:
    server.start()
    server.accept("/ledger", *[ENTRY] * 20)
    server.wait_until_settled()
    os.kill(server.pid, signal.SIGSTOP)
    move_away_and_copy_back(server.data)
    second.start()
    (message_id,) = second.accept("/ledger", ENTRY)
    os.kill(server.pid, signal.SIGCONT)
    with contextlib.suppress(OSError):  # it may have ended before that
        assert server.post("/ledger", ENTRY).status == 503
    assert server.wait() == 1
    second.wait_until("processed", f"/ledger/{message_id}")
    ids = second.accept("/ledger", *[ENTRY] * 20)
    second.wait_until_settled()
    second.kill()  # what it accepted is in its log, if that is still there
    second.start()
    second.wait_until("processed", *[f"/ledger/{it}" for it in [message_id, *ids]])
    assert second.rows("PRAGMA integrity_check") == [("ok",)]


def test_a_directory_that_moved_behind_a_link_is_still_its_servers(server: Server) -> None:
    server.start()
    moved = server.data.with_name("moved")
    server.data.rename(moved)
    server.data.symlink_to(moved)
    (message_id,) = server.accept("/ledger", ENTRY)
    server.wait_until("processed", f"/ledger/{message_id}")


# --- SQLite itself ------------------------------------------------------------


def test_an_affected_sqlite_is_told_of_at_start(server: Server) -> None:
    server.start()
    assert server.stop() == 0  # and so all of its log is there
    told = [line for line in server.log_lines() if "SQLite" in line["message"]]
    assert [line["sqlite"] for line in told] == [VERSION] * wal_reset_bug()


def test_a_newer_sqlite_that_is_installed_is_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = server.data.parent / "site" / "pysqlite3"
    stand_in.mkdir(parents=True)
    (stand_in / "__init__.py").touch()
    (stand_in / "dbapi2.py").write_text(
        "from sqlite3 import *\nsqlite_version, sqlite_version_info = '3.49.9', (3, 49, 9)"
    )
    monkeypatch.setenv("PYTHONPATH", str(stand_in.parent))
    server.start()
    wait_for(lambda: [line["sqlite"] for line in server.log_lines() if "sqlite" in line], ["3.49.9"].__eq__)
    server.accept("/ledger", ENTRY)
    server.wait_until_settled()


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
    ],
)
def test_which_sqlite_has_the_wal_reset_bug(version: tuple[int, ...], affected: bool) -> None:
    assert wal_reset_bug(version) == affected
