"""Tools beside a server: they look without changing a byte, and what they change, the server changes for them. Without
one they own the directory for as long as it takes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from decoupled.core import limits
from decoupled.core.dead_letters import Outcome, Wanted
from decoupled.core.frames import frame
from decoupled.core.workload import Unavailable
from decoupled.engines.sqlite import admin, admin_socket
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.tool import ServedDeadLetters, ToolDeadLetters
from tests.support.server import DECOUPLED, LAUNCH, Server, wait_for

FILE = "decoupled.sqlite3"
DEAD = 30


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One with dead letters."""
    server = Server(tmp_path / "data", "--workloads", "hazards", "--max-attempts", "1")
    server.start()
    server.accept("/hazards", *[{"act": "raise"}, {"act": "memory"}] * (DEAD // 2))  # all alike, they would be held
    wait_for(server.statuses, lambda it: it.get("dead") == DEAD)
    yield server
    server.end()


def run(server: Server, *arguments: str | Path, status: int = 0) -> str:
    """What a command says of the server's directory; it must end with that status."""
    name, *others = arguments
    words = [DECOUPLED, name, *others[: name == "dead"], "--data", server.data, *others[name == "dead" :]]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == status, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout + ended.stderr


def digests(directory: Path) -> dict[str, str]:
    return {
        name: hashlib.sha256((directory / name).read_bytes()).hexdigest()
        for name in (FILE, f"{FILE}-wal")
        if (directory / name).exists()
    }


# --- looking --------------------------------------------------------------------


@pytest.mark.parametrize("running", [True, False])
def test_looking_changes_not_a_byte(server: Server, tmp_path: Path, running: bool) -> None:
    """Also of what a killed server left in its log: the last one to close the file does not fold it in."""
    if not running:
        server.kill()
    before = digests(server.data)
    assert len(before) == 2
    (letter, *_) = run(server, "dead", "list", "--json").splitlines()
    run(server, "dead", "show", json.loads(letter)["id"])
    run(server, "dead", "export", "--output", tmp_path / "dead.jsonl")
    run(server, "dead", "redrive", "--all", "--dry-run")
    assert json.loads(run(server, "status", "--json"))["dead"] == DEAD
    assert digests(server.data) == before


def test_looking_keeps_nothing_from_a_server_that_starts(server: Server) -> None:
    server.stop()
    looking = ToolDeadLetters(DataDirectory(server.data))
    assert len(list(looking.find(Wanted()))) == DEAD
    server.start()
    server.accept("/hazards", {"act": "raise"})
    wait_for(server.statuses, lambda it: it.get("dead") == DEAD + 1)
    assert len(list(looking.find(Wanted()))) == DEAD + 1
    looking.close()


# --- changing beside a server ---------------------------------------------------


def open_for_writing(file: Path) -> list[int]:
    """The descriptors of this process that could write to a file."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        if entry.exists() and entry.samefile(file):
            flags = fcntl.fcntl(int(entry.name), fcntl.F_GETFL)
            if flags & os.O_ACCMODE != os.O_RDONLY:
                found.append(int(entry.name))
    return found


def test_what_a_tool_changes_beside_a_server_the_server_writes(server: Server) -> None:
    tool = ToolDeadLetters(DataDirectory(server.data))
    letters = list(tool.find(Wanted(), bodies=True))
    purged = tool.purge(letters[:10])
    restored = tool.restore(letters[:5])
    assert open_for_writing(server.data / FILE) == []
    tool.close()
    assert [outcome.done for outcome in purged] == ["purged"] * 10
    assert [outcome.done for outcome in restored] == ["imported"] * 5
    assert server.statuses() == {"dead": DEAD - 5, "rejected": 5}
    assert "25 redriven" in run(server, "dead", "redrive", "--all")
    wait_for(server.statuses, lambda it: it == {"dead": DEAD - 5, "rejected": 5})  # it fails again, by itself


def test_changes_go_through_at_a_path_of_any_length(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-directory-with-a-long-name"] * 6)
    deep.mkdir(parents=True)
    server = Server(deep / "data", "--workloads", "hazards", "--max-attempts", "1")
    try:
        server.start()
        server.accept("/hazards", {"act": "raise"})
        wait_for(server.statuses, lambda it: it == {"dead": 1})
        assert "1 purged" in run(server, "dead", "purge", "--all", "--yes")
    finally:
        server.end()


def test_an_import_larger_than_a_request_goes_in_parts(server: Server, tmp_path: Path) -> None:
    run(server, "dead", "export", "--output", tmp_path / "dead.jsonl")
    line = json.loads((tmp_path / "dead.jsonl").read_text().splitlines()[0])
    body = json.dumps({"act": "raise", "touch": "x" * (limits.MAX_ENTRY_BYTES - 1_000)})
    lines = [json.dumps({**line, "id": f"large-{number}", "body": body}) for number in range(40)]
    assert sum(map(len, lines)) > 2 * limits.MAX_REQUEST_BYTES
    (tmp_path / "large.jsonl").write_text("\n".join(lines))
    assert "40 imported" in run(server, "dead", "import", tmp_path / "large.jsonl")
    assert server.statuses() == {"dead": DEAD + 40}


def test_a_change_that_the_server_cannot_store_is_an_error(tmp_path: Path) -> None:
    full = tmp_path / "full"
    server = Server(tmp_path / "data", "--workloads", "hazards", "--max-attempts", "1")
    server.program = (*LAUNCH, "full_disk", str(full))
    try:
        server.start()
        server.accept("/hazards", *[{"act": "raise"}, {"act": "memory"}] * (DEAD // 2))  # all alike, they would be held
        wait_for(server.statuses, lambda it: it == {"dead": DEAD})
        line = json.loads(run(server, "dead", "list", "--json").splitlines()[0])
        large = {**line, "body": json.dumps({"touch": "x" * 100_000})}
        lines = [json.dumps({**large, "id": f"large-{number}"}) for number in range(20)]
        (tmp_path / "large.jsonl").write_text("\n".join(lines))
        full.touch()
        said = run(server, "dead", "import", tmp_path / "large.jsonl", status=1)
        assert "the server refuses: the change could not be stored: database or disk is full" in said
        assert server.statuses() == {"dead": DEAD}
    finally:
        server.end()


def test_a_server_that_takes_no_changes_is_named(server: Server) -> None:
    (server.data / "admin").unlink()
    said = run(server, "dead", "purge", "--all", "--yes", status=1)
    assert f"is in use by process {server.pid}" in said
    assert "takes no changes from tools" in said
    assert server.statuses() == {"dead": DEAD}


def ask(server: Server, change: admin.Change) -> list[Outcome]:
    with admin_socket.connect(server.data, 20) as connection:
        return admin.ask(connection, change)


def test_what_no_tool_of_ours_would_ask_is_refused(server: Server) -> None:
    forget: Any = "forget"
    with pytest.raises(Unavailable, match=r"does not understand this tool .*Invalid enum value 'forget'.*same version"):
        ask(server, admin.Change(forget, []))
    (letter, *_) = ToolDeadLetters(DataDirectory(server.data)).find(Wanted())
    with pytest.raises(Unavailable, match="these are 101 dead letters; 100 are taken at once"):
        ask(server, admin.Change("purge", [letter] * (limits.TOOL_BATCH + 1)))
    assert ask(server, admin.Change("purge", [])) == []
    assert server.statuses() == {"dead": DEAD}


def test_what_this_server_cannot_do_is_refused_by_name(server: Server) -> None:
    with (
        admin_socket.connect(server.data, 20) as connection,
        pytest.raises(Unavailable, match="it cannot 'fly'; is it"),
    ):
        admin.call(connection, "fly", {}, dict[str, Any])
    assert ask(server, admin.Change("purge", [])) == []


def test_a_tool_of_an_older_version_hears_so_and_does_no_harm(server: Server) -> None:
    """Those spoke HTTP."""
    with admin_socket.connect(server.data, 20) as connection:
        connection.sendall(b"POST /dead-letters/purge HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n[]")
        assert b"is it of the same version?" in connection.recv(1_000)
        assert connection.recv(1_000) == b""
    assert ask(server, admin.Change("purge", [])) == []


def test_a_server_of_an_older_version_is_named(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as tool:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        tool.connect(str(tmp_path / "socket"))
        server, _ = listener.accept()
        with server:
            server.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            with pytest.raises(Unavailable, match="it is of another version"):
                admin.ask(tool, admin.Change("purge", []))


def test_tools_have_places_of_their_own_and_no_more(server: Server) -> None:
    with ExitStack() as stack:
        for _ in range(limits.MAX_TOOLS):
            stack.enter_context(admin_socket.connect(server.data, 20))
        with pytest.raises((Unavailable, OSError), match=r"16 tools are connected already|hung up|Broken pipe|reset"):
            ask(server, admin.Change("purge", []))
    assert wait_for(lambda: ask_again(server), lambda it: it == []) == []


def ask_again(server: Server) -> list[Outcome] | None:
    with suppress(Unavailable, OSError):
        return ask(server, admin.Change("purge", []))
    return None


# --- changing without one -------------------------------------------------------


def test_a_tool_that_hangs_up_before_the_answer_does_no_harm(server: Server) -> None:
    """As one that is ended by Ctrl-C while the server waits for the disk; here, for a lock."""
    letters = list(ToolDeadLetters(DataDirectory(server.data)).find(Wanted()))
    files = len(open_files(server))
    with closing(sqlite3.connect(server.data / FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with admin_socket.connect(server.data, 10) as tool:
            tool.sendall(frame(msgspec.msgpack.encode(admin.Change("purge", letters[:10]))))
            wait_for(lambda: len(open_files(server)) > files)
        wait_for(lambda: len(open_files(server)) == files)
        other.execute("ROLLBACK")
    wait_for(server.statuses, lambda it: it.get("dead") == DEAD - 10)
    assert server.get("/health").json["status"] == "ok"
    assert server.stop() == 0, server.logged()


def open_files(server: Server) -> list[Path]:
    return list(Path(f"/proc/{server.pid}/fd").iterdir())


def test_no_server_starts_while_a_tool_changes_and_it_does_afterwards(server: Server) -> None:
    server.kill()  # what it left is no obstacle
    tool = ToolDeadLetters(DataDirectory(server.data))
    letters = list(tool.find(Wanted()))
    assert [outcome.done for outcome in tool.redrive(letters[:1])] == ["redriven"]
    server.log.unlink()
    server.spawn()
    assert server.wait() == 1
    assert f"is in use by process {os.getpid()}; one process owns it at a time" in server.logged()
    tool.close()
    server.start()
    wait_for(server.statuses, lambda it: it == {"dead": DEAD})


def test_two_tools_do_not_write_at_the_same_time(server: Server) -> None:
    server.stop()
    tool = ToolDeadLetters(DataDirectory(server.data))
    tool.purge([])
    said = run(server, "dead", "purge", "--all", "--yes", status=1)
    assert f"is in use by process {os.getpid()}" in said
    tool.close()
    assert f"{DEAD} purged" in run(server, "dead", "purge", "--all", "--yes")


def test_a_server_that_dies_in_between_is_said_and_repeating_is_safe(server: Server) -> None:
    tool = ToolDeadLetters(DataDirectory(server.data))
    letters = list(tool.find(Wanted()))
    tool.purge(letters[:10])
    assert isinstance(tool._changing, ServedDeadLetters)
    server.kill()
    with pytest.raises(Exception, match="takes no changes from tools: Connection refused"):
        tool.purge(letters[10:])
    tool.close()
    assert f"{DEAD - 10} purged" in run(server, "dead", "purge", "--all", "--yes")
