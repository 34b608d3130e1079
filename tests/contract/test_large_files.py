"""What a server on SQLite asks its file at a start, for a request, a status, a sample or a claim takes as long with
fifty million messages as with none: SQLite's plans of all these statements read neither the table of all messages nor
an index of them all. No statistics are ever made, so that a plan does not depend on what there is."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from decoupled.core.dead_letters import Wanted
from decoupled.core.outcomes import Commit, Delivery, Failure, Reject
from decoupled.core.workload import Message, Put, Workload
from decoupled.engines.sqlite import ordered, waiting
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.database import FILE_NAME, Database
from decoupled.engines.sqlite.dead_letters import SqliteDeadLetters
from decoupled.engines.sqlite.depths import Depths
from decoupled.engines.sqlite.ends import SqliteEnds
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.stats import SqliteStats
from decoupled.engines.sqlite.table import SqliteTable
from decoupled.workloads import orders
from tests.support.contract import dead_record

NOW = 1_700_000_000_000

# Indexes of what is queued, in flight or dead, which grow with that alone; and the ends of a caller who follows them.
FEW = {f"messages_{name}" for name in ("queued", "ordered", "in_flight", "due", "dead", "waiting")}
NEWEST_FIRST = "ORDER BY seq DESC LIMIT"  # reads no further than it must


class Asked:
    """Statements, of all connections that it listens to."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    def listen_to(self, database: Database) -> Database:
        database.connection.set_trace_callback(self.statements.append)
        return database

    def large(self, database: Database) -> list[str]:
        """Those that read all messages: what their plans say of it."""
        return [
            f"{step} in {statement}"
            for statement in dict.fromkeys(self.statements)
            if re.match(r"\s*(WITH|SELECT|INSERT|UPDATE|DELETE)\b", statement)
            for step in plan(database, statement)
            if is_large(step, statement)
        ]


def plan(database: Database, statement: str) -> list[str]:
    try:
        return [step for *_, step in database.execute(f"EXPLAIN QUERY PLAN {statement}")]
    except sqlite3.OperationalError as error:
        raise AssertionError(f"{statement}: {error}") from error


def is_large(step: str, statement: str) -> bool:
    """Whether it goes through all messages, or through an index that grows with them. The last number is at the end of
    the table; any other extreme is found by looking at all."""
    if step == "SEARCH messages":
        return re.search(r"\b(min|max)\(seq\)", statement) is None
    found = re.match(r"SCAN messages\b(?:.* INDEX (\w+))?", step)
    return found is not None and found[1] not in FEW and NEWEST_FIRST not in statement


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def database(asked: Asked, tmp_path: Path) -> Iterator[Database]:
    """With a message of each kind."""
    database = asked.listen_to(Database(tmp_path / FILE_NAME))
    yield database
    database.close()


def message(number: int, workload: str = "orders", **more: object) -> Message:
    return Message(f"m-{number}", workload, "{}", "ada", NOW, **more)  # type: ignore[arg-type]


def start(database: Database) -> None:
    """As the server does, see `server/app.py`."""
    queue = SqliteQueue(database, lambda: NOW)
    queue.release_in_flight()
    in_order = Workload("transactions", orders.Order, orders.process, group=lambda _: "ada", ordered=True)
    ordered.adopt(database, {"orders": orders.WORKLOAD, "transactions": in_order})
    waiting.adopt(database, counted=False)
    SqliteEnds.adopted(database)
    queue.queued(100)


def requests(database: Database) -> None:
    """Sent, claimed, read, waited for, settled in every way."""
    queue, table, ends = SqliteQueue(database, lambda: NOW), SqliteTable(database), SqliteEnds(database)
    ends.follow("orders", "ada")
    queue.send([message(n) for n in range(3)])
    queue.send([message(0, digest="other"), message(30), message(31, "transactions", group="ada")])
    queue.send_claimed([message(n) for n in range(2, 5)], 30)
    database.ordered = frozenset({"transactions"})
    queue.send_claimed([message(n, "transactions", group="ada") for n in range(5, 8)], 30)
    queue.send([message(9, due_at=NOW + 1000)])
    queue.ready()
    for workload in ("orders", "transactions"):
        delivered = queue.claim(workload, 10, 30)
        queue.retry_later([(delivery, 1.0) for delivery in delivered])
        queue.defer([(delivery, NOW + 1) for delivery in delivered], NOW)
    table.commit([(message(n), Commit("{}")) for n in range(2)], NOW)
    table.commit([(message(2), Reject("no")), (message(3), Commit("{}", [Put("orders/item", {"n": 1})]))], NOW)
    delivery = Delivery(message(4), "1.m-4", 1)
    table.begin_attempt(delivery)
    table.undo_attempt(delivery)
    table.record_failure(delivery, Failure("failed", "ValueError", "no"), NOW)
    table.bury(delivery, dead_record(delivery.message))
    ends.mark(["m-0", "m-1"])
    ends.after("orders", "ada", (0, 0), 10, 1000)
    for one in ("m-0", "m-4", "nobody"):
        table.get(one)
        table.stored(one)
    table.item("orders/item")
    table.page("orders/", "", 10)


def dead_letters(database: Database) -> None:
    """Found, redriven, purged, restored."""
    letters = SqliteDeadLetters(database, lambda: NOW, lambda: NOW)
    found = list(letters.find(Wanted(), bodies=True))
    letters.some(Wanted(workload="orders"), None, 10)
    letters.groups(Wanted())
    letters.get("m-4")
    letters.purge(found)
    letters.restore(found)
    letters.redrive(found)


def looks(database: Database, asked: Asked) -> None:
    """Beside it: `status`, and a sample of its charts."""
    (*_, path) = database.execute("PRAGMA database_list").fetchone()
    directory = DataDirectory(Path(path).parent)
    stats = SqliteStats(directory, lambda: NOW, lambda: NOW)
    asked.listen_to(stats.database)
    stats.look()
    stats.close()
    depths = Depths(directory, lambda: NOW)
    depths._database = asked.listen_to(depths._open())
    depths(NOW)
    depths.close()


DONE: Sequence[Callable[[Database], None]] = (requests, start, dead_letters)


def test_no_statement_of_a_server_reads_all_messages(database: Database, asked: Asked) -> None:
    for do in DONE:
        do(database)
    looks(database, asked)
    asked.listen_to(database)
    assert len(set(asked.statements)) > 60
    assert asked.large(database) == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count(*) FROM messages",
        "SELECT count(*) FROM messages WHERE status = 'rejected'",
        "SELECT min(accepted_at) FROM messages",
        "UPDATE messages SET mark = 0 WHERE workload = 'orders'",
    ],
)
def test_a_statement_that_reads_all_of_them_is_found(statement: str, database: Database, asked: Asked) -> None:
    database.execute(statement)
    assert len(asked.large(database)) == 1
