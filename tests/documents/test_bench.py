"""The benchmarks' own parts: what they put in, and that their verdicts can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import bench, report
from benchmarks.bench import CONNECTIONS, Load, Measured
from decoupled.engines.sqlite.database import FILE_NAME, Database
from tests.support.engines import ReceivingSqliteQueue


def measured(per_s: float, p99_ms: float, many: tuple[float, float]) -> Measured:
    load = Load(per_s, 1000, 1.0, p99_ms)
    return Measured(
        yardstick={c: [Load(1000.0, 1000, 1.0, 1.0)] for c in CONNECTIONS},
        ceiling={c: [load] for c in CONNECTIONS},
        accepted={c: [load] for c in CONNECTIONS},
        minute=load,
        minute_processed_per_s=per_s,
        backlog={1_000: [(100.0, 100.0)], 1_000_000: [many]},
        peak_rss_mb=72.0,
    )


def test_targets_that_are_met_pass_and_those_that_are_not_fail() -> None:
    assert "FAIL" not in report.render(measured(700, 59, (90, 90)), "ext4", 0.1, "make bench")
    assert report.render(measured(600, 60, (89, 91)), "ext4", 0.1, "make bench").count("FAIL") == 3


def test_numbers_from_a_busy_machine_say_so() -> None:
    assert "busy" not in report.render(measured(700, 59, (90, 90)), "ext4", 0.1, "make bench")
    assert "busy" in report.render(measured(700, 59, (90, 90)), "ext4", 99.0, "make bench")


def test_the_prefilled_backlog_is_real_messages(tmp_path: Path) -> None:
    bench.prefill(tmp_path / "data", 12)
    queue = ReceivingSqliteQueue(Database(tmp_path / "data" / FILE_NAME))
    deliveries = queue.receive(10, 30) + queue.receive(10, 30)
    assert len({delivery.message.id for delivery in deliveries}) == 12


def test_a_prefilled_backlog_in_groups_has_them_take_turns(tmp_path: Path) -> None:
    ids = bench.prefill(tmp_path / "data", 5, "probe", '{"who": "%s"}', ["a", "b"])
    rows = Database(tmp_path / "data" / FILE_NAME).execute("SELECT id, message_group, body FROM messages ORDER BY seq")
    assert [tuple(row) for row in rows] == [
        (message_id, who, f'{{"who": "{who}"}}') for message_id, who in zip(ids, "ababa", strict=True)
    ]


def test_without_wrk_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench"])
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SystemExit, match="apt-get install wrk"):
        bench.main()
