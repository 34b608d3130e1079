"""`decoupled plan` by numbers that can be worked out by hand, and its command as it is typed."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from decoupled.cli.main import main
from decoupled.cli.measured import parse
from decoupled.core import limits
from decoupled.core.backoff import backoff_s
from decoupled.plan.answer import Answer, Where, answer
from decoupled.plan.arrivals import DAY_S, Day, Recorded, Steady, recorded, spike, time_in
from decoupled.plan.pace import IN_FLIGHT_MOST, MAPPING_FIRST, Moment, Stack
from decoupled.plan.prices import price_list
from decoupled.plan.quotas import on_aws
from decoupled.plan.scenario import OnAws, OnMachine, Outage, Scenario, Service, Workload
from decoupled.plan.units import amount, money, span

FIFTH_S = Workload(Service(0.2))
OUTAGE = Outage(300, 3_600)
SALE = Scenario(spike(40_000, 600), FIFTH_S, concurrency=2, machines=2, outages=(OUTAGE,))


def planned(scenario: Scenario, where: Where) -> Answer:
    return answer(scenario, where, price_list())


# --- how orders come


def test_a_day_has_its_peak_in_the_afternoon_and_a_tenth_of_it_at_night() -> None:
    day = Day(100.0)
    assert day.by(16 * 3_600 + 1) - day.by(16 * 3_600) == pytest.approx(100, rel=0.01)
    assert day.by(4 * 3_600 + 1) - day.by(4 * 3_600) == pytest.approx(10, rel=0.01)
    assert day.by(DAY_S) == pytest.approx(55 * DAY_S)


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-30T01:02:03Z,shop,17",
        "17;2026-11-30 01:02:03",
        '{"accepted_at": "2026-11-30T02:02:03+01:00"}',
        '192.0.2.1 - - [30/Nov/2026:01:02:03 +0000] "POST /orders HTTP/1.1" 202 17',
        "1796000523,17",
        "1796000523000",
    ],
)
def test_a_time_is_found_however_a_log_writes_it(line: str) -> None:
    assert time_in(line) == datetime(2026, 11, 30, 1, 2, 3, tzinfo=UTC).timestamp()


def test_times_are_put_in_order_and_lines_without_one_are_passed_by() -> None:
    lines = ["time,who", "2026-11-30T01:00:05.500Z,a", "2026-11-30T01:00:00Z,b", "", "2026-11-30T01:00:01Z,c"]
    assert recorded(lines).times == (0.0, 1.0, 5.5)
    assert recorded(lines).by(1.0) == 2
    with pytest.raises(ValueError, match="fewer than two times"):
        recorded(["time,who"])


# --- what becomes of them


@pytest.mark.parametrize("where", ["machine", "aws"])
def test_orders_in_are_orders_out(where: Where) -> None:
    course = planned(SALE, where).course
    assert course.drained
    assert sum(course.coming) * course.bin_s == pytest.approx(40_000)
    assert sum(course.ended) * course.bin_s == pytest.approx(40_000)


def test_a_machine_s_outage_can_be_worked_out_by_hand() -> None:
    """66.7 come and 4 times 5 are processed a second for five minutes; nothing is for an hour and until a probe is
    well; then what is left takes 1,700 s."""
    found = planned(SALE, "machine")
    assert found.drained_at_s is not None
    assert found.peak_depth == pytest.approx(40_000 - 300 * 20, rel=0.03)
    assert found.drained_at_s == pytest.approx(3_900 + 34_000 / 20, rel=0.03)
    assert found.failed_tries < 100  # probes, and no more: the breaker is open
    assert found.waiting_max_s == pytest.approx(found.drained_at_s - 600, rel=0.03)


def test_a_stack_tries_all_the_while_and_is_done_when_the_last_backoff_is() -> None:
    found = planned(SALE, "aws")
    assert found.failed_tries == pytest.approx(3_600 * 20, rel=0.05)  # as fast as processors can
    assert found.drained_at_s is not None
    assert found.drained_at_s >= 3_900 + 34_000 / 20


def test_an_order_that_comes_in_an_outage_waits_out_its_own_backoff() -> None:
    """It is tried again when the real backoff says so, which is within 15 minutes of the outage's end."""
    alone = Scenario(Steady(1.0, 1.0, goes_on=False), Workload(Service(0.01)), outages=(Outage(0, 3_600),))
    found = planned(alone, "aws")
    longest = backoff_s(40, 0.0)
    assert longest == limits.BACKOFF_CAP_S
    assert all(3_600 - 1 <= it.took_s <= 3_600 + longest for it in found.followed)
    assert 8 <= found.followed[0].tries <= 16


def test_no_more_than_sqs_allows_are_in_flight_and_the_rest_stays_visible() -> None:
    many = Scenario(
        Steady(2_000.0, 600, goes_on=False),
        Workload(Service(0.001)),
        concurrency=1_000,
        outages=(Outage(0, 1_200),),
    )
    found = planned(many, "aws")
    assert found.peak_depth == pytest.approx(1_200_000, rel=0.01)
    assert found.peak_in_flight <= IN_FLIGHT_MOST + 1
    assert found.peak_in_flight > 0.9 * IN_FLIGHT_MOST
    assert "messages in flight" in [quota.name for quota in found.met]


def test_what_is_faster_than_the_back_is_never_done() -> None:
    assert planned(Scenario(Steady(100.0), FIFTH_S), "machine").drained_at_s is None


def test_chance_has_orders_wait_where_processors_are_busy() -> None:
    """Two workers, each busy for nine tenths: M/D/2 waits about two services more on average, an idle one none."""
    busy = planned(Scenario(Steady(9.0), FIFTH_S), "machine")
    idle = planned(Scenario(Steady(1.0), FIFTH_S), "machine")
    assert 0.3 < sum(it.took_s for it in busy.followed) / len(busy.followed) < 1.0
    assert sum(it.took_s for it in idle.followed) / len(idle.followed) == pytest.approx(0.21, abs=0.01)


def test_a_service_time_has_the_mean_and_the_p99_that_were_asked_for() -> None:
    service = Service(0.1, 0.5)
    some = [service.quantile((number + 0.5) / 10_000) for number in range(10_000)]
    assert sum(some) / len(some) == pytest.approx(0.1, rel=0.02)
    assert service.quantile(0.99) == pytest.approx(0.5)
    assert Service(0.1).quantile(0.99) == 0.1


# --- how fast a stack goes


def pace_of(stack: Stack, seconds: int, coming: float, waiting: float) -> float:
    pace = 0.0
    for t in range(seconds):
        pace = stack.pace(Moment(t, 1.0, coming, waiting)).processors
    return pace


def test_a_mapping_grows_by_300_a_minute_up_to_1250_and_pollers_faster() -> None:
    usual = Scenario(Steady(1.0), FIFTH_S, aws=OnAws(concurrency=5_000, lambda_concurrency=10_000))
    assert pace_of(Stack(usual), 1, 0, 1e6) == MAPPING_FIRST
    assert pace_of(Stack(usual), 61, 0, 1e6) == pytest.approx(305)
    assert pace_of(Stack(usual), 600, 0, 1e6) == 1_250
    provisioned = Scenario(Steady(1.0), FIFTH_S, aws=OnAws(concurrency=5_000, pollers=2, lambda_concurrency=10_000))
    assert pace_of(Stack(provisioned), 61, 0, 1e6) == pytest.approx(1_020)


def test_maximum_concurrency_and_the_account_bound_it() -> None:
    few = Scenario(Steady(1.0), FIFTH_S, aws=OnAws(concurrency=50))
    assert pace_of(Stack(few), 600, 0, 1e6) == 50
    account = Scenario(Steady(1.0), FIFTH_S, aws=OnAws(concurrency=500, lambda_concurrency=100))
    assert pace_of(Stack(account), 600, 1_000, 1e6) < 100


def test_a_batch_is_full_where_messages_wait_and_else_what_comes_meanwhile() -> None:
    stack = Stack(Scenario(Steady(1.0), FIFTH_S))
    assert stack.pace(Moment(0, 1.0, 1.0, 1e6)).batch == 10
    assert stack.pace(Moment(1, 1.0, 1.0, 0)).batch < 1.2
    gathering = Stack(Scenario(Steady(1.0), FIFTH_S, aws=OnAws(window_s=10)))
    assert gathering.pace(Moment(0, 1.0, 1.0, 0)).batch > 3


def test_a_new_table_takes_twice_its_peak_half_an_hour_later() -> None:
    stack = Stack(Scenario(Steady(1.0), Workload(Service(0.0001)), aws=OnAws(concurrency=1_000, table_writes=40_000)))
    stack.pace(Moment(0, 1.0, 0, 1e9))
    for t in range(1, 3_700):
        before = stack.pace(Moment(t, 1.0, 0, 1e9)).well
        stack.wrote(t, min(before, 4_000))
        assert before <= 4_000 or t >= 1_800
    assert before == pytest.approx(8_000)


# --- which quota is met, and what it costs


def test_the_quotas_that_are_met_are_those_that_are_too_small() -> None:
    """500 a second and as many GETs are what the stack's throttle takes; ten times that, what the account's does."""
    assert planned(Scenario(Steady(500.0), concurrency=50), "aws").met == []
    of_stack = [it.name for it in planned(Scenario(Steady(1_000.0), concurrency=50), "aws").met]
    assert of_stack == ["requests/s: the stack's ThrottleRate"]
    of_both = [it.name for it in planned(Scenario(Steady(6_000.0), concurrency=50), "aws").met]
    assert {*of_stack, "requests/s: the account's API Gateway"} < set(of_both)


def test_of_two_quotas_the_one_that_is_met_sooner_comes_first() -> None:
    """In the morning the stack's throttle, later the processors."""
    day = Scenario(Day(900.0), Workload(Service(0.05)), concurrency=40)
    met = planned(day, "aws").met
    assert [it.at_s for it in met] == sorted(it.at_s or 0 for it in met)
    assert [it.name for it in met][:2] == ["requests/s: the stack's ThrottleRate", "processors (MaximumConcurrency)"]


def test_a_burst_beyond_the_bucket_is_refused_and_one_within_is_not() -> None:
    for orders, refused in ((1_250, 0.0), (20_000, 20_000 - 1_250 - 1_000)):
        scenario = Scenario(spike(orders, 1.0), Workload(gets=0.0), concurrency=50)
        (stack_s,) = [it for it in planned(scenario, "aws").quotas if "ThrottleRate" in it.name]
        assert stack_s.beyond == pytest.approx(refused, rel=0.02, abs=1)
        assert (stack_s.at_s is not None) == bool(refused)


def test_one_hot_key_is_met_before_the_table() -> None:
    hot = Scenario(Steady(600.0), Workload(Service(0.001), items=1, keys=1), concurrency=50)
    assert "table: writes/s of one key" in [it.name for it in planned(hot, "aws").met]
    many = Scenario(Steady(600.0), Workload(Service(0.001), items=1, keys=100), concurrency=50)
    assert "table: writes/s of one key" not in [it.name for it in planned(many, "aws").met]


def test_a_disk_is_full_when_its_bytes_are_used() -> None:
    scenario = Scenario(Steady(1_000.0), Workload(entry_bytes=700), machine=OnMachine(disk_gb=86.4))
    (disk,) = [it for it in planned(scenario, "machine").quotas if "disk" in it.name]
    assert disk.at_s == pytest.approx(86_400)


def test_what_outlives_the_queue_s_retention_is_lost_and_said_to_be() -> None:
    scenario = Scenario(spike(100, 60), FIFTH_S, outages=(Outage(0, 15 * DAY_S),))
    found = planned(scenario, "aws")
    assert [
        it.then for it in on_aws(scenario, found.course, 15 * DAY_S) if "retention" in it.name and it.at_s == 0
    ] == ["lost"]


def test_cells_share_the_orders_and_each_has_its_own_quotas() -> None:
    one = planned(Scenario(Steady(2_000.0), concurrency=50, aws=OnAws(table_writes=40_000)), "aws")
    ten = planned(Scenario(Steady(2_000.0), concurrency=50, cells=10, aws=OnAws(table_writes=40_000)), "aws")
    assert any("ThrottleRate" in it.name for it in one.met)
    assert ten.met == []
    assert ten.orders_a_month == one.orders_a_month
    assert ten.dollars_a_month == pytest.approx(one.dollars_a_month, rel=0.25)


def test_a_million_orders_cost_what_their_parts_do() -> None:
    scenario = Scenario(Steady(1_000_000 / 2_592_000), Workload(Service(0.001)), concurrency=10)
    costs = planned(scenario, "aws").dollars
    assert costs["API Gateway"] == pytest.approx(2.0, rel=0.01)  # each is asked for once
    assert costs["DynamoDB"] == pytest.approx(0.625 + 0.125 + 0.0008 * 0.45 * 1000, rel=0.02)
    assert costs["SQS"] == pytest.approx(0.4 + 0.1 + 2 * 0.4 + 2 * 0.2 * 2.592 * 0.4, rel=0.02)  # batches of one


def test_a_spike_is_paid_once_a_month_and_a_steady_rate_all_of_it() -> None:
    assert planned(Scenario(spike(40_000, 600)), "aws").orders_a_month == 40_000
    assert planned(Scenario(Steady(1.0, 3_600)), "aws").orders_a_month == pytest.approx(2_592_000)


# --- as it is typed


def typed(*arguments: str, status: int = 0) -> str:
    done = CliRunner().invoke(main, ["plan", *arguments])
    assert done.exit_code == status, done.output
    return done.output


def test_the_command_says_what_the_simulation_does() -> None:
    arguments = shlex.split("--spike 40000 --within 10m --machines 2 --service-ms 200 --outage 1h --at 5m")
    told = json.loads(typed(*arguments, "--json"))
    found = planned(SALE, "machine")
    assert told["machine"]["peak_depth"] == pytest.approx(found.peak_depth)
    assert told["machine"]["drained_at_s"] == pytest.approx(found.drained_at_s)
    text = typed(*arguments)
    assert f"{found.peak_depth:,.0f}" in text
    assert "2 machines" in text
    assert f"Prices of us-east-1, {price_list().as_of}" in text


def test_the_same_plan_is_the_same_answer() -> None:
    arguments = ("--day", "50", "--service-ms", "20", "--service-p99-ms", "90", "--json")
    assert typed(*arguments) == typed(*arguments)


def test_a_file_of_times_is_planned(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    file.write_text("".join(f"2026-11-30T01:{n // 60:02}:{n % 60:02}Z order\n" for n in range(600)))
    told = json.loads(typed("--times", str(file), "--json", "--on", "machine"))
    assert told["machine"]["orders"] == 600
    assert "aws" not in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "by one of --steady, --day, --spike and --times"),
        (("--steady", "1", "--day", "2"), "by one of --steady"),
        (("--steady", "1", "--outage", "1h", "--outage", "2h", "--at", "1h"), "2 times --outage and 1 times --at"),
        (("--spike", "1", "--within", "0s"), "--within is no time at all"),
    ],
)
def test_what_cannot_be_planned_is_refused(arguments: tuple[str, ...], said: str) -> None:
    assert said in typed(*arguments, status=2)


def test_a_million_a_second_for_a_month_is_planned() -> None:
    told = json.loads(typed("--steady", "1000000", "--for", "30d", "--cells", "250", "--on", "aws", "--json"))
    assert told["aws"]["orders_a_month"] == pytest.approx(2.592e12)


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_a_plot_is_drawn_and_is_the_same_each_time(tmp_path: Path, suffix: str) -> None:
    files = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    for file in files:
        typed("--spike", "400", "--within", "1m", "--service-ms", "100", "--outage", "1m", "--plot", str(file))
    first, second = (file.read_bytes() for file in files)
    assert first == second
    assert first.startswith(b"\x89PNG" if suffix == "png" else b"<?xml")
    assert len(first) < 200_000


def test_another_kind_of_plot_is_refused(tmp_path: Path) -> None:
    assert "neither in .svg nor in .png" in typed("--steady", "1", "--plot", str(tmp_path / "a.pdf"), status=1)


def test_without_matplotlib_only_the_plot_is_missing(tmp_path: Path) -> None:
    """In an interpreter that cannot import it; and what draws nothing does not try to."""
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from decoupled.cli.main import main\n"
        "main(['plan', '--steady', '1', *sys.argv[1:]])"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    done = subprocess.run([*command, "--plot", str(tmp_path / "a.svg")], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'decoupled[plan]'" in done.stderr


def test_a_server_s_metrics_say_how_long_an_order_takes() -> None:
    text = "\n".join(
        [
            'decoupled_processing_seconds_bucket{le="0.1",workload="orders"} 90.0',
            'decoupled_processing_seconds_bucket{le="0.5",workload="orders"} 100.0',
            'decoupled_processing_seconds_bucket{le="+Inf",workload="orders"} 100.0',
            'decoupled_processing_seconds_count{workload="orders"} 100.0',
            'decoupled_processing_seconds_sum{workload="orders"} 8.0',
            'decoupled_processing_seconds_sum{workload="notes"} 99.0',
        ]
    )
    mean_ms, p99_ms = parse(text, "orders")
    assert mean_ms == pytest.approx(80)
    assert p99_ms == pytest.approx(460)
    with pytest.raises(ValueError, match="has not processed any message of 'readings'"):
        parse(text, "readings")


def test_numbers_are_said_as_people_say_them() -> None:
    assert [span(it) for it in (0.0001, 0.0123, 12.34, 720, 5_630, 7_200, 86_400 * 4, None, math.inf)] == [
        *("0.1 ms", "12 ms", "12.3 s", "12 min", "1 h 34 min", "2 h", "4.0 d", "never", "never"),
    ]
    assert [amount(it) for it in (0.1234, 1, 12_345.6, 2.5e9)] == ["0.123", "1", "12,346", "2.50 billion"]
    assert [money(it) for it in (3.456, 12_345.6)] == ["$3.46", "$12,346"]


def test_recorded_times_end_with_the_last() -> None:
    assert Recorded((0.0, 5.0)).span_s == 5.0
