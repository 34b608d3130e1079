"""What an account has, and what a stack asks of it."""

from __future__ import annotations

from typing import Any

import pytest

from decoupled.cli.bulkheads import defaults, pace_parameters, reserved
from decoupled.core.headroom import Account, chosen, exceeded, processors
from tests.support import template

DEFAULTS = defaults(template.PATH.read_text())
NEW_ACCOUNT = Account(10, 10, 10_000.0, 5_000.0, 40_000, 40_000)
USUAL = Account(1_000, 1_000, 10_000.0, 5_000.0, 40_000, 40_000)


def values(**changes: str | int) -> dict[str, str]:
    return {**DEFAULTS, "OwnQueues": "orders", **{name: str(value) for name, value in changes.items()}}


def warnings(account: Account, mine: int = 0, **changes: str | int) -> list[str]:
    return list(exceeded(values(**changes), account, mine))


@pytest.mark.parametrize(
    ("changes", "at_once"),
    [
        ({}, 4),
        ({"OwnQueues": "0"}, 2),
        ({"OwnQueues": "0", "MaximumConcurrency": 50}, 50),
        ({"OwnQueues": "a,b,c", "MaximumConcurrency": 20}, 62),
        ({"OwnQueues": "a,b", "OrderedWorkloads": "steps", "OrderedConcurrency": 7}, 13),
        ({"OwnQueues": "a,b", "MinimumPollers": 2, "MaximumPollers": 5}, 102),
    ],
)
def test_processors_are_those_of_all_mappings(changes: dict[str, str | int], at_once: int) -> None:
    assert processors(values(**changes)) == at_once


@pytest.mark.parametrize(("own", "unreserved"), [("a", 1_000), ("a", 10), ("a,b", 10), ("a", 20), ("a,b,c", 60)])
def test_what_is_chosen_for_a_new_stack_leaves_half_to_the_front_where_that_can_be(own: str, unreserved: int) -> None:
    pace = chosen(values(OwnQueues=own), unreserved)
    assert 2 <= pace <= 10
    at_once = processors(values(OwnQueues=own, MaximumConcurrency=pace))
    assert at_once <= unreserved // 2 or pace == 2
    assert pace == 10 or processors(values(OwnQueues=own, MaximumConcurrency=pace + 1)) > unreserved // 2


def test_only_a_new_stack_is_chosen_for_and_only_what_nobody_gave() -> None:
    given = {"OrderedConcurrency": "3"}
    assert pace_parameters(values(OrderedWorkloads="a"), given, True, USUAL) == {"MaximumConcurrency": "10"}
    both = {"MaximumConcurrency": "10", "OrderedConcurrency": "10"}
    assert pace_parameters(values(OrderedWorkloads="a"), {}, True, USUAL) == both
    assert pace_parameters(values(), {}, False, USUAL) == {}
    assert pace_parameters(values(), {}, True, Account()) == {}  # nobody may ask


def test_what_is_reserved_is_the_sum_as_it_will_be() -> None:
    added = pace_parameters(values(ReserveConcurrency="yes"), {}, True, USUAL)
    assert added == {"MaximumConcurrency": "10", "ReservedProcessors": "12"}
    kept = values(ReserveConcurrency="yes", MaximumConcurrency=30, ReservedProcessors=12)
    assert pace_parameters(kept, {}, False, USUAL) == {"ReservedProcessors": "32"}


def test_a_new_account_bears_three_workloads_and_not_four() -> None:
    assert warnings(NEW_ACCOUNT) == []
    (of_three,) = warnings(NEW_ACCOUNT, OwnQueues="a,b,c")
    assert "8 of the 10 executions" in of_three
    assert "leaves 2 to the front" in of_three
    (of_four,) = warnings(NEW_ACCOUNT, OwnQueues="a,b,c,d")
    assert "leaves 0 to the front" in of_four
    assert "--service-code lambda --quota-code L-B99A9384" in of_four


def test_lambda_refuses_a_reservation_that_leaves_too_little() -> None:
    (refused,) = warnings(NEW_ACCOUNT, ReceiverReserved=1)
    assert "refuses to leave fewer than 10 unreserved" in refused
    reserving: dict[str, Any] = {"ReserveConcurrency": "yes", "MaximumConcurrency": 898}
    assert warnings(USUAL, **reserving) == []
    (beyond,) = warnings(USUAL, ReceiverReserved=1, **reserving)
    assert "ask for 901 of 1000 executions" in beyond
    left = Account(1_000, 100)  # of which the stack itself took the others
    assert warnings(left, reserved({"ReserveConcurrency": "yes", "ReservedProcessors": "900"}), **reserving) == []


def test_each_throttle_and_ceiling_beyond_a_quota_is_named_with_it() -> None:
    small_region = Account(1_000, 1_000, 2_500.0, 1_250.0, 3_000, 3_000)
    told = warnings(small_region, ThrottleRate=2_501, ThrottleBurst=1_251, TableMaxWrites=3_001, TableMaxReads=3_001)
    assert [line.partition(" ")[0] for line in told] == [
        "ThrottleRate=2501",
        "ThrottleBurst=1251",
        "TableMaxWrites=3001",
        "TableMaxReads=3001",
    ]
    assert "2500 of API Gateway's requests a second" in told[0]
    at_the_quota = {"ThrottleRate": 2_500, "ThrottleBurst": 1_250, "TableMaxWrites": 3_000, "TableMaxReads": 3_000}
    assert warnings(small_region, **at_the_quota) == []
    assert warnings(Account(), ThrottleRate=1_000_000) == []
