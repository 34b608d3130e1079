"""The benchmarks' own parts: what they put in, which process paid for what, and that their verdicts can fail."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import bench, compare, comparison, faults, loads, processes, report
from benchmarks.bench import CONNECTIONS, Measured
from benchmarks.comparison import Numbers, Side
from benchmarks.loads import Load
from benchmarks.processes import ENDED, Process
from decoupled.core import limits
from decoupled.engines.sqlite.database import FILE_NAME, Database
from tests.support.engines import ReceivingSqliteQueue
from tests.support.server import Client, serving, wait_for


def measured(per_s: float, p99_ms: float, many: tuple[float, float]) -> Measured:
    load = Load(per_s, 1000, 1.0, p99_ms)
    return Measured(
        yardstick={c: [Load(1000.0, 1000, 1.0, 1.0)] for c in CONNECTIONS},
        ceiling={c: [load] for c in CONNECTIONS},
        accepted={c: [load] for c in CONNECTIONS},
        minute=load,
        minute_processed_per_s=per_s,
        minute_cpu_us=processes.of_an_order({"writer": 50.2e-6, "workers": 20e-6}, 1),
        backlog={1_000: [(100.0, 100.0)], 1_000_000: [many]},
        peak_rss_mb=72.0,
    )


# --- make bench -------------------------------------------------------------------


def test_targets_that_are_met_pass_and_those_that_are_not_fail() -> None:
    assert "FAIL" not in report.render(measured(700, 59, (90, 90)), "ext4", 0.1, "make bench")
    assert report.render(measured(600, 60, (89, 91)), "ext4", 0.1, "make bench").count("FAIL") == 3


def test_numbers_from_a_busy_machine_say_so() -> None:
    assert "busy" not in report.render(measured(700, 59, (90, 90)), "ext4", 0.1, "make bench")
    assert "busy" in report.render(measured(700, 59, (90, 90)), "ext4", 99.0, "make bench")


def test_the_cpu_of_an_order_is_told_by_role_and_in_all() -> None:
    text = report.render(measured(700, 59, (90, 90)), "ext4", 0.1, "make bench")
    assert "| CPU of an order | all of the server | writer | workers |" in text
    assert "| until it is processed | 70.2 us | 50.2 us | 20.0 us |" in text


def test_the_prefilled_backlog_is_real_messages(tmp_path: Path) -> None:
    loads.prefill(tmp_path / "data", 12)
    queue = ReceivingSqliteQueue(Database(tmp_path / "data" / FILE_NAME))
    deliveries = queue.receive(10, 30) + queue.receive(10, 30)
    assert len({delivery.message.id for delivery in deliveries}) == 12


def test_a_prefilled_backlog_in_groups_has_them_take_turns(tmp_path: Path) -> None:
    ids = loads.prefill(tmp_path / "data", 5, "probe", '{"who": "%s"}', ["a", "b"])
    rows = Database(tmp_path / "data" / FILE_NAME).execute("SELECT id, message_group, body FROM messages ORDER BY seq")
    assert [tuple(row) for row in rows] == [
        (message_id, who, f'{{"who": "{who}"}}') for message_id, who in zip(ids, "ababa", strict=True)
    ]


@pytest.mark.parametrize(("main", "arguments"), [(bench.main, []), (compare.main, ["HEAD"])])
def test_without_wrk_it_says_how_to_get_it(
    main: Callable[[], None], arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SystemExit, match="apt-get install wrk"):
        main()


# --- beside an earlier commit -------------------------------------------------------


def table(before: list[Numbers], now: list[Numbers]) -> dict[str, list[str]]:
    """The rows of a comparison, by what they are about."""
    text = comparison.render(Side("abc", "1 writer", before), [Side("this tree", "1 writer", now)], [], "2 rounds")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    return {name: rest for name, *rest in cells}


def test_a_ratio_is_the_median_of_the_rounds_own() -> None:
    name = comparison.RATES[0]
    rows = table([{name: 100.0}, {name: 1_000.0}, {name: 400.0}], [{name: 200.0}, {name: 1_300.0}, {name: 400.0}])
    assert rows[name] == ["400", "400", "1.30 (1.15 to 1.65)", "ratio >= 1.25", "PASS"]


def test_what_is_missed_says_so_and_so_does_what_is_not_there() -> None:
    writer, calls = comparison.CPU.format("writer"), comparison.CALLS.format("fronts")
    rows = table([{writer: 60.0, comparison.P99_MS: 8.0}], [{writer: 25.5, calls: 3.0}])
    assert rows[writer] == ["60.0", "25.5", "0.42", "now <= 25", "**MISSED**"]
    assert rows[comparison.P99_MS] == ["8.00", "", "", "ratio <= 1.00", "**MISSED**"]
    assert rows[calls] == ["", "3.00", "", "", ""]


def test_a_role_that_one_side_lacks_in_a_round_costs_no_other_number() -> None:
    ended = comparison.CPU.format(ENDED)
    rows = table([{ended: 2.0, "x": 1.0}, {"x": 1.0}], [{"x": 2.0}, {ended: 4.0, "x": 2.0}])
    assert (rows[ended], rows["x"][2]) == (["2.00", "4.00", "", "", ""], "2.00 (2.00 to 2.00)")


def test_there_is_no_ratio_to_nothing() -> None:
    assert table([{"x": 0.0}], [{"x": 3.0}])["x"] == ["0.00", "3.00", "", "", ""]


def test_what_is_no_commit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "no-such-commit"])
    monkeypatch.setattr(loads, "need_wrk", lambda: None)
    with pytest.raises(SystemExit, match="no-such-commit is no commit"):
        compare.main()


def test_a_new_run_of_one_kind_leaves_what_the_other_found() -> None:
    page = report.kept("", "# Results\n\nold")
    page = report.kept(page, f"{report.COMPARED}\n\nfirst")
    page = report.kept(page, f"{report.COMPARED}\n\nsecond")
    assert page == f"# Results\n\nold\n\n{report.COMPARED}\n\nsecond\n"
    assert report.kept(page, "# Results\n\nnew") == f"# Results\n\nnew\n\n{report.COMPARED}\n\nsecond\n"


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        ([".", "--options", "--concurrency 1"], "give --options twice"),
        (["HEAD", "--rounds", "0"], "--rounds: '0' is not a whole number of at least 1"),
    ],
)
def test_what_cannot_be_compared_is_refused_at_once(
    arguments: list[str], refusal: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    with pytest.raises(SystemExit):
        compare.main()
    assert refusal in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk makes the load")
@pytest.mark.skipif(sys.platform != "linux", reason="what a process costs is read from /proc")
def test_it_measures_real_servers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--options", "--fronts 0 --concurrency 1", "--options", "--fronts 2"]
    short = ["--rounds", "1", "--seconds", "1", "--records", "1500"]
    monkeypatch.setattr("sys.argv", ["bench", ".", *options, *short])
    compare.main()
    text = capsys.readouterr().out
    assert "Before: this tree --fronts 0 --concurrency 1 (writer 1, workers 1)." in text
    assert "Now: this tree --fronts 2 (writer 1, fronts 2, workers 2)." in text
    rows = {line.split("|")[1].strip(): line.split("|")[2:5] for line in text.splitlines() if line.startswith("| ")}
    assert all(all(map(str.strip, rows[name])) for name in comparison.GOALS), "before, now and ratio"


# --- who pays -----------------------------------------------------------------------


def test_processes_are_told_apart_by_their_command_lines() -> None:
    python = ["/usr/bin/python3", "-P", "-m"]
    assert processes.role([*python, "decoupled.server.workers.process", "7"]) == "workers"
    assert processes.role([*python, "decoupled.server.fronts.process", "7"]) == "fronts"
    assert processes.role([*python, "pip", "-m"]) == processes.role(["sleep", "1"]) == processes.role([""]) == "others"


def test_the_cpu_of_processes_that_ended_is_in_it_without_what_they_used_before() -> None:
    before = {1: Process("writer", 10.0, 1.0), 2: Process("workers", 5.0, 0.0), 3: Process("workers", 2.0, 0.0)}
    after = {1: Process("writer", 12.0, 6.75), 3: Process("workers", 2.5, 0.0), 4: Process("workers", 0.25, 0.0)}
    assert processes.cpu_s(before, after) == {"writer": 2.0, "workers": 0.75, ENDED: 0.75}


def test_a_server_s_processes_their_cpu_and_their_connections_are_found(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--fronts", "2", "--log-level", "WARNING") as server:
        everyone = "writer 1, fronts 2, workers 2"
        wait_for(lambda: processes.told(processes.running(server.pid)), lambda it: it == everyone)
        before = processes.running(server.pid)
        loads.make_records(server, 2_000, tmp_path / "paths")
        used = processes.cpu_s(before, processes.running(server.pid))
        assert set(used) == {"writer", "fronts", "workers"}
        assert min(used.values()) > 0
        paths = (tmp_path / "paths").read_text().split()
        assert len(set(paths)) == 2_000
        assert server.get(paths[-1]).json["status"] == "processed"
        with Client(server) as client:
            client.post(b"{}")
            client.answer()
            ((port, holder),) = processes.holders(server.pid, server.port).items()
            assert port == client.socket.getsockname()[1]
            assert before[holder].role == "fronts"


def test_the_connections_to_a_port_are_those_of_the_kernel_s_table_that_are_established() -> None:
    row = "{}: 0100007F:{} 0100007F:{} {} 00000000:00000000 00:00000000 00000000     0        0 {} 1 0 20 4 30 10 -1"
    rows = [
        row.format(0, "1F90", "C350", "01", 41),
        row.format(1, "1F90", "C351", "06", 42),
        row.format(2, "1F91", "C352", "01", 43),
    ]
    assert processes.clients_of("\n".join(["  sl  local_address", *rows]), 8080) == {"socket:[41]": 50_000}


def test_what_perf_counted_is_read_and_what_it_could_not_count_is_no_zero() -> None:
    assert processes.calls_counted("127868,,raw_syscalls:sys_enter,2876874216,100.00,,\n") == 127_868
    assert processes.calls_counted("<not counted>,,raw_syscalls:sys_enter,0,100.00,,\n") == 0
    assert processes.calls_counted("<not supported>,,raw_syscalls:sys_enter,0,100.00,,\n") is None
    assert processes.calls_counted("event syntax error: 'raw_syscalls:sys_enter'\nno permission\n") is None


# --- faults -------------------------------------------------------------------------


def test_a_batch_of_faults_is_as_large_as_a_request_may_be_and_each_entry_has_one() -> None:
    body = faults.batch_of_faults()
    assert 0.95 * limits.MAX_REQUEST_BYTES < len(body) <= limits.MAX_REQUEST_BYTES
    entries = json.loads(body)
    assert len(entries) == limits.MAX_BATCH_ENTRIES
    assert all([line["quantity"] for line in entry["lines"]].count(0) == 1 for entry in entries)


def test_who_shares_the_process_that_the_faults_come_to_is_not_elsewhere() -> None:
    took_s = {5001: [0.5, 0.6], 5002: [0.002, 0.003], 5003: [0.004]}
    assert faults.seen(took_s, {5001: 7, 5002: 8, 5003: 9}, 7) == faults.Beside(600.0, 4.0, 2)
    assert faults.seen(took_s, {5001: 7, 5002: 7, 5003: 7}, 7) == faults.Beside(600.0, 600.0, 0)


def test_the_p99_is_what_one_in_a_hundred_reaches() -> None:
    assert faults.p99_ms([n / 1000 for n in range(1, 101)]) == 99.0
    assert faults.p99_ms([0.007]) == 7.0
