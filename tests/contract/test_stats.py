"""`decoupled status` on a real server and on a directory that nobody serves; and its counts."""

from __future__ import annotations

import json
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from decoupled.core.outcomes import Commit, Delivery, Record, Reject
from decoupled.core.overview import Overview, with_rates
from decoupled.core.workload import Message
from decoupled.engines.aws.messages import SqsQueue
from decoupled.engines.aws.stats import AwsStats
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.stats import SqliteStats
from decoupled.engines.sqlite.table import SqliteTable
from tests.support import engines
from tests.support.dead_letters import bury, let_sqs_move, letters_of, message
from tests.support.engines import ReceivingSqliteQueue
from tests.support.model_engine import ManualClock
from tests.support.server import DECOUPLED, Server, serving, wait_for


def status(data: Path, *arguments: str, exit_status: int = 0) -> str:
    command = [str(DECOUPLED), "status", "--data", str(data), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == exit_status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_every_state_is_counted_once(tmp_path: Path) -> None:
    clock = ManualClock()
    database = Database(tmp_path / "decoupled.sqlite3")
    queue, table = ReceivingSqliteQueue(database, clock), SqliteTable(database, clock_ms=clock)
    messages = [Message(f"m-{n}", "orders", "{}", "a", clock.now_ms) for n in range(10)]
    queue.send(messages)
    for _ in range(2):
        queue.retry_later([(delivery, 60) for delivery in queue.receive(1, 60)])  # delayed
    done = queue.receive(5, 60)
    table.commit([(one.message, Commit("{}")) for one in done[:2]], clock.now_ms)
    table.commit([(done[2].message, Reject("no"))], clock.now_ms)
    one = done[3].message
    table.bury(
        Delivery(one, "a receipt", 1),
        Record(one.id, "orders", "dead", one.accepted_at, finished_at=clock.now_ms, body="{}"),
    )
    clock.advance(30)
    overview = SqliteStats(DataDirectory(tmp_path), clock, clock).look()
    assert (overview.queued, overview.in_flight, overview.delayed) == (3, 1, 2)
    assert (overview.processed, overview.rejected, overview.dead) == (2, 1, 1)
    assert overview.accepted == 10
    assert overview.oldest_age_s == 30
    assert overview.server is None


def test_what_is_due_later_is_delayed_and_makes_nothing_old(tmp_path: Path) -> None:
    clock = ManualClock()
    queue = ReceivingSqliteQueue(Database(tmp_path / "decoupled.sqlite3"), clock)
    queue.send([Message("m-1", "orders", "{}", "a", clock(), due_at=clock() + 86_400_000)])
    clock.advance(3_600)
    stats = SqliteStats(DataDirectory(tmp_path), clock, clock)
    overview = stats.look()
    assert (overview.queued, overview.in_flight, overview.delayed, overview.oldest_age_s) == (0, 0, 1, None)
    queue.send([Message("m-2", "orders", "{}", "a", clock())])
    clock.advance(30)
    assert stats.look().oldest_age_s == 30
    clock.advance(86_400)
    assert stats.look().oldest_age_s == 3_600 + 30 + 86_400


def test_what_is_visible_is_counted_by_the_clock_that_messages_wait_by(tmp_path: Path) -> None:
    wall, waits_by = ManualClock(), ManualClock()
    wall.advance(-3_600)  # it was set back
    queue = ReceivingSqliteQueue(Database(tmp_path / "decoupled.sqlite3"), waits_by)
    queue.send([Message(f"m-{n}", "orders", "{}", "a", wall()) for n in range(3)])
    queue.retry_later([(delivery, 60) for delivery in queue.receive(1, 60)])
    overview = SqliteStats(DataDirectory(tmp_path), wall, waits_by).look()
    assert (overview.queued, overview.in_flight, overview.delayed) == (2, 0, 1)


def test_counting_reads_no_row_of_the_table(tmp_path: Path) -> None:
    """Each count is answered by an index alone, so that a million rows cost a fraction of a second: the program that
    SQLite makes of it takes no column from the table itself."""
    database = Database(tmp_path / "decoupled.sqlite3")
    (table,) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'messages'").fetchone()
    asked: list[str] = []
    source = SqliteStats(DataDirectory(tmp_path))
    source.database.connection.set_trace_callback(asked.append)
    source.look()
    counts = [sql for sql in asked if "count(*)" in sql and "RECURSIVE" not in sql]  # that one reads a name a workload
    assert len(counts) == 3
    for statement in counts:
        program = database.execute(f"EXPLAIN {statement}").fetchall()
        cursors = {p1 for _, operation, p1, p2, *_ in program if operation == "OpenRead" and p2 == table}
        assert not [step for step in program if step[1] == "Column" and step[2] in cursors], statement
        assert len([step for step in program if step[1] == "OpenRead"]) == 1 + len(cursors), statement


def test_rates_are_what_happened_between_two_looks() -> None:
    before = Overview(taken_at=1_000, queued=5, in_flight=0, delayed=0, dead=0, processed=10, rejected=0)
    now = Overview(taken_at=3_000, queued=1, in_flight=0, delayed=0, dead=0, processed=20, rejected=2)
    rated = with_rates(now, before)
    assert (rated.accepted_per_s, rated.processed_per_s) == (4.0, 6.0)


def test_a_server_is_seen_with_its_breakers(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workloads", "hazards") as server:
        server.accept("/hazards", {"act": "well"}, {"act": "reject"})
        server.wait_until_settled()
        seen: dict[str, Any] = json.loads(status(server.data, "--json", "--every", "100ms"))
        assert (seen["accepted"], seen["processed"], seen["rejected"], seen["dead"]) == (2, 1, 1, 0)
        assert seen["server"] == server.url
        assert seen["breakers"] == {"hazards": {"state": "closed"}}
        server.accept("/hazards", *[{"act": "unavailable"}] * 30)
        wait_for(lambda: server.get("/health").json["breakers"]["hazards"]["state"], lambda it: it == "open")
        shown = status(server.data, "--every", "100ms")
        assert "the backend is ill" in shown
        assert "delayed" in shown
    assert "not running" in status(server.data, "--every", "100ms")


def test_a_workload_that_fails_all_alike_is_held_and_everybody_is_told(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workloads", "hazards") as server:
        server.accept("/hazards", *[{"act": "raise"}] * 100)
        health = wait_for(lambda: server.get("/health").json, lambda it: it["breakers"]["hazards"]["state"] == "held")
        assert health["status"] == "degraded"
        assert "hazards is held" in health["detail"]
        assert "RuntimeError: the workload says no" in health["detail"]
        shown = status(server.data, "--every", "100ms")
        assert "held" in shown
        assert "its messages fail all alike" in server.log.read_text()


def test_a_good_message_behind_many_bad_ones_is_tried_when_it_comes_and_ends_the_hold(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workloads", "hazards") as server:
        server.accept("/hazards", *[{"act": "raise"}] * 500)
        wait_for(lambda: server.get("/health").json["breakers"]["hazards"]["state"], lambda it: it == "held")

        def state_after_a_good_one() -> str:
            server.accept("/hazards", {"act": "well"})
            state: str = server.get("/health").json["breakers"]["hazards"]["state"]
            return state

        wait_for(state_after_a_good_one, lambda state: state == "closed")


def test_the_groups_that_are_sick_are_shown_and_the_others_go_on(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workloads", "hosts") as server:
        server.accept("/hosts", *[{"host": "gone.example", "sick": True}] * 30)
        wait_for(lambda: server.get("/health").json["breakers"]["hosts"].get("sick_groups"), lambda it: it == 1)
        assert "gone.example does not answer" in status(server.data, "--every", "100ms")
        (one,) = server.accept("/hosts", {"host": "well.example"})
        server.wait_until("processed", f"/hosts/{one}")


def test_a_group_s_name_gives_no_commands_to_the_terminal(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workloads", "hosts") as server:
        server.accept("/hosts", *[{"host": "\x1b[2J\u202e[bold]\0", "sick": True}] * 30)
        wait_for(lambda: server.get("/health").json["breakers"]["hosts"].get("sick_groups"), lambda it: it == 1)
        shown = status(server.data, "--every", "100ms")
        assert r"hosts \x1b[2J\u202e[bold]\x00: " in shown
        assert "\x1b" not in shown


def test_a_server_that_was_killed_is_not_called_running(tmp_path: Path) -> None:
    server = Server(tmp_path / "data")
    try:
        server.start()
        assert server.url in wait_for(lambda: status(server.data, "--every", "100ms"), lambda it: server.url in it)
        server.kill()
        assert "not running" in status(server.data, "--every", "100ms")
    finally:
        server.end()


def test_watch_goes_on_until_it_is_interrupted(tmp_path: Path) -> None:
    Database(tmp_path / "decoupled.sqlite3").close()
    command = [str(DECOUPLED), "status", "--data", str(tmp_path), "--watch", "--json", "--every", "100ms"]
    tool = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert tool.stdout is not None
    assert [json.loads(tool.stdout.readline())["accepted"] for _ in range(3)] == [0, 0, 0]
    tool.send_signal(signal.SIGINT)
    assert tool.wait(10) == 0


def test_a_directory_without_a_database_is_refused(tmp_path: Path) -> None:
    assert "there is no" in status(tmp_path, exit_status=1)


def test_a_stack_is_counted_by_what_aws_says(moto_engine: engines.AwsEngine) -> None:
    from decoupled.engines.aws.client import client

    moto_engine.queue.send([message() for _ in range(3)])
    bury_count = len([bury(moto_engine) for _ in range(1)])
    let_sqs_move(moto_engine, message())
    outputs = {
        "QueueUrl": moto_engine.queue_url,
        "DeadLetterQueueUrl": moto_engine.dead_letter_queue_url,
        "TableName": moto_engine.table_name,
    }
    overview = AwsStats("shop", outputs, client).look()
    assert overview.queued + overview.in_flight == 3
    assert overview.dead == bury_count + 1
    assert any("have no record" in note for note in overview.notes)
    letters_of(moto_engine).close()


def test_a_stack_with_ordered_workloads_is_counted_over_both_queues(moto_engine: engines.AwsEngine) -> None:
    fifo = engines.fifo_beside(moto_engine)
    moto_engine.queue.send([message() for _ in range(3)])
    fifo.queue.send([message() for _ in range(4)])
    SqsQueue(moto_engine.sqs, fifo.dead_letter_queue_url, "").send([message()])
    outputs = {
        "QueueUrl": moto_engine.queue_url,
        "DeadLetterQueueUrl": moto_engine.dead_letter_queue_url,
        "OrderedQueueUrl": fifo.queue_url,
        "OrderedDeadLetterQueueUrl": fifo.dead_letter_queue_url,
        "TableName": moto_engine.table_name,
    }

    class CloudWatch:
        """Says 300 a queue and metric, which is one a second."""

        def get_metric_data(self, MetricDataQueries: list[dict[str, Any]], **_: Any) -> Any:  # noqa: N803
            metrics = [query["MetricStat"]["Metric"] for query in MetricDataQueries]
            metric = metrics[0]
            if metric["Namespace"] == "Decoupled/shop":  # what the processor saw of ages two minutes ago
                assert (metric["MetricName"], metric["Dimensions"]) == ("oldest_age_seconds", [])
                two_minutes_ago = datetime.now(UTC) - timedelta(seconds=120)
                return {"MetricDataResults": [{"Id": "m0", "Timestamps": [two_minutes_ago], "Values": [7_000.0]}]}
            asked = [metric["Dimensions"][0]["Value"] for metric in metrics]
            assert {*asked} == {url.rpartition("/")[2] for url in (moto_engine.queue_url, fifo.queue_url)}
            return {"MetricDataResults": [{"Id": query["Id"], "Values": [300.0]} for query in MetricDataQueries]}

        def describe_alarms(self, **_: Any) -> Any:
            return {"MetricAlarms": []}

    def clients(service: str) -> Any:
        return {"sqs": moto_engine.sqs, "dynamodb": moto_engine.dynamodb, "cloudwatch": CloudWatch()}[service]

    overview = AwsStats("shop", outputs, clients).look()
    assert (overview.queued, overview.dead) == (7, 1)
    assert overview.oldest_age_s == pytest.approx(7_120, abs=60)
    assert (overview.accepted_per_s, overview.processed_per_s) == (2.0, 2.0)
