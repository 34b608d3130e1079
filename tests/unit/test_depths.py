"""What waits is counted for charts as `status` counts it, and no longer than it may take."""

from __future__ import annotations

from pathlib import Path

import pytest

from decoupled.core import limits
from decoupled.core.outcomes import Delivery, Record
from decoupled.core.workload import Message
from decoupled.engines.protocols import StoreUnavailable
from decoupled.engines.sqlite import depths
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.database import FILE_NAME, Database
from decoupled.engines.sqlite.depths import Depths
from decoupled.engines.sqlite.stats import SqliteStats
from decoupled.engines.sqlite.table import SqliteTable
from tests.support.engines import ReceivingSqliteQueue
from tests.support.model_engine import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def queue(tmp_path: Path, clock: ManualClock) -> ReceivingSqliteQueue:
    queue = ReceivingSqliteQueue(Database(tmp_path / FILE_NAME), clock)
    queue.send([Message(f"m-{n}", "orders", "{}", "a", clock()) for n in range(2_000)])
    return queue


def test_it_counts_what_status_does(tmp_path: Path, queue: ReceivingSqliteQueue, clock: ManualClock) -> None:
    later, dead, *_ = queue.receive(7, 60)
    queue.retry_later([(later, 60)])
    queue.send([Message("later", "orders", "{}", "a", clock() - 9_000, due_at=clock() + 86_400_000)])
    record = Record(dead.message.id, "orders", "dead", clock(), finished_at=clock(), body="{}")
    SqliteTable(queue.database, clock_ms=clock).bury(Delivery(dead.message, dead.receipt, 1), record)
    clock.advance(30)
    looking = Depths(DataDirectory(tmp_path), clock)
    found = looking(clock())
    assert found == {"queued": 1_993, "in_flight": 5, "delayed": 2, "dead": 1, "oldest_age_s": 30.0}
    told = SqliteStats(DataDirectory(tmp_path), clock, clock).look()
    assert found == {name: getattr(told, name) for name in found}
    looking.close()


def test_nothing_that_waits_is_of_no_age(tmp_path: Path, clock: ManualClock) -> None:
    Database(tmp_path / FILE_NAME).close()
    assert Depths(DataDirectory(tmp_path), clock)(clock())["oldest_age_s"] == 0.0


def test_a_look_that_takes_too_long_is_given_up_and_the_next_one_counts(
    tmp_path: Path, queue: ReceivingSqliteQueue, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depths, "STEPS", 1_000)
    monkeypatch.setattr(limits, "HISTORY_LOOK_S", 0.0)
    looking = Depths(DataDirectory(tmp_path), clock)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="that takes over 0 s"):
            looking(clock())
    monkeypatch.setattr(limits, "HISTORY_LOOK_S", 60.0)
    assert looking(clock())["queued"] == 2_000
    looking.close()


def test_a_file_that_is_not_there_cannot_be_counted(tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(StoreUnavailable, match="there is no"):
        Depths(DataDirectory(tmp_path), clock)(clock())
