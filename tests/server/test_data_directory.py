"""One data directory, one server, and only files that are its own. What is wrong is said in a sentence, with an exit
status, and nothing is touched. A disk that is full refuses requests, loses nothing, and is over when there is space."""

from __future__ import annotations

import os
import resource
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import DECOUPLED, LAUNCH, Server, serving, wait_for

ENTRY = {"account": 1, "amount": 5}
LARGE_LOG_BYTES = 24_576  # less than what SQLite has written by then, more than the server's own log


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data", "--workloads", "ledger,echoes")
    yield server
    server.end()


def refusal(server: Server) -> str:
    """What a server that does not start says. One line, no traceback."""
    server.spawn()
    assert server.wait() == 1, server.logged()
    said = server.logged()
    assert said.startswith("Error: "), said
    assert "Traceback" not in said
    return said


def test_a_second_server_on_the_same_directory_is_refused_and_the_first_serves_on(server: Server) -> None:
    server.start()
    second = Server(server.data, "--workloads", "ledger,echoes")
    second.log = server.data.parent / "second.log"
    said = refusal(second)
    assert f"is in use by process {server.pid}; one process owns it at a time" in said
    (message_id,) = server.accept("/ledger", ENTRY)
    server.wait_until("processed", f"/ledger/{message_id}")


def test_a_port_in_use_is_named(server: Server) -> None:
    with socket.create_server(("127.0.0.1", server.port)):
        assert f"cannot listen on 127.0.0.1:{server.port}: Address already in use" in refusal(server)
    assert not server.data.exists()


def test_a_file_of_another_program_is_left_alone(server: Server) -> None:
    server.data.mkdir()
    file = server.data / "decoupled.sqlite3"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = file.read_bytes()
    assert "another program" in refusal(server)
    assert file.read_bytes() == before


def test_a_file_of_another_program_without_tables_is_left_alone(server: Server) -> None:
    server.data.mkdir()
    file = server.data / "decoupled.sqlite3"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA application_id = 12345")
    connection.close()
    before = file.read_bytes()
    assert "another program" in refusal(server)
    assert file.read_bytes() == before


def test_a_newer_schema_is_left_alone(server: Server) -> None:
    with serving(server.data):
        pass
    file = server.data / "decoupled.sqlite3"
    with sqlite3.connect(file) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute(f"PRAGMA user_version = {version + 1}")
    connection.close()
    before = file.read_bytes()
    server.log.unlink()
    assert f"has schema version {version + 1}, which a newer decoupled made" in refusal(server)
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database, but a letter to Ana\n" * 200, b"x"])
def test_a_file_that_is_no_database_is_left_alone(server: Server, content: bytes) -> None:
    server.data.mkdir()
    file = server.data / "decoupled.sqlite3"
    file.write_bytes(content)
    assert "file is not a database" in refusal(server)
    assert file.read_bytes() == content


def test_a_damaged_file_is_refused_or_served_but_never_replaced(server: Server) -> None:
    with serving(server.data, "--workloads", "ledger,echoes") as first:
        first.accept("/ledger", *[ENTRY] * 100)
        first.wait_until_settled()
    file = server.data / "decoupled.sqlite3"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])  # as after a copy that broke off
    server.log.unlink()
    refusal(server)
    assert file.stat().st_size == len(whole) // 2


def test_a_directory_that_is_a_file_is_refused(server: Server) -> None:
    server.data.write_text("mine")
    server.spawn()
    assert server.wait() == 2  # as every bad option
    assert f"'{server.data}' is a file" in server.logged()
    assert server.data.read_text() == "mine"


def test_a_directory_below_a_file_is_refused(server: Server) -> None:
    (server.data.parent / "file").write_text("mine")
    server.data = server.directory / "file" / "data"
    assert "Not a directory" in refusal(server)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written_is_refused(server: Server) -> None:
    server.data.mkdir(mode=0o500)
    assert "Permission denied" in refusal(server)
    assert list(server.data.iterdir()) == []


def test_a_database_that_is_a_directory_is_refused(server: Server) -> None:
    (server.data / "decoupled.sqlite3").mkdir(parents=True)
    assert "unable to open database file" in refusal(server)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_database_that_cannot_be_read_is_refused(server: Server) -> None:
    server.start()
    server.stop()
    server.log.unlink()
    (server.data / "decoupled.sqlite3").chmod(0)
    assert "unable to open database file" in refusal(server)


READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'
MAY_MOUNT = ("unshare", "--map-root-user", "--mount")


@pytest.mark.skipif(
    sys.platform != "linux" or subprocess.run([*MAY_MOUNT, "true"], capture_output=True, check=False).returncode != 0,
    reason="nothing may be mounted here",
)
@pytest.mark.parametrize("existing", [True, False], ids=["existing", "new"])
def test_a_read_only_file_system_is_named(server: Server, existing: bool) -> None:
    if existing:
        server.start()
        server.stop()
        server.log.unlink()
    else:
        server.data.mkdir()
    server.program = (*MAY_MOUNT, "sh", "-c", READ_ONLY, "sh", str(server.data), str(DECOUPLED))
    assert f"the data directory {server.data} cannot be used: Read-only file system" in refusal(server)


@pytest.mark.parametrize("files", [8, 12, 40])
def test_too_few_file_descriptors_are_named(server: Server, files: int) -> None:
    limited = ("sh", "-c", f'ulimit -n {files}; exec "$0" "$@"')
    server.program = (*limited, sys.executable, str(DECOUPLED))  # from a path with spaces, it is sh that reads it
    assert f"only {files} files may be open at once" in refusal(server)
    assert not server.data.exists()


def test_a_stale_lock_of_a_dead_server_is_no_obstacle(server: Server) -> None:
    server.start()
    server.kill()
    server.start()
    assert server.get("/health").status == 200


def test_a_workload_that_is_not_there_is_named_before_anything_is_made(server: Server) -> None:
    server.options = ("--workloads", "nothing")
    assert "there is no workload 'nothing'" in refusal(server)
    assert not server.data.exists()


# --- a full disk --------------------------------------------------------------


class NoSpace:
    """No pages left in the database, by SQLite's own limit: it says that the disk is full, and rolls back itself."""

    def __init__(self, server: Server, directory: Path) -> None:
        self.file = directory / "full"
        server.program = (*LAUNCH, "full_disk", str(self.file))

    def begin(self) -> None:
        self.file.touch()

    def end(self) -> None:
        self.file.unlink()


class NoGrowth:
    """No file of the server may grow, by the kernel's limit: writes to the log fail, and "disk I/O error"."""

    def __init__(self, server: Server, _directory: Path) -> None:
        self.server = server

    def begin(self) -> None:
        self._limit(LARGE_LOG_BYTES)

    def end(self) -> None:
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, most_bytes: int) -> None:
        resource.prlimit(self.server.pid, resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))


@pytest.mark.parametrize("fault", [NoSpace, NoGrowth])
def test_a_full_disk_refuses_requests_and_loses_nothing(
    server: Server, tmp_path: Path, fault: type[NoSpace | NoGrowth]
) -> None:
    full = fault(server, tmp_path)
    server.start()
    ids = server.accept("/ledger", *[ENTRY] * 50)
    server.wait_until("processed", *[f"/ledger/{message_id}" for message_id in ids])

    full.begin()
    refused = wait_for(lambda: server.post("/ledger", ENTRY), lambda answer: answer.status == 503)
    assert int(refused.headers["retry-after"]) > 0
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json["status"] == 503
    assert refused.json["resend"] in ("safe", "with_idempotency_key")
    health = server.get("/health")
    assert (health.status, health.json["status"]) == (503, "unavailable")
    assert server.get(f"/ledger/{ids[0]}").json["status"] == "processed"  # what is there can still be read

    full.end()
    accepted = wait_for(lambda: server.post("/ledger", ENTRY), lambda answer: answer.status == 202)
    server.wait_until("processed", f"/ledger/{accepted.json['id']}")
    wait_for(lambda: server.get("/health").status, lambda status: status == 200)
    server.wait_until_settled()
    item = server.get("/ledger/accounts/1").json
    ((processed,),) = server.rows("SELECT count(*) FROM messages WHERE status = 'processed' AND workload = 'ledger'")
    assert item == {"entries": processed, "total": processed * ENTRY["amount"]}
    assert server.stop() == 0, server.logged()


def start_and_fill_during_a_message(server: Server, tmp_path: Path) -> tuple[str, NoGrowth]:
    """A message that was decided and cannot be stored."""
    began = tmp_path / "began"
    server.options = ("--workloads", "hazards", "--drain", "1")
    server.start()
    server.accept("/hazards", *[{"act": "well"}] * 50)
    server.wait_until_settled()
    (message_id,) = server.accept("/hazards", {"act": "slow", "seconds": 0.3, "touch": str(began)})
    wait_for(began.exists)
    full = NoGrowth(server, tmp_path)
    full.begin()
    wait_for(lambda: "settlement failed" in server.logged())
    return message_id, full


def test_what_was_decided_while_the_disk_was_full_is_stored_when_there_is_space(server: Server, tmp_path: Path) -> None:
    message_id, full = start_and_fill_during_a_message(server, tmp_path)
    assert server.get(f"/hazards/{message_id}").json["status"] == "queued"
    full.end()
    server.wait_until("processed", f"/hazards/{message_id}")
    sql = "SELECT receive_count FROM messages WHERE id = ?"
    assert server.rows(sql, message_id) == [(1,)]  # stored, not processed again


def test_a_server_that_is_stopped_while_the_disk_is_full_loses_nothing(server: Server, tmp_path: Path) -> None:
    message_id, _ = start_and_fill_during_a_message(server, tmp_path)
    server.stop()
    assert "Traceback" not in server.logged()
    server.start()
    server.wait_until("processed", f"/hazards/{message_id}")


@pytest.mark.parametrize("space", [0, 2_000], ids=["for_nothing", "for_the_lock"])
@pytest.mark.parametrize("existing", [True, False], ids=["existing", "new"])
def test_a_server_without_space_does_not_start_and_says_so(
    server: Server, tmp_path: Path, existing: bool, space: int
) -> None:
    if existing:
        start_and_fill_during_a_message(server, tmp_path)
        server.kill()
    command = [*LAUNCH, "no_growth", str(space), "serve", "--port", str(server.port), "--data", str(server.data)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"Error: the data directory {server.data} cannot be written: ") or (
        f"{server.data}/decoupled.sqlite3 cannot be used: " in ended.stderr
    )
    assert "Traceback" not in ended.stderr
    server.start()
    server.wait_until_settled()


def test_a_lock_that_cannot_be_written_is_named(server: Server) -> None:
    server.data.mkdir()
    (server.data / "lock").mkdir()
    assert "Is a directory" in refusal(server)
