"""What `make bench-lambda` makes of its measurements: dollars from counts, and verdicts that can fail. And what the
documents say that an order costs is what the run that is kept says."""

from __future__ import annotations

import re

import pytest

from benchmarks import lambda_settings
from benchmarks.lambda_costs import BATCHES, Invoked, Side, bought, dollars, processing_ms, recorded
from benchmarks.lambda_report import Measured, scenarios, verdict
from tests.support import template
from tests.support.server import ROOT


def side(writes: int = 1, start_ms: float = 100.0, **others: int) -> Side:
    """Of functions that need no CPU, log nothing, and wait for one write."""
    counts = {"DynamoDB writes": writes, "PutItem": 1}
    settings = {"at_once": 10, "lambda_bytes": 0, "access_bytes": 0} | others
    return Side(
        receiver=Invoked(0.0, 0.0, {"SQS requests": 1}),
        status=Invoked(0.0, 0.0, {"DynamoDB reads": 1}),
        processor={b: Invoked(0.0, 0.0, {name: count * b for name, count in counts.items()}) for b in BATCHES},
        start_ms=dict.fromkeys(("receiver", "processor", "status"), start_ms),
        memory_mb=dict.fromkeys(("receiver", "processor", "status"), 1024),
        fair=False,
        **settings,
    )


@pytest.mark.parametrize("batch", BATCHES)
def test_what_waits_for_nothing_else_costs_what_both_must_buy_and_its_waits(batch: int) -> None:
    gb_seconds = 0.010 + 0.005 + 0.005 / batch  # a gigabyte; SQS, a read, and a write for the whole batch
    assert sum(dollars(side(), batch).values()) == pytest.approx(bought(batch) + gb_seconds * 13.3334)


def test_calls_that_wait_for_each_other_take_longer() -> None:
    assert processing_ms(side(at_once=1), 10) == 10 * processing_ms(side(at_once=10), 10)


def test_a_thousand_bytes_of_log_of_each_order_cost_half_a_dollar_a_million() -> None:
    assert dollars(side(access_bytes=1000), 1)["logs"] == pytest.approx(0.5)
    assert dollars(side(lambda_bytes=1000), 1)["logs"] == pytest.approx(1.5)  # of three functions
    assert dollars(side(lambda_bytes=1000), 10)["logs"] == pytest.approx(1.05)


def test_x_ray_records_all_that_is_rare_and_a_twentieth_of_what_is_not() -> None:
    assert (recorded(0.01), recorded(1.0)) == (1.0, 1.0)
    assert recorded(10_000) == pytest.approx(0.05, rel=0.01)
    assert dollars(side(), 1, traced=1.0)["X-Ray"] == pytest.approx(15.0)


def test_who_writes_more_or_starts_slower_than_is_allowed_fails() -> None:
    usual = side(writes=3, start_ms=200.0, at_once=1, access_bytes=400, lambda_bytes=500)
    assert verdict(Measured(side(), usual, {})) == 0
    assert verdict(Measured(side(writes=2), usual, {})) >= len(BATCHES)
    assert verdict(Measured(side(start_ms=150.0), usual, {})) == 3  # receiver, processor, all three
    assert verdict(Measured(side(access_bytes=9000), usual, {})) == 2 * len(BATCHES)  # in all, and beyond


def test_each_size_of_batches_has_its_row() -> None:
    rows = scenarios(Measured(side(), side(writes=3), {}))
    assert next(row for row in rows if "batches of" in row) == "few: batches of 1"
    assert len(rows) == len(BATCHES) + 3


def test_the_access_log_says_what_it_is_for_and_no_more_than_the_usual_one_twice() -> None:
    ours, usual = lambda_settings.ours(), lambda_settings.usual()
    assert ours["memory_mb"] == usual["memory_mb"]
    assert ours["lambda_bytes"] == 0 < usual["lambda_bytes"]
    assert ours["access_bytes"] <= 600
    assert "$context.requestId" in str(template.properties("Stage"))


def test_a_format_that_logs_more_costs_more() -> None:
    short = lambda_settings.access_bytes("$context.requestId")
    assert lambda_settings.access_bytes("$context.requestId $context.error.message") == short + 2 * len(" -")


def test_what_the_documents_say_that_orders_cost_was_measured() -> None:
    kept = (ROOT / "benchmarks/LAMBDA.md").read_text()
    of_a_million = kept[kept.index("$ a million orders, by rate") :]
    said = (ROOT / "docs/aws.md").read_text().partition("## What it costs")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| \$([0-9.]+) \| \$([0-9.]+) \|$", said, re.MULTILINE)
    assert len(rows) >= 4
    for what, ours, usual in rows:
        assert re.search(rf"^{re.escape(what)} +{ours} +{usual} ", of_a_million, re.MULTILINE), what
