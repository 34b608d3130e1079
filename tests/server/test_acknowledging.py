"""A fault of an audit that a person has looked into alarms nobody any more, stays in each report, and is told again
when it has grown."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from decoupled.core.acknowledged import acknowledge, added, mark
from decoupled.core.audit import MORE, Acknowledgement, Fault
from decoupled.engines.sqlite.database import FILE_NAME
from tests.support.rows import many
from tests.support.server import DECOUPLED, LAUNCH, Server, serving, wait_for

FAST = (*LAUNCH, "limits", "AUDIT_FIRST_S=0.1,AUDIT_ROUND_S=0.2,AUDIT_PART=1.0")


def audit(data: Path, *arguments: str) -> tuple[int, str]:
    command = [str(DECOUPLED), "audit", "--data", str(data), "--workloads", "readings", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def lose(data: Path, which: str) -> None:
    with contextlib.closing(sqlite3.connect(data / FILE_NAME)) as file:
        file.execute(f"DELETE FROM messages WHERE {which}")  # noqa: S608  a constant
        file.commit()


def told(server: Server) -> tuple[str, dict[str, Any]]:
    health = server.get("/health").json
    return health["status"], health["upkeep"].get("audit", {})


def rounds(server: Server) -> int:
    number: int = told(server)[1].get("rounds", 0)
    return number


def test_what_was_looked_into_alarms_nobody_until_it_grows(tmp_path: Path) -> None:
    data = tmp_path / "data"
    many(data, 1_000)
    lose(data, "seq = 300")
    with serving(data, "--workloads", "readings", program=FAST) as server:
        wait_for(lambda: told(server)[0] == "degraded")
        code, said = audit(data, "--acknowledge", "the disk of May, incident 12")
        assert code == 0, said
        status, audited = told(server)
        assert (status, audited["faults"], audited["acknowledged"]) == ("ok", 0, 1)
        server.accept("/readings", {"device": "boiler", "at": "2026-11-23T10:00:00Z", "value": 1})  # one number more
        server.wait_until_settled()
        seen = rounds(server)
        wait_for(lambda: rounds(server) >= seen + 2)
        assert told(server)[0] == "ok"
        assert "decoupled_audit_faults 0" in server.get("/metrics").body.decode()
        code, said = audit(data)
        assert code == 0
        assert "the disk of May, incident 12: missing: 1 of 1,001 messages are neither there nor removed" in said
        assert "nothing is wrong, beside 1 that were looked into" in said
    lose(data, "seq = 301")
    code, said = audit(data)
    assert code == 1
    assert "\nmissing: 2 of 1,001 messages" in said
    with serving(data, "--workloads", "readings", program=FAST) as server:
        wait_for(lambda: told(server)[0] == "degraded")
        assert "2 of 1,001 messages" in server.logged()


def test_without_a_server_it_is_kept_too_and_a_copy_knows_of_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    many(data, 10)
    with contextlib.closing(sqlite3.connect(data / FILE_NAME)) as file:
        file.execute("UPDATE messages SET result = NULL WHERE seq IN (3, 4)")
        file.commit()
    assert audit(data)[0] == 1
    report = json.loads(audit(data, "--acknowledge", "it was I", "--json")[1].splitlines()[0])
    assert report["faults"][0]["acknowledged"]["why"] == "it was I"
    assert "@" in report["faults"][0]["acknowledged"]["by"]
    copy = tmp_path / "copy.sqlite3"
    subprocess.run([DECOUPLED, "backup", "--data", data, copy], check=True, capture_output=True)
    assert subprocess.run([DECOUPLED, "audit", copy], check=False, capture_output=True).returncode == 0
    with contextlib.closing(sqlite3.connect(data / FILE_NAME)) as file:  # as many, and another one
        file.execute("UPDATE messages SET result = '{}' WHERE seq = 3")
        file.execute("UPDATE messages SET result = NULL WHERE seq = 5")
        file.commit()
    assert audit(data)[0] == 1


@pytest.mark.parametrize("arguments", [("--acknowledge", " "), ("--acknowledge", "x", "--stack", "shop")])
def test_what_makes_no_sense_is_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = subprocess.run([DECOUPLED, "audit", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "of faults of a data directory" in " ".join(done.stderr.replace("│", " ").split())


BY = Acknowledgement("ana@desk", 1, "it was I")


def missing(key: str, size: int, what: str = "missing") -> Fault:
    return Fault(kind="missing", what=what, key=key, size=size)


def test_a_fault_is_known_by_what_does_not_change_and_by_how_much_it_is() -> None:
    known = acknowledge([missing("block 0", 2), Fault(kind="item", what="bad", ids=["a", "b"], count=2)], BY)
    faults = [
        missing("block 0", 2, "2 of 90"),
        missing("block 0", 3),
        missing("block 1", 1),
        Fault(kind="item", what="bad", ids=["b"]),
        Fault(kind="item", what="bad", ids=["a", "c"], count=2),
        Fault(kind="item", what="worse", ids=["a"]),
        Fault(kind="record", what="bad", ids=["a"]),
    ]
    mark(faults, known)
    assert [fault.acknowledged for fault in faults] == [BY, None, None, BY, None, None, None]


def test_of_many_ids_the_number_counts() -> None:
    known = acknowledge([Fault(kind="item", what="bad", ids=["a", "b"], count=50)], BY)
    faults = [Fault(kind="item", what="bad", ids=["c"], count=n) for n in (50, 51)]
    mark(faults, known)
    assert [fault.acknowledged for fault in faults] == [BY, None]


def test_what_stands_for_others_is_never_known_and_no_more_are_kept_than_are_told_apart() -> None:
    rest = Fault(kind="item", what=MORE)
    assert acknowledge([rest], BY) == []
    many_faults = acknowledge([missing(f"block {n}", 1) for n in range(150)], BY)
    assert [it.key for it in added(many_faults[:80], many_faults[80:])] == [f"block {n}" for n in range(50, 150)]
    mark([rest], many_faults)
    assert rest.acknowledged is None
