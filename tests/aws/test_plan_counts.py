"""What `decoupled plan` has an order take of each service, beside what the functions ask of the benchmark's stub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import lambda_bench, lambda_events
from decoupled.plan.arrivals import Steady
from decoupled.plan.costs import an_order, usage_on_aws
from decoupled.plan.course import Run
from decoupled.plan.pace import Stack
from decoupled.plan.scenario import Scenario, Service, Workload

INVOCATIONS = 3
UNITS = {"SQS requests", "DynamoDB writes", "DynamoDB reads"}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with lambda_bench.stub(tmp_path_factory.mktemp("stub")) as url:
        yield url


def counted(name: str, endpoint: str, work: Path) -> dict[str, float]:
    """Of an order, or a GET."""
    event = lambda_events.write_events(work)[name]
    lambda_bench.read_counts(endpoint)
    lambda_bench.invoke(f"functions.{name}", lambda_bench.ROOT, event, endpoint, INVOCATIONS)
    orders = (INVOCATIONS + 1) * (lambda_bench.BATCH if name == "processor" else 1)
    return {what: count / orders for what, count in lambda_bench.read_counts(endpoint).items() if what in UNITS}


def test_an_order_takes_of_each_service_what_the_functions_ask(endpoint: str, tmp_path: Path) -> None:
    scenario = Scenario(Steady(1.0), Workload(entry_bytes=400, record_bytes=700, gets=1.0))
    found = [counted(name, endpoint, tmp_path) for name in lambda_bench.FUNCTIONS]
    together: dict[str, float] = {}
    for counts in found:
        together |= counts
    assert together == an_order(scenario)


def test_a_million_orders_in_full_batches_cost_what_the_benchmark_says() -> None:
    """Its dollars, for what the plan takes of each service: batches of ten, 512 MB, each order asked for once."""
    scenario = Scenario(Steady(2_000.0, 500.0, goes_on=False), Workload(Service(0.0)), concurrency=2, repeats=1)
    course = Run(scenario.arrivals, Stack(scenario)).go()
    usage = usage_on_aws(scenario, course)
    assert usage["api_requests"] == pytest.approx(2e6)
    assert usage["lambda_requests"] == pytest.approx(2e6 + 1e5, rel=0.02)
    idle = 2 * 0.2 * 2_592_000  # polls of a month, which the benchmark leaves out
    assert usage["sqs_requests"] - idle == pytest.approx(1e6 + 2e5, rel=0.05)
    assert usage["dynamodb_writes"] == pytest.approx(1e6)
