"""`decoupled audit` runs messages again that have kept their bodies: a lost effect is found, changed code is a
difference and no loss, and no history of chance makes a false alarm."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from decoupled.cli.invariants import look_at_workloads
from decoupled.cli.spool import Spool
from decoupled.core.audit import Past, Report
from decoupled.core.forgetting import NOTHING
from decoupled.core.outcomes import Commit, Delivery, Reject
from decoupled.core.workload import Message
from decoupled.engines.sqlite import audit_effects
from decoupled.engines.sqlite.audit import SqliteAudit, unheard
from decoupled.engines.sqlite.database import FILE_NAME, Database
from decoupled.engines.sqlite.messages import SqliteQueue
from decoupled.engines.sqlite.table import SqliteTable
from decoupled.pipeline.loading import load
from decoupled.pipeline.processor import decide
from decoupled.server.options import Options
from tests.support.rows import T0, many
from tests.support.server import DECOUPLED

CODE = """
from decoupled import Add, Delete, Effects, Emit, Message, Put, Rejected, Update, Workload
import msgspec

class Act(msgspec.Struct):
    op: str
    key: str
    n: int = 0

def process(act, message):
    key = f"acts/things/{act.key}"
    writes = {
        "make": [Put(key, {"n": act.n, "by": message.id}, if_absent="there is one")],
        "put": [Put(key, {"n": act.n, "by": message.id})],
        "add": [
            Add(key, {"n": act.n}, lowest={"low": act.n}, highest={"high": act.n}),
            Add(f"acts/sums/{act.n}", {"n": 1}),
        ],
        "set": [Update(key, {"name": str(act.n)}, remove=["low"], if_present="there is none")],
        "ask": [Update(key, equal={"n": act.n}, otherwise="it is another one")],
        "drop": [Delete(key, if_present="there is none")],
    }
    if act.op == "no":
        raise Rejected("no")
    emits = [Emit("acts", {"op": "add", "key": act.key, "n": 1})] if act.op == "tell" else []
    return Effects({"op": act.op, "n": act.n}, writes.get(act.op, []), emits)

WORKLOAD = Workload("acts", Act, process, emits_to=("acts",))
"""
OPS = ("make", "put", "add", "add", "add", "set", "ask", "drop", "no", "tell")
KEEPS: Any = {"processed": frozenset({"acts"}), "rejected": frozenset({"acts"})}


class Acts:
    """Messages through the real engine, by a clock of the test's."""

    def __init__(self, directory: Path) -> None:
        (directory / "acts.py").write_text(CODE)
        self.file = directory / FILE_NAME
        self.workloads = load(("./acts.py",), directory)
        self.database = Database(self.file)
        self.now = T0
        self.queue = SqliteQueue(self.database, lambda: self.now)
        self.table = SqliteTable(self.database, clock_ms=lambda: self.now, keeps=KEEPS)
        self.count = 0

    def act(self, op: str, key: str, n: int = 0, *, callback: str = "") -> None:
        """One message, and what it emits."""
        self.count += 1
        body = msgspec.json.encode({"op": op, "key": key, "n": n}).decode()
        self.queue.send([Message(f"m-{self.count}", "acts", body, "ana", self.now, callback=callback)])
        while claimed := self.queue.claim("acts", 10, 60):
            for delivery in claimed:
                self._settle(delivery)

    def _settle(self, delivery: Delivery) -> None:
        decision = decide(delivery.message, self.workloads, 5)
        assert isinstance(decision, (Commit, Reject))
        self.table.commit([(delivery.message, decision)], self.now)


def audit(file: Path, planted: Sequence[str] = (), *, live: bool = False) -> Report:
    """What is found, after these statements."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        for statement in planted:
            assert connection.execute(statement).rowcount > 0, statement
        connection.commit()
    with contextlib.closing(Database(file, read_only=True)) as database:
        found = SqliteAudit(database, "", live=live)
        options = Options(workloads=("./acts.py",), root=file.parent, function_timeout_s=5)
        look_at_workloads(found.report, found, options, unheard)
    return found.report


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of each kind of write more than one, in a known order."""
    acts = Acts(tmp_path_factory.mktemp("acts"))
    for op in ("make", "drop"):
        acts.act(op, "d")
        acts.now += 2_000
    for key in ("a", "b", "c"):
        for op, n in (("make", 1), ("add", 2), ("add", 5), ("set", 3), ("ask", 8), ("tell", 0), ("no", 0), ("set", 4)):
            acts.act(op, key, n)
            acts.now += 2_000
    acts.act("drop", "c")
    acts.database.close()
    return acts.file


def test_nothing_is_wrong_where_nothing_is(healthy: Path) -> None:
    report = audit(healthy)
    assert not [fault.says for fault in report.faults]
    assert not report.remarks
    assert not report.unchecked
    assert report.checked == [
        "what 30 messages would come to now, and 3 emitted",
        "7 items against the writes of messages",
    ]


PLANTED: dict[str, tuple[str, str, str]] = {
    "an item is lost": (
        "DELETE FROM items WHERE key = 'acts/things/b'",
        "it is not there, and was written",
        "acts/things/b",
    ),
    "a sum is another one": (
        "UPDATE items SET item = json_set(item, '$.n', 5) WHERE key = 'acts/things/b'",
        "n is 5, and was left as 9",
        "acts/things/b",
    ),
    "a sum was added to twice": (
        "UPDATE items SET item = json_set(item, '$.n', 4) WHERE key = 'acts/sums/2'",
        "n is 4, and was left as 3",
        "acts/sums/2",
    ),
    "an attribute is an older one": (
        "UPDATE items SET item = json_set(item, '$.name', '3') WHERE key = 'acts/things/b'",
        "name is '3', and was left as '4'",
        "acts/things/b",
    ),
    "an attribute is there again": (
        "UPDATE items SET item = json_set(item, '$.low', 1) WHERE key = 'acts/things/b'",
        "it has low, which was removed",
        "acts/things/b",
    ),
    "an item is there again": (
        "INSERT INTO items (key, item) VALUES ('acts/things/c', '{}')",
        "it is there, and was deleted",
        "acts/things/c",
    ),
    "an item is nobody's": (
        "INSERT INTO items (key, item) VALUES ('acts/things/x', '{}')",
        "no message has made it",
        "acts/things/x",
    ),
    "an emitted message is lost": (
        "DELETE FROM messages WHERE seq = (SELECT max(seq) FROM messages WHERE id NOT LIKE 'm-%')",
        "emitted message: it is not there",
        "",
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_lost_effect_is_found(planted: str, healthy: Path, tmp_path: Path) -> None:
    statement, what, whose = PLANTED[planted]
    shutil.copytree(healthy.parent, tmp_path / "acts")
    report = audit(tmp_path / "acts" / FILE_NAME, [statement])
    faults = [fault for fault in report.faults if fault.kind == "effect"]
    assert any(what in fault.says and whose in fault.says for fault in faults), [fault.says for fault in report.faults]
    assert len(faults) <= 2  # and whatever the lost message itself had done


def test_changed_code_is_a_difference_with_both_and_no_loss(healthy: Path, tmp_path: Path) -> None:
    shutil.copytree(healthy.parent, tmp_path / "acts")
    code = tmp_path / "acts" / "acts.py"
    changed = {
        '{"op": act.op, "n": act.n}': ('{"op": act.op, "n": act.n + 1}', 30 - 3),
        'raise Rejected("no")': ('raise Rejected("never")', 3),
        'if act.op == "no":': ('if act.op == "add": raise KeyError("x")\n    if act.op == "no":', 9),
        '"acts/sums/{act.n}"': ('"acts/totals/{act.n}"', 0),
        'act.op == "tell"': ('act.op in ("tell", "set")', 0),
    }
    for old, (new, differing) in changed.items():
        code.write_text(CODE.replace(old, new))
        report = audit(tmp_path / "acts" / FILE_NAME)
        assert report.differing == differing, new
        assert not [fault.says for fault in report.faults], new
        assert any("changed" in remark for remark in report.remarks), new
        assert len(report.differences) == min(differing, 20)
        assert all(one.before != one.after for one in report.differences)


def test_what_is_shown_of_a_difference(healthy: Path, tmp_path: Path) -> None:
    shutil.copytree(healthy.parent, tmp_path / "acts")
    report = audit(tmp_path / "acts" / FILE_NAME, ["""UPDATE messages SET result = '{"op":"x"}' WHERE id = 'm-1'"""])
    (one,) = report.differences
    assert (one.id, one.before, one.after) == ("m-1", {"op": "x"}, {"op": "make", "n": 0})
    code, said = run(tmp_path / "acts")
    assert code == 0, said
    assert 'differs: m-1 of acts: was processed: {"op":"x"}; would be processed: {"op":"make","n":0}' in said
    assert "effects" not in run(tmp_path / "acts", "--quick")[1].replace("invariants and effects: --quick", "")


def run(directory: Path, *arguments: str) -> tuple[int, str]:
    """`decoupled audit`."""
    done = subprocess.run(
        [DECOUPLED, "audit", "--data", directory, "--workloads", "./acts.py", *arguments],
        cwd=directory,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_what_follows_an_unknown_message_is_known_and_nothing_before(healthy: Path, tmp_path: Path) -> None:
    """Bodies go by age: of an item that was written since, what was written since is known."""
    shutil.copytree(healthy.parent, tmp_path / "acts")
    file = tmp_path / "acts" / FILE_NAME
    report = audit(file, [f"UPDATE messages SET body = NULL WHERE finished_at <= {T0 + 14 * 2_000}"])  # noqa: S608
    assert not report.faults
    assert not report.remarks
    assert any("items against the writes: not all of these are known" in what for what in report.unchecked)
    report = audit(file, ["DELETE FROM items WHERE key = 'acts/sums/5'"])
    assert [fault.ids for fault in report.faults] == [["acts/sums/5"]]
    report = audit(file, ["UPDATE messages SET body = NULL"])
    assert not report.faults
    assert report.unchecked == ["effects of messages: no final one has kept its body (body_ttl)"]


def test_what_was_forgotten_is_not_missed(healthy: Path, tmp_path: Path) -> None:
    shutil.copytree(healthy.parent, tmp_path / "acts")
    forget = f"UPDATE messages SET caller = '', body = NULL, result = '{NOTHING}' WHERE id = 'm-3'"  # noqa: S608
    report = audit(tmp_path / "acts" / FILE_NAME, [forget, PLANTED["an item is lost"][0]])
    assert not report.faults
    assert "items against the writes: 1 messages were forgotten, and items with them" in report.unchecked


def test_beside_a_server_items_are_left_out_and_it_is_said(healthy: Path, tmp_path: Path) -> None:
    shutil.copytree(healthy.parent, tmp_path / "acts")
    report = audit(tmp_path / "acts" / FILE_NAME, [PLANTED["an item is lost"][0]], live=True)
    assert not report.faults
    assert "what 30 messages would come to now, and 3 emitted" in report.checked
    assert any("a server changes them" in what for what in report.unchecked)


@pytest.mark.parametrize("seed", range(12))
def test_no_history_of_chance_makes_a_false_alarm(seed: int, tmp_path: Path) -> None:
    """Any writes at any pace, by a clock that is set now and then; bodies are kept of the newer ones, or of some."""
    chance = random.Random(seed)
    acts = Acts(tmp_path)
    for _ in range(chance.randint(20, 150)):
        acts.act(chance.choice(OPS), chance.choice("abcd"), chance.randint(0, 3))
        acts.now += chance.choice((0, 0, 1, 500, 1_500, 60_000))
        if chance.random() < 0.05:
            acts.now -= chance.randint(1, 900)
    acts.database.close()
    assert audit(tmp_path / FILE_NAME).differing == 0
    by_age = f"finished_at < {chance.randint(T0, acts.now)}"
    forget = chance.choice((by_age, "seq % 7 = 0", f"workload = 'acts' AND seq = {chance.randint(1, acts.count)}"))
    for statement in ((), (f"UPDATE messages SET body = NULL WHERE {forget} OR seq = 1",)):  # noqa: S608
        report = audit(tmp_path / FILE_NAME, statement)
        assert not [fault.says for fault in report.faults], seed
        assert not report.remarks, seed


def test_more_is_sorted_than_is_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("decoupled.core.upkeep_limits.SPOOL_BYTES", 10_000)
    chance = random.Random(1)
    entries = [(f"key-{chance.randint(0, 99)}", b"%d" % n) for n in range(2_000)]
    with contextlib.closing(Spool()) as spool:
        _fill(spool, entries)
        assert list(spool.sorted()) == sorted(entries)
    monkeypatch.setattr("decoupled.core.upkeep_limits.SPOOL_FILES", 2)
    with contextlib.closing(Spool()) as small, pytest.raises(OSError, match="more to sort"):
        _fill(small, entries)


def _fill(spool: Spool, entries: Sequence[tuple[str, bytes]]) -> None:
    for entry in entries:
        spool.add(*entry)


def test_of_large_bodies_there_are_only_some_in_memory(tmp_path: Path) -> None:
    many(tmp_path, 300)
    with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME)) as file:
        file.execute("UPDATE messages SET body = hex(zeroblob(100000))")
        file.commit()
    with contextlib.closing(Database(tmp_path / FILE_NAME, read_only=True)) as database:
        tracemalloc.start()
        try:
            numbers = [one.number for one in audit_effects.kept(database, Past())]
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert numbers == list(range(1, 301))
    assert most < 20_000_000  # of 60
