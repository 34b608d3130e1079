"""What `decoupled plan` takes: the stack as the template has it, and an answer or a refusal to whatever is typed."""

from __future__ import annotations

import http.server
import json
import math
import threading
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from benchmarks.lambda_settings import ours
from decoupled.cli.main import main
from decoupled.cli.plan import plan
from decoupled.plan.answer import answer
from decoupled.plan.arrivals import Steady
from decoupled.plan.costs import ACCESS_LOG_BYTES, usage_on_aws
from decoupled.plan.course import Run
from decoupled.plan.pace import Stack
from decoupled.plan.prices import price_list
from decoupled.plan.quotas import RETENTION_S
from decoupled.plan.scenario import OnAws, Outage, Scenario, Service, Workload
from tests.support import template


def typed(*arguments: str, status: int = 0) -> str:
    done = CliRunner().invoke(main, ["plan", *arguments])
    assert done.exit_code == status, done.output
    return done.output


# --- the stack that is planned is the one that is deployed


def test_a_stack_is_planned_as_the_template_has_it() -> None:
    defaults, usual = template.defaults(), OnAws()
    assert (usual.throttle_rate, usual.throttle_burst) == (defaults["ThrottleRate"], defaults["ThrottleBurst"])
    assert (usual.batch, usual.window_s) == (defaults["BatchSize"], defaults["BatchWindowSeconds"])
    assert (usual.table_writes, usual.pollers) == (defaults["TableMaxWrites"], defaults["MinimumPollers"])
    assert {usual.memory_mb} == {defaults[f"{it}Memory"] for it in ("Receiver", "Processor", "Status")}
    assert template.properties("Queue")["MessageRetentionPeriod"] == RETENTION_S
    given = {option.name: option.default for option in plan.params}
    names = {"memory": "memory_mb", "window": "window_s"}
    for name in ("throttle_rate", "throttle_burst", "batch", "pollers", "memory", "table_writes"):
        assert given[name] == getattr(usual, names.get(name, name)), name


def test_alarms_and_dashboards_are_those_of_a_stack_with_one_queue_of_its_own() -> None:
    """As docs/aws.md counts them: 13, and two of the workload's own queue; those of a FIFO queue are not there."""
    resources = template.load()["Resources"].values()
    alarms = [it.get("Condition") for it in resources if it["Type"] == "AWS::CloudWatch::Alarm"]
    assert alarms.count(None) + alarms.count("WithOwnQueues") == OnAws().alarms
    assert sum(it["Type"] == "AWS::CloudWatch::Dashboard" for it in resources) == OnAws().dashboards


@pytest.mark.parametrize(
    ("option", "parameter"),
    [("batch", "BatchSize"), ("memory", "ProcessorMemory"), ("pollers", "MinimumPollers")],
)
def test_no_more_can_be_planned_than_can_be_deployed(option: str, parameter: str) -> None:
    (found,) = [it.type for it in plan.params if it.name == option]
    assert isinstance(found, click.IntRange)
    allowed = template.load()["Parameters"][parameter]
    assert (found.min, found.max) == (allowed["MinValue"], allowed["MaxValue"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--window", "61s"), "--window is 60 s at most"),
        (("--aws-concurrency", "1001"), "--aws-concurrency is 1,000 at most"),
        (("--pollers", "1"), "--pollers are 2 at least"),
    ],
)
def test_what_the_template_refuses_is_refused(arguments: tuple[str, ...], said: str) -> None:
    assert said in typed("--steady", "1", *arguments, status=2)


def test_provisioned_pollers_have_ten_processors_each_and_no_maximum_concurrency() -> None:
    assert Scenario(Steady(1.0), concurrency=2, aws=OnAws(pollers=3)).stack_concurrency == 30
    assert Scenario(Steady(1.0), concurrency=2).stack_concurrency == 2


def test_a_line_of_access_log_is_as_long_as_the_benchmark_counts() -> None:
    assert pytest.approx(ours()["access_bytes"] / 2, rel=0.1) == ACCESS_LOG_BYTES


def test_x_ray_traces_each_function_by_itself() -> None:
    """As docs/aws.md says, and LAMBDA.md counts: at one order a second, all three of its invocations."""
    scenario = Scenario(Steady(1.0), concurrency=10, aws=OnAws(x_ray=True))
    course = Run(scenario.arrivals, Stack(scenario)).go()
    assert usage_on_aws(scenario, course)["traces"] == pytest.approx(3 * 2_592_000, rel=0.01)
    spike = Scenario(Steady(10_000.0, 100.0, goes_on=False), aws=OnAws(x_ray=True, table_writes=20_000))
    course = Run(spike.arrivals, Stack(spike)).go()
    assert usage_on_aws(spike, course)["traces"] < 0.1 * 3e6  # a month has more seconds than that took


def test_orders_wait_for_others_of_their_batch() -> None:
    told = json.loads(typed("--steady", "1", "--service-ms", "1", "--window", "10s", "--on", "aws", "--json"))["aws"]
    assert 4 < told["waiting_p50_s"] < 6
    assert 9 < told["waiting_p99_s"] < 11
    assert 4 < told["peak_depth"] < 6  # Little's law


def test_orders_of_which_some_take_long_keep_others_waiting_for_longer() -> None:
    """One worker: Pollaczek and Khinchine's formula, by hand. It waits 6 ms after each order."""
    waits = []
    for p99_s in (None, 0.6):
        service = Service(0.1, p99_s)
        scenario = Scenario(Steady(5.0), Workload(service), concurrency=1)
        took = [it.took_s for it in answer(scenario, "machine", price_list()).followed]
        busy = 5.0 * 0.106
        waits.append(busy / (1 - busy) * 0.106 * (1 + service.variability) / 2)
        assert sum(took) / len(took) == pytest.approx(0.106 + waits[-1], rel=0.1)
    assert waits[1] > 2 * waits[0]


# --- whatever is typed


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e300", "0", "-1", "one"])
@pytest.mark.parametrize("option", ["--steady", "--day", "--spike", "--service-ms"])
def test_what_is_no_number_to_plan_with_is_refused_by_its_option(option: str, text: str) -> None:
    assert f"'{option}'" in typed("--steady", "1", option, text, status=2)


def test_more_than_can_be_looked_at_is_refused_and_not_made_cheap() -> None:
    for arguments in (("--for", "3650d"), ("--outage", "365d")):
        assert "more than 200 days; plan a part of them" in typed("--steady", "1", *arguments, status=1)


def test_lines_whose_time_there_never_is_are_passed_by(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_bytes(
        b"2026-11-30T01:00:00Z\n2026-13-30T01:00:00Z\n0000-01-01T00:00:00Z\n31/Nov/2026:01:02:03 +0000\n\xff\xfe\n"
        b"2026-11-30T01:00:09Z\n"
    )
    assert json.loads(typed("--times", str(file), "--json"))["aws"]["orders"] == 2


def test_an_outage_of_weeks_is_planned_with_few_orders_and_ends() -> None:
    """Each is tried some 2,500 times: 2,000 orders took minutes."""
    scenario = Scenario(Steady(1.0), outages=(Outage(0, 20 * 86_400.0),))
    found = answer(scenario, "aws", price_list())
    assert len(found.followed) < 200
    assert math.isfinite(found.waiting_max_s)
    assert [it.then for it in found.met] == ["lost"]


def test_what_never_ends_is_told_without_a_number() -> None:
    text = typed("--steady", "100", "--service-ms", "200", "--on", "aws")
    assert "never" in text
    assert "inf" not in text.replace("in flight", "")


def test_a_port_that_speaks_no_http_is_told_of() -> None:
    class Garbage(http.server.BaseHTTPRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(b"SSH-2.0-OpenSSH\r\n")

    with http.server.HTTPServer(("127.0.0.1", 0), Garbage) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert f"{url} does not answer as a server does" in typed("--steady", "1", "--measured", url, status=1)
