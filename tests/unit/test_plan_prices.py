"""The list of prices: whole, dated, each with its source, and the only one."""

from __future__ import annotations

import re
from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest

from decoupled.plan.prices import price_list

ROOT = Path(__file__).parents[2]
PRICES = price_list().prices


def test_the_list_says_of_when_and_of_which_region_it_is() -> None:
    assert date.fromisoformat(price_list().as_of) <= date(2100, 1, 1)
    assert price_list().region == "us-east-1"


@pytest.mark.parametrize("name", PRICES)
def test_a_price_has_tiers_without_a_gap_and_says_where_it_is_from(name: str) -> None:
    price = PRICES[name]
    assert all(first.up_to < second.up_to for first, second in pairwise(price.tiers))
    assert all(first.dollars > second.dollars > 0 for first, second in pairwise(price.tiers))
    assert price.tiers[-1].up_to == float("inf")
    assert price.source.startswith("https://aws.amazon.com/")
    assert price.read_at.startswith("https://")


def test_each_tier_has_its_own_price() -> None:
    """AWS's example of Lambda's logs: 60 TB are $12,500, where they were $30,000."""
    logs = PRICES["logs"]
    assert logs.dollars(1) == pytest.approx(0.5)
    assert logs.dollars(60_000) == pytest.approx(12_500)


def test_what_is_free_is_free_only_where_asked_for() -> None:
    requests = PRICES["sqs_requests"]
    assert requests.dollars(1_500_000) == pytest.approx(0.6)
    assert requests.dollars(1_500_000, free_tier=True) == pytest.approx(0.2)
    assert requests.dollars(1_000, free_tier=True) == 0


def test_the_benchmark_has_no_prices_of_its_own() -> None:
    source = "".join(file.read_text() for file in sorted((ROOT / "benchmarks").glob("lambda_*.py")))
    known = {f"{price.first:.10f}".rstrip("0") for price in PRICES.values() if price.first < 0.01}
    assert known
    assert "price_list()" in source
    assert not [number for number in known if re.search(rf"\b{re.escape(number)}\b", source)]
