"""`decoupled audit`: finds nothing where nothing is wrong, whatever has happened, and each kind of fault that is
planted, by name."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from decoupled.core.audit import KINDS, RULES, Report, faults_of
from decoupled.core.dead_letters import Wanted
from decoupled.core.outcomes import Commit, Delivery, Failure, Record, Reject
from decoupled.core.status import STATUSES
from decoupled.core.workload import Add, Message, Write
from decoupled.engines.sqlite.audit import SqliteAudit
from decoupled.engines.sqlite.database import FILE_NAME, Database
from decoupled.engines.sqlite.dead_letters import SqliteDeadLetters
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.table import SqliteTable
from tests.support.rows import T0
from tests.support.server import DECOUPLED, Server, serving

EACH = 30  # messages of each status


def audit(file: Path, **options: Any) -> Report:
    """Of a file that nobody writes to."""
    with contextlib.closing(Database(file, read_only=True)) as database:
        return SqliteAudit(database, str(file), live=False).run(**options)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with all that may be in one: messages of each status, late and redriven ones, items."""
    file = tmp_path_factory.mktemp("audited") / FILE_NAME
    with contextlib.closing(Database(file)) as database:
        queue, table = SqliteQueue(database, lambda: T0), SqliteTable(database, clock_ms=lambda: T0)
        sent = [Message(f"m-{n:05}", "orders", "{}", "ada", T0 + 40_000_000 * n) for n in range(5 * EACH)]
        queue.send(sent)
        deliveries = queue.claim("orders", 4 * EACH, 60)
        for n, delivery in enumerate(deliveries):
            [_process, _reject, _bury, _fail][n % 4](table, queue, delivery)
        letters = SqliteDeadLetters(database, lambda: T0 * 2)
        dead = list(letters.find(Wanted(), bodies=True))
        letters.redrive(dead[:3])
        letters.purge(dead[3:6])
        letters.restore(dead[5:6])
    return file


def _process(table: SqliteTable, _queue: SqliteQueue, delivery: Delivery) -> None:
    writes: list[Write] = [Add("orders/totals/all", {"orders": 1})]
    table.commit([(delivery.message, Commit('{"total": "1.00"}', writes))], T0 * 2)


def _reject(table: SqliteTable, _queue: SqliteQueue, delivery: Delivery) -> None:
    table.commit([(delivery.message, Reject("not in stock"))], T0 * 2)


def _bury(table: SqliteTable, _queue: SqliteQueue, delivery: Delivery) -> None:
    m = delivery.message
    dead = Record(
        m.id, m.workload, "dead", m.accepted_at, finished_at=T0 * 2, error_type="KeyError", error="x", body="{}"
    )
    assert table.bury(delivery, dead)


def _fail(table: SqliteTable, queue: SqliteQueue, delivery: Delivery) -> None:
    table.record_failure(delivery, Failure("failed", "KeyError", "x"), T0 * 2)
    queue.retry_later([(delivery, 5)])


def test_nothing_is_wrong_with_a_healthy_file_and_the_account_balances(healthy: Path) -> None:
    report = audit(healthy)
    assert not report.faults
    assert not report.unchecked
    assert report.accepted == 5 * EACH == sum(report.counts.values()) == sum(day.accepted for day in report.days)
    assert set(report.counts) == set(STATUSES)
    assert len({day.day for day in report.days}) > EACH  # as they were accepted, over more than two months


# Each of these is planted in a copy: a statement, the kind of what is found, a part of what is said, and whose it is.
PLANTED: dict[str, tuple[str, str, str, str]] = {
    "a row is gone": ("DELETE FROM messages WHERE id = 'm-00017'", "missing", "1 of 150 messages", ": 18"),
    "the newest is gone": (
        """
        INSERT INTO marks VALUES ('audit', '{"highest": 150}');
        DELETE FROM messages WHERE id = 'm-00149'
        """,
        "missing",
        "an audit has seen more",
        "150 to 150",
    ),
    "one was removed and counted twice": (
        "INSERT INTO removed (block, dead) VALUES (0, 1)",
        "surplus",
        "1 removed",
        "",
    ),
    "one was removed that there was not": (
        "INSERT INTO removed (block, dead) VALUES (7, 1)",
        "surplus",
        "not been",
        "",
    ),
    "fewer than none were removed": (
        "INSERT INTO removed (block, dead, rejected) VALUES (0, -1, 1)",
        "tally",
        "fewer than no",
        "",
    ),
    "a body is gone": ("UPDATE messages SET body = NULL WHERE id = 'm-00149'", "record", "without body", "m-00149"),
    "a dead body is gone": ("UPDATE messages SET body = NULL WHERE status = 'dead'", "record", "without body", "m-"),
    "a status was changed": (
        "UPDATE messages SET status = 'processed' WHERE id = 'm-00149'",
        "record",
        "without result",
        "m-00149",
    ),
    "a status is none": ("UPDATE messages SET status = 'done' WHERE id = 'm-00149'", "record", "'done'", "m-00149"),
    "a rejected one has no reason": (
        "UPDATE messages SET reason = NULL WHERE id = 'm-00001'",
        "record",
        "without reason",
        "m-00001",
    ),
    "a result is none": (
        "UPDATE messages SET result = '[1' WHERE id = 'm-00000'",
        "record",
        "no JSON object",
        "m-00000",
    ),
    "an end has no time": (
        "UPDATE messages SET finished_at = NULL WHERE id = 'm-00000'",
        "record",
        "without finished_at",
        "m-00000",
    ),
    "a final one is in flight": (
        "UPDATE messages SET in_flight = 1 WHERE id = 'm-00000'",
        "record",
        "in flight",
        "m-00000",
    ),
    "one will never be visible": (
        "UPDATE messages SET visible_at = NULL WHERE id = 'm-00149'",
        "record",
        "never be visible",
        "m-00149",
    ),
    "attempts are fewer than none": (
        "UPDATE messages SET attempts = -1 WHERE id = 'm-00149'",
        "record",
        "attempts",
        "m-00149",
    ),
    "an end has a number to come": (
        "UPDATE messages SET ended = 400 WHERE id = 'm-00000'",
        "record",
        "number of an end",
        "m-00000",
    ),
    "an id is none": ("UPDATE messages SET id = 'a b' WHERE id = 'm-00000'", "record", "its id is none", "a b"),
    "an item is no object": ("UPDATE items SET item = '7'", "item", "no JSON object", "orders/totals/all"),
    "a rejection was not counted": (
        "UPDATE tallies SET n = n - 1 WHERE name = 'rejected'",
        "tally",
        "messages are rejected, and the tally says",
        "tallies",
    ),
    "what is counted is gone": ("DELETE FROM tallies", "tally", "there is no tally", "tallies"),
    "the last end is gone": ("DELETE FROM ends", "tally", "last number of ends", ""),
    # The index as it was, in place of the index as it is.
    "an index lacks a row": (
        """
        PRAGMA writable_schema = ON;
        UPDATE sqlite_schema SET sql = sql || ' AND seq <> 2' WHERE name = 'messages_rejected';
        """,
        "file",
        "messages_rejected",
        "",
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_fault_is_found_by_its_kind_and_its_ids(planted: str, healthy: Path, tmp_path: Path) -> None:
    statements, kind, what, whose = PLANTED[planted]
    file = tmp_path / FILE_NAME
    shutil.copy(healthy, file)
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.executescript(statements)
        if "writable_schema" in statements:
            connection.executescript("PRAGMA writable_schema = RESET; REINDEX messages_rejected")
            connection.executescript(
                """
                PRAGMA writable_schema = ON;
                UPDATE sqlite_schema SET sql = replace(sql, ' AND seq <> 2', '') WHERE name = 'messages_rejected'
                """
            )
    found = [fault for fault in audit(file).faults if fault.kind == kind and what in fault.says]
    assert found, audit(file).faults
    assert whose in found[0].says


def test_every_kind_of_fault_is_planted_above_or_below() -> None:
    elsewhere = {"invariant", "effect"}  # see test_audit_invariants.py and test_audit_effects.py
    assert {kind for _, kind, _, _ in PLANTED.values()} | {"unknown"} | elsewhere == set(KINDS)
    assert set(RULES) == set(STATUSES)


def test_a_row_that_its_index_lacks_is_found_beside_a_server_too(healthy: Path, tmp_path: Path) -> None:
    """Without SQLite's own check, which would keep a large file's log from being reset."""
    file = tmp_path / FILE_NAME
    shutil.copy(healthy, file)
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        # A table of the same columns takes over the pages of the rows: what is changed there, no index hears of.
        (sql,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'messages'").fetchone()
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'messages'").fetchone()
        bare = sql.replace("CREATE TABLE messages", "CREATE TABLE bare").replace("NOT NULL UNIQUE", "NOT NULL")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_schema VALUES ('table', 'bare', 'bare', ?, ?)", (root, bare))
        connection.execute("PRAGMA writable_schema = RESET")
        connection.execute("UPDATE bare SET id = 'm-x' WHERE id = 'm-00003'")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("DELETE FROM sqlite_schema WHERE name = 'bare'")
        connection.execute("PRAGMA writable_schema = RESET")
    with contextlib.closing(Database(file, read_only=True)) as database:
        report = SqliteAudit(database, str(file), live=True).run()
    assert any(fault.ids == ["m-x"] and "not found by its id" in fault.what for fault in report.faults)


def test_the_rules_of_sql_and_those_of_python_are_the_same(healthy: Path, tmp_path: Path) -> None:
    """Each field of a message of each status, there or not: what one finds, the other does."""
    fields = ("body", "result", "reason", "finished_at", "error_type", "error", "visible_at")
    file = tmp_path / FILE_NAME
    shutil.copy(healthy, file)
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.row_factory = sqlite3.Row
        for number, status in enumerate(STATUSES):
            for bits in range(2 ** len(fields)):
                values: list[Any] = [
                    ('{"a": 1}' if name == "result" else 1) if bits >> place & 1 else None
                    for place, name in enumerate(fields)
                ]
                connection.execute(
                    f"INSERT INTO messages (id, status, workload, accepted_at, caller, {', '.join(fields)})"  # noqa: S608
                    f" VALUES (?, ?, 'orders', 1, '', {', '.join('?' * len(fields))})",
                    (f"{number}-{bits}", status, *values),
                )
        connection.commit()
        rows = [dict(row) for row in connection.execute("SELECT * FROM messages")]
    wrong = sum(len(list(faults_of(row))) for row in rows)
    with_bound = [row for row in rows if any(faults_of(row))]
    assert len(with_bound) > 200  # more than are named
    report = audit(file)
    assert {fault.what for fault in report.faults if fault.kind == "record"} == {
        what for row in rows for what in faults_of(row)
    }
    assert sum(fault.count for fault in report.faults if fault.kind == "record") == wrong


def test_each_id_of_a_ledger_is_known_or_named(healthy: Path, tmp_path: Path) -> None:
    known = [f"m-{n:05}" for n in range(5 * EACH)]
    assert not audit(healthy, ledger=known).faults
    (fault,) = audit(healthy, ledger=[*known, "m-lost"]).faults
    assert (fault.kind, fault.ids) == ("unknown", ["m-lost"])
    file = tmp_path / FILE_NAME
    shutil.copy(healthy, file)
    with contextlib.closing(sqlite3.connect(file)) as connection:  # as retention removes
        connection.executescript(
            "DELETE FROM messages WHERE seq = 1; INSERT INTO removed (block, processed) VALUES (0, 1)"
        )
    removed = audit(file, ledger=known)
    assert not removed.faults
    assert removed.removed == {"processed": 1, "rejected": 0, "dead": 0, "lost": 0}
    assert any("1 ids of the ledger" in what for what in removed.unchecked)  # it may be the one, and may not be
    assert audit(file, ledger=[*known, "m-lost"]).faults


def test_what_was_lost_when_a_file_was_recovered_is_noted_and_is_no_fault_for_ever(
    healthy: Path, tmp_path: Path
) -> None:
    file = tmp_path / FILE_NAME
    shutil.copy(healthy, file)
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.executescript("DELETE FROM messages WHERE seq = 1; INSERT INTO removed (block, lost) VALUES (0, 1)")
    report = audit(file)
    assert not report.faults
    assert report.remarks == ["1 messages were lost before this file was recovered"]
    assert "+ removed 1" in report.balance
    assert audit(file, ledger=["m-00000"]).faults  # whose client has got a 202 for it


def test_a_file_of_which_a_page_cannot_be_read_is_told_of_and_the_rest_is_audited(
    healthy: Path, tmp_path: Path
) -> None:
    file = tmp_path / FILE_NAME
    shutil.copy(healthy, file)
    with contextlib.closing(sqlite3.connect(file)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'items'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with file.open("r+b") as raw:
        raw.seek((root - 1) * size)
        raw.write(b"\xff" * size)
    report = audit(file)
    assert any(fault.kind == "file" for fault in report.faults)
    assert report.counts["processed"] > 0


# --- the command ----------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("audit") / "data", "--workloads", "orders,readings") as server:
        yield server


def run(*arguments: str | Path) -> tuple[int, str]:
    """`decoupled audit`."""
    done = subprocess.run(
        [DECOUPLED, "audit", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_a_running_server_is_audited_beside_it_against_the_ids_that_its_clients_have(
    server: Server, tmp_path: Path
) -> None:
    subprocess.run(
        [DECOUPLED, "spike", "--orders", "300", "--data", server.data, "--ledger", tmp_path / "ledger"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    code, said = run("--data", server.data, "--ledger", tmp_path / "ledger", "--json")
    assert code == 0, said
    report = msgspec.json.decode(said, type=Report)
    assert report.accepted == report.counts["processed"] == 300
    assert any("300 ids of the ledger: queued 0, processed 300" in what for what in report.checked)
    (tmp_path / "plain").write_text("m-lost\n")
    code, said = run("--data", server.data, "--ledger", tmp_path / "plain")
    assert code == 1
    assert "unknown: clients got a 202 for them, and they are not there [ledger]: m-lost" in said


def test_an_audit_beside_a_server_does_not_hold_its_log(server: Server) -> None:
    """It lets go of its snapshot after each piece: the server can reset its log while an audit stands still."""
    with contextlib.closing(Database(server.data / FILE_NAME, read_only=True)) as database:
        found = SqliteAudit(database, "", live=True)
        moments: list[bool] = []
        found.run(lambda *_: moments.append(database.in_transaction))
    assert len(moments) > 2
    assert not any(moments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data", "nowhere"), "there is no nowhere"),
        (("/etc/hostname",), "cannot be used"),
        (("--data", "a", "/etc/hostname"), "choose one"),
    ],
)
def test_what_cannot_be_audited_is_status_2(arguments: tuple[str, ...], said: str) -> None:
    code, output = run(*arguments)
    assert code == 2
    assert said in output


def test_a_ledger_that_is_none_is_status_2(healthy: Path, tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text('m-00001\n{"order": 5}\n')
    code, said = run(healthy, "--ledger", tmp_path / "ledger")
    assert code == 2
    assert "line 2 of the ledger has no id" in said


def test_an_audit_of_a_copy_leaves_nothing_beside_it(healthy: Path, tmp_path: Path) -> None:
    shutil.copy(healthy, tmp_path / "backup.sqlite3")
    tmp_path.chmod(0o500)
    try:
        code, said = run(tmp_path / "backup.sqlite3")
    finally:
        tmp_path.chmod(0o700)
    assert code == 0, said
    assert [path.name for path in tmp_path.iterdir()] == ["backup.sqlite3"]
    assert "accepted 150 = queued" in said
    assert "nothing is wrong" in said
