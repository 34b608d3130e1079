"""A file that is damaged in one place: what does not stand there goes on, and everybody is told what to do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct

from decoupled.core import api_keys, senders
from decoupled.core.api_keys import Keyring
from decoupled.core.outcomes import Commit
from decoupled.core.workload import Effects, Message, Put, Workload
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.keys_file import KeysFile, SendersFile
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.recovery import recover
from decoupled.engines.sqlite.table import SqliteTable
from tests.support.damage import Pages
from tests.support.server import DECOUPLED, LAUNCH, Server, serving, wait_for
from tests.support.virtual_time import EPOCH_MS, EmbeddedInVirtualTime, run
from tests.support.webhooks import STRIPE

MESSAGES = 150  # some twenty to a page
ENTRY = {"account": 1, "amount": 5}
ADVICE = "is damaged ("


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data", "--workloads", "ledger,echoes")
    yield server
    server.end()


def file_of(server: Server) -> Path:
    return server.data / "decoupled.sqlite3"


def ids_on(server: Server, *pages: int) -> set[str]:
    """Of the messages on these leaves of their table."""
    file = file_of(server)
    rows = [row for page in pages for row in Pages(file).rows(page)]
    with contextlib.closing(sqlite3.connect(file)) as connection:
        sql = "SELECT id FROM messages WHERE seq IN (SELECT value FROM json_each(?))"
        return {message_id for (message_id,) in connection.execute(sql, (json.dumps(rows),))}


def health(server: Server) -> tuple[str, str]:
    answer = server.get("/health").json
    return answer["status"], answer["detail"] or ""


def settled(server: Server, count: int = MESSAGES) -> list[str]:
    """A data directory with so many processed entries, whose server has ended. Their ids."""
    server.start()
    ids = server.accept("/ledger", *[ENTRY] * count)
    server.wait_until_settled()
    assert server.stop() == 0, server.logged()
    return ids


def test_a_record_on_a_damaged_page_cannot_be_read_and_every_other_can(server: Server) -> None:
    ids = settled(server)
    pages = Pages(file_of(server))
    page = pages.leaves("messages")[2]
    lost = ids_on(server, page) & set(ids)
    assert lost
    pages.overwrite(page)
    server.start()
    assert health(server)[0] == "ok"  # nobody has looked there
    for message_id in ids:
        answer = server.get(f"/ledger/{message_id}")
        assert (answer.status, answer.headers["content-type"]) == (
            (503, "application/problem+json") if message_id in lost else (200, "application/json")
        )
        assert b"Traceback" not in answer.body
    status, detail = health(server)
    assert status == "degraded"
    assert ADVICE in detail
    assert "decoupled recover" in detail
    (fresh,) = server.accept("/ledger", ENTRY)
    server.wait_until("processed", f"/ledger/{fresh}")
    told = [line for line in server.log_lines() if line["level"] == "CRITICAL"]
    assert len(told) == 1, told  # once, however often it is met
    assert "Traceback" not in server.log.read_text()
    shown = subprocess.run([DECOUPLED, "status", "--data", server.data], capture_output=True, text=True, check=False)
    assert ADVICE in " ".join((shown.stdout + shown.stderr).split())


# --- a start ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["messages", "messages_queued"])
def test_a_server_does_not_start_over_messages_that_it_cannot_read(server: Server, name: str) -> None:
    with serving(server.data, "--workloads", "hazards") as first:
        first.accept("/hazards", *[{"act": "unavailable"}] * MESSAGES)
    pages = Pages(file_of(server))
    leaves = pages.leaves(name)
    pages.overwrite(leaves[len(leaves) // 2])
    server.log.unlink()
    server.spawn()
    assert server.wait() == 1, server.logged()
    (said,) = [line for line in server.log.read_text().splitlines() if not line.startswith("{")]
    assert said.startswith(f"Error: {file_of(server)} is damaged (database disk image is malformed): stop the server")


@pytest.mark.parametrize("start", [0, 16, 100])
def test_a_server_does_not_start_on_a_damaged_first_page(server: Server, start: int) -> None:
    """Where it says that it is a SQLite file, how large its pages are, and what tables there are."""
    settled(server, 1)
    with file_of(server).open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * 32)
    server.log.unlink()
    server.spawn()
    assert server.wait() == 1, server.logged()
    (said,) = [line for line in server.log.read_text().splitlines() if not line.startswith("{")]
    assert said.startswith(f"Error: {file_of(server)} cannot be used: ")
    assert "decoupled recover" in said


# --- messages that wait -------------------------------------------------------


def fold(server: Server) -> None:
    """All into the file, and nothing is left in the log."""
    with contextlib.closing(sqlite3.connect(file_of(server))) as connection:
        wait_for(lambda: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0], lambda busy: busy == 0)


def test_messages_on_a_damaged_page_keep_no_others_waiting(server: Server) -> None:
    server.program = (*LAUNCH, "small_cache", "10")
    server.options = (*server.options, "--rate", "160")
    server.start()
    ids = server.accept("/ledger", *[ENTRY] * 600)
    fold(server)
    pages = Pages(file_of(server))
    leaves = pages.leaves("messages")
    place = len(leaves) // 2  # it is not there yet
    lost = ids_on(server, leaves[place])
    # SQLite evens pages out with those beside them: what is on these can be read, but perhaps not changed.
    near = ids_on(server, *leaves[place - 5 : place + 6])
    behind = ids_on(server, *leaves[place + 6 :])
    assert lost
    assert behind
    pages.overwrite(leaves[place])
    server.wait_until("processed", *[f"/ledger/{message_id}" for message_id in ids if message_id not in near])
    status, detail = health(server)
    assert status == "degraded"
    kept_back = re.search(r"(\d+) messages in it cannot be handed out", detail)
    assert kept_back
    assert len(lost) <= int(kept_back[1]) <= len(near)
    assert server.rows("SELECT count(*) FROM messages INDEXED BY messages_dead WHERE status = 'dead'") == [(0,)]
    assert server.stop() == 0, server.logged()
    assert "Traceback" not in server.log.read_text()


class Ping(Struct):
    pass


def pong(_ping: Ping, _message: Message) -> Effects:
    return Effects({})


@pytest.mark.parametrize("leaf", ["first", "middle"])
def test_a_damaged_index_stops_one_workload_and_no_other(tmp_path: Path, leaf: str) -> None:
    """Of the first page of a workload not even that it has messages can be seen."""
    workloads = {name: Workload(name, Ping, pong) for name in ("apples", "pears")}
    file = tmp_path / "decoupled.sqlite3"

    async def a_while() -> None:
        server = EmbeddedInVirtualTime(workloads, file=file)
        apples, pears = ([Message(f"{name}-{n}", name, "{}", "", EPOCH_MS) for n in range(500)] for name in workloads)
        server.send(apples)
        server.send(pears)
        server.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        leaves = Pages(file).leaves("messages_queued")
        Pages(file).overwrite(leaves[0 if leaf == "first" else 1])
        server.database.execute("PRAGMA shrink_memory")  # nothing of it is remembered
        server.start()
        await asyncio.sleep(5)
        stored = [server.table.get(message.id) for message in pears]
        # But for some that stand where SQLite would even pages out with the damaged one.
        assert sum(record is not None and record.status == "processed" for record in stored) > 250
        states = server.breakers.states()
        assert (states["apples"]["state"], states["pears"]["state"]) == ("open", "closed")
        server.stopping = True

    run(a_while())


# --- what can be saved --------------------------------------------------------


def recover_with_the_tool(server: Server) -> tuple[Server, subprocess.CompletedProcess[str]]:
    """A server on what was saved, and what the tool said."""
    saved = Server(server.data.with_name("saved"), *server.options)
    command = [str(DECOUPLED), "recover", "--data", str(server.data), "--to", str(saved.data)]
    return saved, subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("places", [[2], [2, 5], [-1], [1, -1], [0]], ids=str)
@pytest.mark.parametrize("table", ["messages", "items"])
def test_what_can_be_read_is_saved_and_the_lost_are_named(tmp_path: Path, table: str, places: list[int]) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    written = [Put(f"keys/{n}", {"text": "x" * 200}) for n in range(300)]
    sent = [Message(f"m-{n}", "apples", f'"{"x" * 200}"', "", EPOCH_MS) for n in range(300)]
    with contextlib.closing(Database(source)) as database:
        SqliteQueue(database).send(sent)
        for message, write in zip(sent, written, strict=True):  # each time the item gets a new number
            SqliteTable(database).commit([(message, Commit("{}", [write]))], 0)
    pages = Pages(source)
    damaged = [pages.leaves(table)[place] for place in places]
    gone = {row for page in damaged for row in pages.rows(page)}
    for page in damaged:
        pages.overwrite(page)

    with contextlib.closing(Database(target)) as whole:
        recovered = recover(source, whole)
    assert recovered.saved[table] == 300 - len(gone)
    assert recovered.saved["messages"] + recovered.saved["items"] == 600 - len(gone)
    numbers = {n for first, last in recovered.gaps[table] for n in range(first, (last or 300) + 1)}
    assert numbers == gone
    assert set(recovered.lost) == {f"m-{row - 1}" for row in gone if table == "messages"}
    with contextlib.closing(Database(target)) as database:
        found = {m.id for m in sent if SqliteTable(database).get(m.id) is not None}
        assert found == {m.id for m in sent} - set(recovered.lost)


def test_a_server_serves_what_was_saved(server: Server) -> None:
    ids = settled(server)
    pages = Pages(file_of(server))
    page = pages.leaves("messages")[2]
    lost = ids_on(server, page)
    pages.overwrite(page)
    saved, said = recover_with_the_tool(server)
    assert said.returncode == 1, said
    assert set(re.findall("^lost: message (.*)$", said.stderr, re.MULTILINE)) == lost
    try:
        saved.start()
        found = {message_id: saved.get(f"/ledger/{message_id}").status for message_id in ids[::10]}
        assert found == {message_id: 404 if message_id in lost else 200 for message_id in found}
        assert saved.get("/ledger/accounts/1").json == {"entries": MESSAGES, "total": 5 * MESSAGES}
        assert saved.stop() == 0, saved.logged()
    finally:
        saved.end()


def test_of_a_file_that_is_whole_all_is_saved_and_nothing_is_overwritten(server: Server) -> None:
    settled(server, 3)
    saved, said = recover_with_the_tool(server)
    assert (said.returncode, said.stdout, said.stderr) == (0, "6 messages saved\n2 items saved\n", "")
    _, again = recover_with_the_tool(server)
    assert (again.returncode, again.stderr) == (1, f"Error: {file_of(saved)} is there already; name a new directory\n")


def test_api_keys_are_saved_too_or_it_is_told_why_not(server: Server) -> None:
    settled(server, 3)
    keys = KeysFile(server.data)
    key = keys.change(lambda known: api_keys.add(known, "ana", EPOCH_MS, secrets.token_hex))
    saved, said = recover_with_the_tool(server)
    assert (said.returncode, said.stdout.splitlines()[-1]) == (0, "1 API keys saved")
    assert Keyring(KeysFile(saved.data).look() or []).holder(key) is not None
    shutil.rmtree(saved.data)
    keys.path.write_text("{")
    saved, said = recover_with_the_tool(server)
    assert (said.returncode, said.stdout) == (1, "6 messages saved\n2 items saved\n")
    assert said.stderr.startswith(f"no API keys: {keys.path} is damaged")
    assert not KeysFile(saved.data).path.exists()


def test_senders_of_webhooks_are_saved_with_the_keys(server: Server) -> None:
    settled(server, 3)
    file = SendersFile(server.data)
    file.change(lambda known: (senders.add(known, "till", "stripe", ["payments"], STRIPE, EPOCH_MS), None))
    saved, said = recover_with_the_tool(server)
    assert (said.returncode, said.stdout.splitlines()[-2:]) == (0, ["0 API keys saved", "1 senders of webhooks saved"])
    assert SendersFile(saved.data).look() == file.look()


def test_nothing_is_saved_while_the_server_runs_or_where_nothing_is(server: Server) -> None:
    _, said = recover_with_the_tool(server)
    assert (said.returncode, said.stderr) == (1, f"Error: there is no {file_of(server)}\n")
    server.start()
    _, said = recover_with_the_tool(server)
    assert "stop it first" in said.stderr


def test_the_file_of_another_program_is_not_saved(server: Server) -> None:
    server.data.mkdir()
    file_of(server).write_bytes(b"not a database, but a letter to Ana\n" * 200)
    _, said = recover_with_the_tool(server)
    assert said.returncode == 1
    assert "restore a backup" in said.stderr
