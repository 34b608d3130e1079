"""How many messages a file has, and how many of them are rejected, is known without counting them, and is what counting
them comes to: after random changes, crashes in between, a recovery, and in a file of an earlier version."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import threading
from pathlib import Path
from random import Random

import pytest

from decoupled.core.dead_letters import DeadLetter, Wanted
from decoupled.core.outcomes import Commit, Delivery, Record, Reject
from decoupled.core.workload import Message, Put
from decoupled.engines.sqlite import tallies
from decoupled.engines.sqlite.audit import SqliteAudit
from decoupled.engines.sqlite.database import FILE_NAME, Database
from decoupled.engines.sqlite.dead_letters import SqliteDeadLetters
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.recovery import recover
from decoupled.engines.sqlite.table import SqliteTable
from decoupled.engines.sqlite.verification import verify

KEPT = Path(__file__).parents[1] / "support" / "data" / "schema-5" / FILE_NAME
NOW = 1_700_000_000_000
STEPS = 400


class Undone(Exception):  # noqa: N818  no error
    """What a server that dies does to its transaction."""


class RandomServer:
    """Everything that changes what a message has ended as, in an order that chance makes."""

    def __init__(self, path: Path, random: Random) -> None:
        self.path = path
        self.random = random
        self.sent = 0
        self.exported: list[DeadLetter] = []
        self.open()

    def open(self) -> None:
        self.database = Database(self.path)
        self.database.ordered = frozenset({"ordered"})
        self.queue = SqliteQueue(self.database, lambda: NOW)
        self.table = SqliteTable(self.database, clock_ms=lambda: NOW)
        self.letters = SqliteDeadLetters(self.database, lambda: NOW, lambda: NOW)

    def step(self) -> None:
        """One change, or several in a transaction that is sometimes undone."""
        actions = (self.send, self.settle, self.settle, self.bury, self.purge, self.restore, self.redrive)
        fate = self.random.random()
        if fate < 0.1:
            self.database.close()
            self.open()
        elif fate < 0.7:
            self.random.choice(actions)()
        else:
            with contextlib.suppress(Undone), self.database.transaction():
                for _ in range(3):
                    with contextlib.suppress(Undone), self.database.savepoint():
                        self.random.choice(actions)()
                        if self.random.random() < 0.3:
                            raise Undone
                if fate > 0.9:
                    raise Undone

    def message(self, number: int) -> Message:
        workload = "ordered" if number % 3 == 0 else "orders"
        callback = "https://example.com/told" if number % 4 == 0 else ""
        return Message(f"m-{number}", workload, "{}", "ada", NOW, callback=callback)

    def some(self) -> list[Message]:
        numbers = range(self.sent + 2)  # also such as never came from this queue
        return [self.message(n) for n in self.random.sample(numbers, min(len(numbers), self.random.randint(1, 5)))]

    def send(self) -> None:
        several = self.random.randint(1, 5)
        self.queue.send([self.message(self.sent + n) for n in range(several)])
        self.sent += several

    def settle(self) -> None:
        once = Commit("{}", [Put("orders/item", {"n": 1}, if_absent="it is there")])
        choices = (Commit("{}"), Reject("no"), once)
        self.table.commit([(message, self.random.choice(choices)) for message in self.some()], NOW)

    def bury(self) -> None:
        for message in self.some():
            self.table.bury(
                Delivery(message, f"1.{message.id}", 1),
                Record(message.id, message.workload, "dead", NOW, message.caller, finished_at=NOW, body="{}"),
            )

    def found(self) -> list[DeadLetter]:
        letters = list(self.letters.find(Wanted(), bodies=True))
        return self.random.sample(letters, min(len(letters), 3))

    def purge(self) -> None:
        letters = self.found()
        self.exported += letters
        self.letters.purge(letters)

    def restore(self) -> None:
        self.letters.restore(self.random.sample(self.exported, min(len(self.exported), 3)))

    def redrive(self) -> None:
        self.letters.redrive(self.found())


def assert_known(database: Database) -> None:
    """What is known is what there is."""
    counted = database.execute("SELECT count(*), coalesce(sum(status = 'rejected'), 0) FROM messages").fetchone()
    assert (tallies.messages(database), tallies.rejected(database)) == counted


def assert_neither_audit_nor_backup_misses_any(database: Database, path: Path) -> None:
    """What was lost was told when the file was recovered. Closes it."""
    report = SqliteAudit(database, of="it", live=False, quick=True).run()
    assert not [fault for fault in report.faults if fault.kind in {"missing", "surplus"}]
    assert "5 messages were lost before this file was recovered" in report.remarks
    database.close()
    holdings = verify(path, lambda _: None, threading.Event())
    assert holdings.highest == sum(holdings.counts.values()) + holdings.removed


@pytest.mark.parametrize("seed", range(4))
def test_what_is_known_is_what_there_is_after_random_changes(seed: int, tmp_path: Path) -> None:
    server = RandomServer(tmp_path / FILE_NAME, Random(seed))
    most = 0
    for _ in range(STEPS):
        server.step()
        assert_known(server.database)
        most = max(most, tallies.rejected(server.database))
    assert most > 20
    server.database.close()


def test_a_file_of_an_earlier_version_is_counted_once(tmp_path: Path) -> None:
    shutil.copy(KEPT, tmp_path)
    database = Database(tmp_path / FILE_NAME)
    assert tallies.messages(database) > 0
    assert_known(database)
    database.close()


def test_numbers_that_a_file_of_an_earlier_version_has_lost_are_known_to_be(tmp_path: Path) -> None:
    """It was recovered once."""
    shutil.copy(KEPT, tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as file:
        file.execute("UPDATE messages SET seq = seq + 200000 WHERE seq > 2")
        file.execute("DELETE FROM messages WHERE seq = 2")
    database = Database(tmp_path / FILE_NAME)
    assert [block for (block,) in database.execute("SELECT block FROM removed")] == [0, 1, 2, 3]
    assert_known(database)
    database.close()


def test_in_a_recovered_file_what_was_removed_and_what_is_lost_are_told_apart(tmp_path: Path) -> None:
    server = RandomServer(tmp_path / FILE_NAME, Random(7))
    for _ in range(STEPS):
        server.step()
    server.database.execute("DELETE FROM messages WHERE seq IN (3, 4)")
    server.database.execute("INSERT INTO removed (block, processed, rejected) VALUES (0, 1, 1)")
    server.database.execute("DELETE FROM messages WHERE seq BETWEEN 10 AND 14")  # what could not be read
    server.database.close()
    whole = Database(tmp_path / "whole")
    recover(tmp_path / FILE_NAME, whole)
    assert whole.execute("SELECT * FROM removed").fetchall() == [(0, 1, 1, 0, 5)]
    assert_known(whole)
    again = Database(tmp_path / "again")
    assert_neither_audit_nor_backup_misses_any(whole, tmp_path / "whole")
    recover(tmp_path / "whole", again)
    assert again.execute("SELECT * FROM removed").fetchall() == [(0, 1, 1, 0, 5)]
    assert_known(again)
    again.close()
