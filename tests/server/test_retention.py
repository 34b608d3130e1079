"""Records are removed when they are due, by a server that runs, and not before; and the file gets smaller again."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from pathlib import Path

import pytest

from decoupled.core.retention import Found, Looked, parse
from decoupled.engines.sqlite import removal, space
from decoupled.engines.sqlite.database import FILE_NAME, Database
from decoupled.engines.sqlite.sweep import Sweep
from tests.support import rows
from tests.support.events import ORDER
from tests.support.server import Server, serving, wait_for

DAY_MS = 86_400_000
NOW = rows.T0 + 1000 * DAY_MS


def change(data: Path, sql: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(data / FILE_NAME)) as file, file:
        file.execute(sql, values)


def adds_up(server: Server) -> bool:
    """Rows and removed ones are all numbers that were given out."""
    ((there, last),) = server.rows("SELECT count(*), max(seq) FROM messages")
    ((removed,),) = server.rows("SELECT coalesce(sum(processed + rejected + dead), 0) FROM removed")
    return bool(there + removed == last)


def ids(server: Server) -> list[str]:
    return [name for (name,) in server.rows("SELECT id FROM messages ORDER BY seq")]


def test_a_server_removes_what_is_due_by_workload_and_status_and_tells_of_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    rows.many(data, 8)
    recent = time.time_ns() // 1_000_000 - 40 * DAY_MS
    for seq, what, finished_at in [
        (2, "status = 'rejected'", recent),
        (3, "status = 'dead', body = '{}', error = 'x', error_type = 'E'", rows.T0),
        (4, "workload = 'readings'", rows.T0),
        (5, "workload = 'readings', status = 'dead', body = '{}', error = 'x', error_type = 'E'", rows.T0),
        (6, "status = 'queued', result = NULL, body = '{}', visible_at = 2e15, due_at = 9e15", None),
        (7, "status = 'processed'", recent),
    ]:
        change(data, f"UPDATE messages SET {what}, finished_at = ? WHERE seq = ?", finished_at, seq)  # noqa: S608
    change(data, "UPDATE tallies SET n = 1")
    names = {n: f"{rows.T0 + n:012x}{n:021x}" for n in range(1, 9)}
    kept = "90d, orders.rejected=30d, readings=0, readings.dead=365d"
    with serving(data, "--record-ttl", kept, "--fronts", "0") as server:
        wait_for(lambda: ids(server), lambda found: len(found) == 5)
        assert ids(server) == [names[n] for n in (3, 4, 6, 7, 8)]
        assert server.rows("SELECT block, processed, rejected, dead FROM removed") == [(0, 1, 1, 1)]
        assert server.rows("SELECT n FROM tallies WHERE name = 'rejected'") == [(0,)]
        assert adds_up(server)
        assert server.get(f"/orders/{names[1]}").status == 404
        told = wait_for(
            lambda: server.get("/health").json["upkeep"]["retention"], lambda it: sum(it["removed"].values()) == 3
        )
        assert told["removed"] == {"processed": 1, "rejected": 1, "dead": 1}
        assert told["says"].endswith(
            "(records 90d, orders.rejected=30d, readings=0, readings.dead=365d; not served here: readings)"
        )
        assert server.get("/health").json["status"] == "ok"


def test_a_server_that_is_killed_in_the_middle_removes_the_rest_later_and_all_of_it_is_counted(tmp_path: Path) -> None:
    data = tmp_path / "data"
    rows.many(data, 3_000)
    with serving(data, "--record-ttl", "90d", "--fronts", "0") as server:
        for _ in range(2):
            before = len(ids(server))
            wait_for(lambda: len(ids(server)), lambda now, before=before: now < before)  # type: ignore[misc]
            server.kill()
            assert adds_up(server)
            assert len(ids(server)) > 1
            server.start()
        wait_for(lambda: len(ids(server)), lambda now: now == 1)
        assert adds_up(server)


def test_where_the_clock_has_leapt_it_waits_for_a_person(tmp_path: Path) -> None:
    data = tmp_path / "data"
    rows.many(data, 10)
    change(data, "INSERT INTO marks VALUES ('retention', ?)", json.dumps({"looked_at": rows.T0}))
    with serving(data, "--record-ttl", "90d", "--fronts", "0") as server:
        health = wait_for(lambda: server.get("/health").json, lambda it: it["status"] == "degraded")
        assert "the last look for it was at 2023-11-14T" in health["detail"]
        assert len(ids(server)) == 10


def test_final_messages_keep_their_bodies_for_as_long_as_is_said_and_are_found_when_that_is_over(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    with serving(data, "--body-ttl", "7d", "--fronts", "0") as server:
        one, *others = server.accept("/orders", *[ORDER] * 5)
        server.wait_until_settled()
        bodies = dict(server.rows("SELECT id, body FROM messages"))
        assert json.loads(bodies[one])["currency"] == "EUR"
    change(data, "UPDATE messages SET finished_at = ?, accepted_at = ? WHERE id = ?", rows.T0, rows.T0, one)
    with serving(data, "--body-ttl", "7d", "--fronts", "0") as server:
        wait_for(lambda: server.rows("SELECT body FROM messages WHERE id = ?", one), lambda it: it == [(None,)])
        assert dict(server.rows("SELECT id, body FROM messages")) == {**bodies, one: None}
        assert [server.get(f"/orders/{name}").json["status"] for name in (one, *others)] == ["processed"] * 5


# --- what is looked at ----------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows.many(tmp_path, 10_000)  # three parts of the file
    return tmp_path


def all_parts(sweep: Sweep, now_ms: int) -> list[Looked]:
    looked = [sweep.look(now_ms, 0)]
    while (following := looked[-1].following) is not None:
        looked.append(sweep.look(now_ms, following))
    return looked[:-1]


def test_a_part_of_which_nothing_can_be_due_is_not_read_again(data: Path) -> None:
    sweep = Sweep(data / FILE_NAME, parse(["90d", "orders=0", "readings=100d"], "record_ttl"), parse([], "body_ttl"))
    assert [len(looked.records) for looked in all_parts(sweep, NOW)] == [0, 0, 0]
    assert all_parts(sweep, NOW) == []
    change(data, "UPDATE messages SET workload = 'readings' WHERE seq = 5000")
    assert all_parts(sweep, NOW) == []
    assert [
        len(looked.records) for looked in all_parts(Sweep(data / FILE_NAME, sweep._records, sweep._bodies), NOW)
    ] == [
        0,
        1,
        0,
    ]
    sweep.close()


def test_a_part_with_an_open_message_is_looked_at_again_when_that_could_be_due(data: Path) -> None:
    change(data, "UPDATE messages SET status = 'queued', finished_at = NULL, workload = 'readings' WHERE seq = 5000")
    sweep = Sweep(data / FILE_NAME, parse(["readings=10d"], "record_ttl"), parse([], "body_ttl"))
    assert len(all_parts(sweep, NOW)) == 3
    assert all_parts(sweep, NOW + 10 * DAY_MS - 1) == []
    change(data, "UPDATE messages SET status = 'processed', finished_at = ? WHERE seq = 5000", NOW)
    assert [looked.records for looked in all_parts(sweep, NOW + 10 * DAY_MS)] == [[Found(5000, NOW)]]
    sweep.close()


def test_what_was_found_and_not_removed_is_found_again(data: Path) -> None:
    sweep = Sweep(data / FILE_NAME, parse(["90d"], "record_ttl"), parse([], "body_ttl"))
    first, again = all_parts(sweep, NOW), all_parts(sweep, NOW)
    assert sum(len(looked.records) for looked in first) == 10_000
    assert again == first
    sweep.close()


def test_what_is_younger_than_the_shortest_time_is_not_read_at_all(data: Path) -> None:
    sweep = Sweep(data / FILE_NAME, parse(["90d"], "record_ttl"), parse([], "body_ttl"))
    assert all_parts(sweep, rows.T0 + 89 * DAY_MS) == []
    assert len(all_parts(sweep, rows.T0 + 90 * DAY_MS + 5_000)) == 2
    sweep.close()


# --- room -----------------------------------------------------------------------


def emptied(data: Path) -> Database:
    database = Database(data / FILE_NAME)
    found = database.execute("SELECT seq, finished_at FROM messages ORDER BY seq LIMIT 9900").fetchall()
    assert removal.remove(database, [Found(*row) for row in found]) == {"processed": 9_900}
    return database


def test_room_goes_back_to_the_file_system_step_by_step_and_some_is_kept(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = emptied(data)
    before = space.space(database)
    assert before.gives_back
    assert before.free_bytes > before.file_bytes // 2
    assert space.shrink(database) == 0  # as little as that is kept
    monkeypatch.setattr(space, "FREE_PAGES", 20)
    steps = 0
    while space.shrink(database, 10):
        steps += 1
    after = space.space(database)
    assert steps > 10
    assert 0 < after.free_bytes <= 20 * 4096
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert (data / FILE_NAME).stat().st_size == after.file_bytes < before.file_bytes // 2
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert database.execute("SELECT count(*) FROM messages").fetchone() == (100,)
    database.close()


def test_a_file_of_before_gives_nothing_back_and_says_so(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_to_old = sqlite3.connect(data / FILE_NAME, isolation_level=None)
    change_to_old.execute("PRAGMA auto_vacuum = NONE")
    change_to_old.execute("VACUUM")
    change_to_old.close()
    monkeypatch.setattr(space, "FREE_PAGES", 20)
    database = emptied(data)
    assert space.shrink(database) == 0
    assert not space.space(database).gives_back
    database.close()
