"""Backups that a server makes by itself: when one is due, which are kept, and who is told when there is none."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from decoupled.core.backups import Holdings, Sealed, Step, Told
from decoupled.server.upkeep.backup_schedule import BackupSchedule, Plan
from tests.support.server import decoupled, serving, wait_for

DAY_MS = 86_400_000


def age(backup: Path, name: str, **of: object) -> Path:
    """As if it had been made a day earlier, under that name."""
    older = backup.rename(backup.with_name(name))
    with closing(sqlite3.connect(older)) as file:
        (mark,) = file.execute("SELECT value FROM marks WHERE name = 'backup'").fetchone()
        said = json.loads(mark)
        file.execute("UPDATE marks SET value = ?", (json.dumps({**said, "at": said["at"] - DAY_MS, **of}),))
        file.commit()
    return older


def test_a_server_makes_up_for_the_time_it_was_off_once_and_keeps_what_it_shall(tmp_path: Path) -> None:
    place = tmp_path / "backups"
    place.mkdir()
    options = ("--workloads", "ledger,echoes", "--backup-dir", str(place), "--backup-every", "86400")

    def backups() -> list[Path]:
        return sorted(place.glob("decoupled-*.sqlite3"))

    with serving(tmp_path / "data", *options) as server:
        wait_for(backups)
        told = wait_for(lambda: server.get("/health").json["upkeep"]["backups"], lambda it: it["last"] is not None)
        assert told["last"] == backups()[0].name
        notes = json.loads(decoupled("status", "--json", "--data", server.data))["notes"]
        (note,) = [note for note in notes if not note.startswith("audit: ")]  # which may have begun by now
        assert note.startswith(f"backups: the last good one is {backups()[0].name}, as of 20")
        assert b"decoupled_backup_age_seconds " in server.get("/metrics").body

    first = age(backups()[0], "decoupled-20200101T000000Z.sqlite3")
    others = age(copied(first), "decoupled-20200101T000001Z.sqlite3", of="/another/data")
    (place / "decoupled-20200101T000002Z.sqlite3").write_text("not of ours")
    (place / "decoupled-20200101T000003Z.sqlite3.part").write_text("of a server that was killed")
    (place / "notes.txt").write_text("of a person")
    with serving(tmp_path / "data", *options, "--backup-keep", "1") as server:
        wait_for(lambda: not first.exists())
        wait_for(lambda: server.get("/health").json["upkeep"]["backups"]["last"] not in (None, first.name))
    kept = {path.name for path in place.iterdir()}
    assert len(kept) == 4
    assert kept.issuperset({others.name, "decoupled-20200101T000002Z.sqlite3", "notes.txt"})


def copied(backup: Path) -> Path:
    copy = backup.with_name("copy")
    copy.write_bytes(backup.read_bytes())
    return copy


def test_a_place_that_is_not_there_is_in_health_and_status(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workloads", "ledger,echoes", "--backup-dir", str(tmp_path / "usb")) as server:
        health = wait_for(lambda: server.get("/health").json, lambda it: it["status"] == "degraded")
        assert health["detail"] == "backups fail: backup_dir: No such file or directory; there is no good one yet"
        assert str(tmp_path) not in json.dumps(health), "anybody may ask for it"
        (line,) = [line for line in server.log_lines() if line["message"] == "a backup failed; it is tried again"]
        assert line["error"] == f"{tmp_path}/usb: No such file or directory"
        server.accept("/ledger", {"account": 1, "amount": 1})


# --- by itself ------------------------------------------------------------------


class Fake:
    """A place, and the backups that are begun: each has ended at once, as `error` says."""

    def __init__(self) -> None:
        self.now_ms, self.up_s = 10 * DAY_MS, 0.0
        self.error: str | None = None
        self.kept: list[tuple[Path, Sealed]] = []
        self.rotated = 0
        self.busy = False
        self.plan = Plan(self, Path("/place"), 86_400.0, 7)
        self.schedule = BackupSchedule(self.plan, self.begin, lambda: self.now_ms, lambda: self.up_s)

    def last(self) -> tuple[Path, Sealed] | None:
        return self.kept[-1] if self.kept else None

    def rotate(self, keep: int) -> list[Path]:
        self.rotated = keep
        return []

    def begin(self, to: Path) -> Fake | Told:
        if self.busy:
            return Told(str(to), Step("refused", 0, 0), error="another one is being made")
        if self.error is None:
            self.kept.append((to, Sealed(self.now_ms, "/data", "here", 1, Holdings(0, {}))))
        return self

    def told(self) -> Told:
        return Told("/place", Step("copying", 0, 0), self.error, self.kept[-1][1] if self.error is None else None)

    def run(self) -> None: ...

    def cancel(self) -> None: ...

    def round(self) -> float:
        return self.schedule._round(self.plan)


def test_one_is_due_so_long_after_the_last_good_one() -> None:
    fake = Fake()
    fake.round()
    assert (len(fake.kept), fake.rotated) == (1, 7)
    fake.now_ms += DAY_MS - 30_000
    assert fake.round() == 30.0
    assert len(fake.kept) == 1
    fake.now_ms += 30_000
    fake.round()
    assert len(fake.kept) == 2
    fake.now_ms += 5 * DAY_MS  # the machine was off
    fake.round()
    fake.round()
    assert len(fake.kept) == 3
    fake.now_ms -= 2 * DAY_MS  # its clock was set back
    fake.round()
    assert len(fake.kept) == 4


def test_a_failure_is_told_until_one_succeeds_and_deletes_nothing() -> None:
    fake = Fake()
    fake.error = "the disk is full"
    assert fake.round() == 600.0
    trouble = fake.schedule.trouble()
    assert trouble is not None
    assert "backups fail: the disk is full; there is no good one yet" in trouble.detail
    assert (trouble.refuses, fake.rotated) == (False, 0)
    fake.error = None
    fake.round()
    assert fake.schedule.trouble() is None


def test_another_backup_is_waited_for() -> None:
    fake = Fake()
    fake.busy = True
    assert fake.round() == 1.0
    assert fake.schedule.trouble() is None


def test_one_that_does_not_come_to_an_end_is_told() -> None:
    fake = Fake()
    fake.round()
    fake.now_ms += 3 * DAY_MS
    assert fake.schedule.trouble() is None, "a server that has just started makes it up"
    fake.up_s = 3 * 86_400.0
    trouble = fake.schedule.trouble()
    assert trouble is not None
    assert "a backup is overdue; the last good one is place, as of " in trouble.detail


def test_what_comes_of_a_place_that_counts_no_more_is_not_told_of_the_next() -> None:
    fake = Fake()
    fake.schedule.change(None)
    fake.error = "the disk is full"
    fake.round()
    assert fake.schedule.trouble() is None
    assert fake.schedule.told() is None
    fake.error = None
    fake.round()
    assert fake.schedule.numbers() == {}
