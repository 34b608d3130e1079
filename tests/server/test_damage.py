"""A file that is damaged in one place: what does not stand there goes on, and everybody is told what to do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct

from decoupled.core.workload import Effects, Message, Workload
from tests.support.damage import Pages
from tests.support.server import DECOUPLED, LAUNCH, Server, serving, wait_for
from tests.support.virtual_time import EPOCH_MS, EmbeddedInVirtualTime, run

MESSAGES = 300  # some twenty to a page
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
    assert ".recover" in detail
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
    pages.overwrite(pages.leaves(name)[1])
    server.log.unlink()
    server.spawn()
    assert server.wait() == 1, server.logged()
    (said,) = server.log.read_text().splitlines()
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
    (said,) = server.log.read_text().splitlines()
    assert said.startswith(f"Error: {file_of(server)} cannot be used: ")
    assert ".recover" in said


# --- messages that wait -------------------------------------------------------


def fold(server: Server) -> None:
    """Into the file, and out of the log."""
    connection = sqlite3.connect(file_of(server))
    wait_for(
        lambda: connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone(),
        lambda it: it[0] == 0 and it[1] == it[2],
    )
    connection.close()


def backlog(server: Server) -> list[str]:
    """Of a server that reads its file again and again. It takes some seconds to process them; their ids."""
    server.program = (*LAUNCH, "small_cache", "10")
    server.options = (*server.options, "--rate", "40")
    server.start()
    ids = server.accept("/ledger", *[ENTRY] * MESSAGES)
    fold(server)
    return ids


def test_messages_on_a_damaged_page_keep_no_others_waiting(server: Server) -> None:
    ids = backlog(server)
    pages = Pages(file_of(server))
    leaves = pages.leaves("messages")
    middle = len(leaves) // 2
    lost = ids_on(server, leaves[middle]) & set(ids)
    # SQLite evens pages out with those beside them: what is on these can be read, but perhaps not changed.
    near = ids_on(server, *leaves[middle - 2 : middle + 3])
    pages.overwrite(leaves[middle])
    server.wait_until("processed", *[f"/ledger/{message_id}" for message_id in ids if message_id not in near])
    status, detail = health(server)
    assert status == "degraded"
    kept_back = re.search(r"(\d+) messages in it cannot be handed out", detail)
    assert kept_back
    assert len(lost) <= int(kept_back[1]) <= len(near)
    (fresh,) = server.accept("/ledger", ENTRY)
    server.wait_until("processed", f"/ledger/{fresh}")
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
        await server.start()
        await asyncio.sleep(5)
        stored = [server.table.get(message.id) for message in pears]
        # But for some that stand where SQLite would even pages out with the damaged one.
        assert sum(record is not None and record.status == "processed" for record in stored) > 250
        states = server.breakers.states()
        assert (states["apples"]["state"], states["pears"]["state"]) == ("open", "closed")
        server.stopping = True

    run(a_while())
