"""`decoupled audit` asks workloads for what is wrong with their items: ours find what is planted and nothing else, and
whatever a workload's own code does is told of and harms nobody."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from decoupled.cli.invariants import look_at_invariants
from decoupled.core.audit import Report, TooLong
from decoupled.core.outcomes import Commit
from decoupled.core.workload import Message
from decoupled.engines.sqlite.audit import SqliteAudit, unheard
from decoupled.engines.sqlite.database import FILE_NAME, Database
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.table import SqliteTable
from decoupled.pipeline.loading import WorkloadError, load
from decoupled.pipeline.processor import decide
from decoupled.server.options import Options
from decoupled.server.workers.inspector import Inspector
from tests.support.rows import T0
from tests.support.server import DECOUPLED, serving, wait_for

OURS = load(("orders", "transactions", "registrations", "readings", "notifications"))
ENTRIES: list[tuple[str, Any]] = [
    ("transactions", {"kind": "open", "account": "bank", "currency": "EUR", "overdraft": "1000"}),
    ("transactions", {"kind": "open", "account": "ana", "currency": "EUR"}),
    *[
        ("transactions", {"kind": "transfer", "from_account": a, "to_account": b, "currency": "EUR", "amount": amount})
        for a, b, amount in (("bank", "ana", "12.50"), ("ana", "bank", "2.25"), ("bank", "ana", "0.01"))
    ],
    ("registrations", {"email": "ana@example.com", "name": "Ana"}),
    ("registrations", {"email": "ben@example.com", "name": "Ben"}),
    *[("readings", {"device": "boiler", "at": f"2026-11-23T10:0{n}:00Z", "value": n - 2.5}) for n in range(5)],
]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with items of each of our workloads that has an invariant."""
    file = tmp_path_factory.mktemp("items") / FILE_NAME
    with contextlib.closing(Database(file)) as database:
        queue, table = SqliteQueue(database, lambda: T0), SqliteTable(database, clock_ms=lambda: T0)
        for number, (workload, entry) in enumerate(ENTRIES):
            message = Message(f"m-{number}", workload, msgspec.json.encode(entry).decode(), "ana", T0)
            queue.send([message])
            queue.claim(workload, 1, 60)
            decision = decide(message, OURS, 5)
            assert isinstance(decision, Commit)
            table.commit([(message, decision)], T0 + number)
    return file


def run(file: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """`decoupled audit`, in a directory of its own."""
    done = subprocess.run(
        [DECOUPLED, "audit", str(file), *arguments],
        cwd=file.parent,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def looked_at(file: Path, workloads: tuple[str, ...] = tuple(OURS)) -> Report:
    """What they say of this file's items."""
    with contextlib.closing(Database(file, read_only=True)) as database:
        found = SqliteAudit(database, "", live=False)
        _ask(found.report, found, workloads)
    return found.report


def _ask(report: Report, found: SqliteAudit, workloads: tuple[str, ...]) -> None:
    inspector = Inspector(Options(workloads=workloads))
    with contextlib.closing(inspector):
        look_at_invariants(report, found.items, inspector, inspector.load(), unheard)


def test_nothing_is_wrong_with_items_that_the_workloads_have_made(healthy: Path) -> None:
    code, said = run(healthy, "--workloads", ",".join(OURS))
    assert code == 0, said
    assert "looked at: the invariant of transactions: 5 items" in said
    assert "looked at: the invariant of registrations: 4 items" in said
    assert "looked at: the invariant of readings: 1 items" in said
    assert "the invariant of" not in run(healthy, "--quick", "--workloads", ",".join(OURS))[1]


PLANTED: dict[str, tuple[str, str]] = {
    "money is made": (
        "UPDATE items SET item = json_set(item, '$.balance', 99, '$.available', 99) WHERE key LIKE '%/ana.EUR'",
        "[transactions]",
    ),
    "an overdraft is lifted": (
        "UPDATE items SET item = json_set(item, '$.overdraft', 5) WHERE key LIKE '%/ana.EUR'",
        "available 10.26",
    ),
    "an entry is lost": (
        "DELETE FROM items WHERE key = 'transactions/entries/m-3'",
        "account ana.EUR has -2.25 more than its entries say",
    ),
    "an account is lost": (
        "DELETE FROM items WHERE key LIKE 'transactions/balances/ana.EUR'",
        "account ana.EUR has -10.26 more than its entries say",
    ),
    "an address has two accounts": (
        "UPDATE items SET item = json_set(item, '$.account', 'm-5') WHERE key LIKE 'registrations/addresses/%'",
        "is of account m-5, which is not there or has another one",
    ),
    "an account has no address": (
        "DELETE FROM items WHERE key LIKE 'registrations/addresses/%' AND item LIKE '%ben%'",
        "account m-6 has no address",
    ),
    "an account has another one's address": (
        "UPDATE items SET item = json_set(item, '$.email', 'cem@example.com') WHERE key LIKE 'registrations/acc%/m-6'",
        "m-6, which has another e-mail address",
    ),
    "a reading was added twice": (
        "UPDATE items SET item = json_set(item, '$.sum', 8) WHERE key LIKE 'readings/hourly/%'",
        "5 readings from -2.5 to 1.5 do not sum up to 8",
    ),
    "an item is none of theirs": (
        "UPDATE items SET item = '{}' WHERE key LIKE 'readings/hourly/%'",
        "it does not understand its items: KeyError: 'count'",
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_what_is_planted_in_items_is_found(planted: str, healthy: Path, tmp_path: Path) -> None:
    statement, said = PLANTED[planted]
    file = tmp_path / FILE_NAME
    shutil.copy(healthy, file)
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        assert connection.execute(statement).rowcount > 0
    report = looked_at(file)
    assert {fault.kind for fault in report.faults} == {"invariant"}
    assert any(said in fault.says for fault in report.faults), [fault.says for fault in report.faults]


BAD = """
import os, signal, time
import msgspec
from decoupled import Effects, Workload

class Any(msgspec.Struct): pass

def process(entry, message): return Effects({})
def invariant(items):
    BODY
WORKLOAD = Workload("bad", Any, process, invariant=invariant)
"""
BODIES: dict[str, tuple[str, int, str]] = {
    "crashes": ("os.kill(os.getpid(), signal.SIGKILL)", 0, "not looked at: the invariant of bad: its process was kill"),
    "leaves": ("os._exit(3)", 0, "not looked at: the invariant of bad: its process ended with status 3"),
    "hangs": (
        "time.sleep(60)",
        0,
        "not looked at: the invariant of bad: it asked for nothing and said nothing for 2 s",
    ),
    "raises": ("raise ValueError('no')", 1, "invariant: it does not understand its items: ValueError: no [bad]"),
    "has no end": ("\n    while True: yield 'wrong'", 1, "10,000 things or more"),
    "says anything": ("return [5, '\\x1b[31m' + 'x' * 1000]", 1, "\\x1b[31mxxx"),
    "says half a character": ("return ['half \\ud83d one']", 1, "invariant: half ? one [bad]"),
    "prints": ("print('to be seen')\n    return []", 0, "to be seen"),
    "takes all memory": ("return ['x' * 2**36]", 1, "MemoryError"),
}


@pytest.mark.parametrize("body", BODIES)
def test_whatever_an_invariant_does_is_told_of(body: str, healthy: Path) -> None:
    code, status, said = BODIES[body]
    (healthy.parent / "bad.py").write_text(BAD.replace("BODY", code))
    returned, output = run(healthy, "--workloads", "./bad.py,readings", DECOUPLED_FUNCTION_TIMEOUT="1")
    assert said in output
    assert returned == status, output
    assert "looked at: the invariant of readings: 1 items" in output  # which is asked after it, by another process


def test_workloads_that_cannot_be_loaded_are_told_of_and_all_else_is_audited(healthy: Path) -> None:
    code, said = run(healthy, "--workloads", "./none.py")
    assert code == 0
    assert (
        "not looked at: what workloads say of their items, and effects of messages: there is no workload './none.py'"
        in said
    )
    assert "looked at: the form of 10 items" in said


def test_an_invariant_that_is_no_function_is_refused(tmp_path: Path) -> None:
    bad = BAD.replace("BODY", "return []").replace("invariant=invariant", "invariant=('a', 'b')")
    (tmp_path / "bad.py").write_text(bad)
    with pytest.raises(WorkloadError, match="not a function from the items"):
        load(("./bad.py",), tmp_path)


def test_beside_a_server_its_items_are_of_one_moment_and_it_holds_the_log_for_no_longer_than_it_may(
    healthy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / FILE_NAME
    shutil.copy(healthy, file)
    with contextlib.closing(Database(file)) as writer, contextlib.closing(Database(file, read_only=True)) as reader:
        live = SqliteAudit(reader, "", live=True)
        items = live.items("transactions")
        first = next(items)
        with writer.transaction():
            writer.execute("DELETE FROM items")
        assert len([first, *items]) == 5
        monkeypatch.setattr("decoupled.core.upkeep_limits.AUDIT_CHECK_S", -1.0)
        report = Report(of="")
        _ask(report, live, ("readings",))
        assert not report.faults  # there is nothing any more, so nothing is late either
        with writer.transaction():
            writer.execute("INSERT INTO items (key, item) VALUES ('readings/hourly/x', '{}')")
        with pytest.raises(TooLong):
            list(live.items("readings"))
        _ask(report, live, ("readings",))
    assert [what for what in report.unchecked if "the invariant of readings: beside a server" in what]


def test_money_that_moves_under_an_audit_is_no_false_alarm(tmp_path: Path) -> None:
    """What is looked at is of one moment: while transfers go on, balances are what their entries say."""
    penny = {"kind": "transfer", "from_account": "bank", "to_account": "ana", "currency": "EUR", "amount": "0.01"}
    with serving(tmp_path / "data", "--workloads", "transactions", "--rate", "500") as server:
        opened = server.accept("/transactions", *[entry for _, entry in ENTRIES[:2]])
        wait_for(lambda: all(server.get(f"/transactions/{each}").json["status"] == "processed" for each in opened))
        sent = [each for _ in range(20) for each in server.accept("/transactions", *[penny] * 100)]
        while server.get(f"/transactions/{sent[-1]}").json["status"] == "queued":
            code, said = run(server.data, "--workloads", "transactions")
            assert code == 0, said
            assert "looked at: the invariant of transactions: " in said
        assert server.get("/transactions/balances/ana.EUR").json["balance"] == 20
