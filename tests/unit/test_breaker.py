"""The breaker, answer by answer, in time that a test moves."""

from __future__ import annotations

import pytest

from decoupled.core import limits
from decoupled.server.scheduling.breaker import (
    FIRST_WAIT_S,
    HOLD_AFTER,
    HOLD_GROUPS,
    LONGEST_WAIT_S,
    NO_EVIDENCE,
    SICK_AFTER,
    SICK_GROUPS,
    TRICKLE,
    TRICKLE_S,
    WELL,
    Answer,
)
from decoupled.server.scheduling.breakers import Breakers

DOWN = Answer("sick", "down")


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breakers(clock: Clock) -> Breakers:
    return Breakers({"orders": False, "pings": False, "calls": True}, clock)


def open_it(breakers: Breakers) -> None:
    for _ in range(SICK_AFTER):
        breakers.observe("orders", DOWN)


def probe(breakers: Breakers, clock: Clock) -> None:
    """Wait until a probe is due, and send it."""
    while breakers.allowance("orders") == 0:
        clock.now += 0.25
    assert breakers.allowance("orders") == 1
    breakers.probing("orders")


def test_a_run_of_sick_answers_stops_claims_and_no_shorter_run_does(breakers: Breakers) -> None:
    for _ in range(SICK_AFTER - 1):
        breakers.observe("orders", DOWN)
    assert breakers.allowance("orders") is None
    breakers.observe("orders", DOWN)
    assert breakers.allowance("orders") == 0
    assert not breakers.free("orders")


def test_a_good_answer_in_between_begins_the_run_anew(breakers: Breakers) -> None:
    almost = [DOWN] * (SICK_AFTER - 1)
    for answer in (*almost, WELL, *almost):
        breakers.observe("orders", answer)
    assert breakers.allowance("orders") is None


def test_one_workloads_breaker_is_its_own(breakers: Breakers) -> None:
    open_it(breakers)
    assert breakers.allowance("pings") is None
    assert not breakers.all_shut()


def test_one_probe_is_out_at_a_time_and_a_lost_one_is_replaced(breakers: Breakers, clock: Clock) -> None:
    open_it(breakers)
    clock.now += FIRST_WAIT_S
    assert breakers.allowance("orders") == 1
    breakers.probing("orders")
    assert breakers.allowance("orders") == 0
    clock.now += LONGEST_WAIT_S
    assert breakers.allowance("orders") == 1


def test_what_was_claimed_while_it_opened_is_no_probe(breakers: Breakers, clock: Clock) -> None:
    """Its answer comes too soon to count, and the first probe would have to wait until it is surely lost."""
    open_it(breakers)
    breakers.probing("orders")  # by a claim that was on the way
    clock.now += 0.1
    breakers.observe("orders", DOWN)
    clock.now += FIRST_WAIT_S
    assert breakers.allowance("orders") == 1


def test_sick_probes_are_sent_ever_more_seldom_up_to_a_limit(breakers: Breakers, clock: Clock) -> None:
    open_it(breakers)
    waits = []
    for _ in range(8):
        before = clock.now
        probe(breakers, clock)
        waits.append(clock.now - before)
        breakers.observe("orders", DOWN)
    assert waits == [1, 2, 4, 8, 16, LONGEST_WAIT_S, LONGEST_WAIT_S, LONGEST_WAIT_S]


def test_a_good_probe_opens_the_way_for_all(breakers: Breakers, clock: Clock) -> None:
    open_it(breakers)
    probe(breakers, clock)
    breakers.observe("orders", WELL)
    assert breakers.allowance("orders") is None
    assert breakers.states()["orders"] == {"state": "closed"}


def test_a_probe_that_fails_of_itself_is_no_evidence_and_another_one_goes_at_once(
    breakers: Breakers, clock: Clock
) -> None:
    open_it(breakers)
    probe(breakers, clock)
    breakers.observe("orders", NO_EVIDENCE)
    assert breakers.allowance("orders") == 1


def test_answers_of_what_was_in_flight_when_it_opened_do_not_lengthen_the_wait(
    breakers: Breakers, clock: Clock
) -> None:
    open_it(breakers)
    for _ in range(100):
        breakers.observe("orders", DOWN)
    clock.now += FIRST_WAIT_S
    assert breakers.allowance("orders") == 1


def test_a_backend_that_asks_for_time_gets_it_within_the_longest_wait(breakers: Breakers, clock: Clock) -> None:
    for _ in range(SICK_AFTER):
        breakers.observe("orders", Answer("sick", "later", 7))
    clock.now += 6.9
    assert breakers.allowance("orders") == 0
    clock.now += 0.1
    assert breakers.allowance("orders") == 1
    breakers.observe("orders", Answer("sick", "much later", 10_000))
    clock.now += LONGEST_WAIT_S
    assert breakers.allowance("orders") == 1


def test_the_state_tells_why_since_when_and_when_it_probes(breakers: Breakers, clock: Clock) -> None:
    open_it(breakers)
    clock.now += 0.4
    assert breakers.states()["orders"] == {"state": "open", "why": "down", "open_for_s": 0.4, "probe_in_s": 0.6}


def test_a_workload_that_is_not_served_waits(breakers: Breakers) -> None:
    assert breakers.allowance("unknown") == 0
    breakers.observe("unknown", DOWN)


# --- groups -------------------------------------------------------------------------


def failing(number: int, alike: str = "TypeError") -> Answer:
    return Answer("failing", f"{alike}: {number}", message_id=f"m-{number}", alike=alike)


def test_a_sick_group_is_not_asked_and_the_others_are(breakers: Breakers) -> None:
    for _ in range(SICK_AFTER):
        breakers.observe("calls", DOWN, "hangs")
    assert (breakers.allowance("calls"), breakers.share("calls", "hangs")) == (None, 0)
    assert breakers.share("calls", "well") is None


def test_a_sick_group_is_probed_and_its_own_answer_opens_its_way(breakers: Breakers, clock: Clock) -> None:
    for _ in range(SICK_AFTER):
        breakers.observe("calls", DOWN, "hangs")
    breakers.observe("calls", WELL, "other")
    clock.now += FIRST_WAIT_S
    assert breakers.share("calls", "hangs") == 1
    breakers.probing("calls", "hangs")
    assert breakers.share("calls", "hangs") == 0
    breakers.observe("calls", WELL, "hangs")
    assert breakers.share("calls", "hangs") is None
    assert breakers.states()["calls"] == {"state": "closed"}


def test_many_sick_groups_and_none_that_is_well_open_the_workload_for_a_trickle_of_others(
    breakers: Breakers, clock: Clock
) -> None:
    for number in range(SICK_GROUPS):
        breakers.observe("calls", DOWN, f"host-{number}")
    assert breakers.states()["calls"]["state"] == "open"
    assert (breakers.allowance("calls"), breakers.share("calls", "unknown")) == (TRICKLE, 1)
    breakers.probing("calls", "unknown")
    assert breakers.allowance("calls") == 0
    breakers.observe("calls", DOWN, "unknown")
    clock.now += TRICKLE_S
    assert (breakers.allowance("calls"), breakers.share("calls", "unknown")) == (TRICKLE, 1)
    breakers.observe("calls", WELL, "unknown")
    assert breakers.allowance("calls") is None


def test_sick_groups_among_well_ones_leave_the_workload_alone(breakers: Breakers) -> None:
    for number in range(10 * SICK_GROUPS):
        breakers.observe("calls", DOWN, f"host-{number}")
        breakers.observe("calls", WELL, "well")
    assert breakers.allowance("calls") is None


def test_the_sick_groups_that_a_server_knows_are_bounded(breakers: Breakers) -> None:
    for number in range(limits.MAX_SICK_GROUPS + 10):
        breakers.observe("calls", DOWN, f"host-{number}")
        breakers.observe("calls", WELL, "well")
    for _ in range(SICK_AFTER):
        breakers.observe("calls", DOWN, "last")
    assert breakers.share("calls", "last") == 0


def test_of_many_sick_groups_a_few_are_shown_the_longest_sick_first(breakers: Breakers, clock: Clock) -> None:
    for number in range(30):
        for _ in range(SICK_AFTER):
            breakers.observe("calls", DOWN, f"host-{number}")
        breakers.observe("calls", WELL, "well")
        clock.now += 1
    state = breakers.states()["calls"]
    assert (state["state"], state["sick_groups"]) == ("closed", 30)
    assert [it["group"] for it in state["groups"]] == [f"host-{number}" for number in range(10)]


# --- a run of the same failure -------------------------------------------------------


def test_messages_that_fail_all_alike_hold_the_workload(breakers: Breakers, clock: Clock) -> None:
    for number in range(HOLD_AFTER):
        assert breakers.allowance("orders") is None
        breakers.observe("orders", failing(number))
    assert breakers.allowance("orders") == 0
    assert list(breakers.held()) == [f"orders is held, since its messages fail all alike: TypeError: {HOLD_AFTER - 1}"]
    assert breakers.blameless("orders", "", "TypeError")
    assert not breakers.blameless("orders", "", "KeyError")
    probe(breakers, clock)
    breakers.observe("orders", WELL)
    assert breakers.allowance("orders") is None
    assert not breakers.blameless("orders", "", "TypeError")


def test_one_that_fails_otherwise_or_not_at_all_begins_the_run_anew(breakers: Breakers) -> None:
    almost = [failing(number) for number in range(HOLD_AFTER - 1)]
    for answer in (*almost, WELL, *almost, failing(0, "KeyError"), *almost):
        breakers.observe("orders", answer)
    assert breakers.allowance("orders") is None


def test_one_message_that_fails_again_and_again_holds_nothing(breakers: Breakers) -> None:
    for _ in range(10 * HOLD_AFTER):
        breakers.observe("orders", failing(7))
    assert breakers.allowance("orders") is None


def test_a_probe_that_fails_otherwise_is_to_blame_and_another_one_goes_at_once(
    breakers: Breakers, clock: Clock
) -> None:
    for number in range(HOLD_AFTER):
        breakers.observe("orders", failing(number))
    probe(breakers, clock)
    assert not breakers.blameless("orders", "", "KeyError")
    breakers.observe("orders", failing(99, "KeyError"))
    assert breakers.allowance("orders") == 1


def test_probes_that_fail_like_the_others_are_sent_ever_more_seldom(breakers: Breakers, clock: Clock) -> None:
    for number in range(HOLD_AFTER):
        breakers.observe("orders", failing(number))
    waits = []
    for number in range(7):
        before = clock.now
        probe(breakers, clock)
        waits.append(clock.now - before)
        breakers.observe("orders", failing(number) if number % 2 else DOWN)
    assert waits == [1, 2, 4, 8, 16, LONGEST_WAIT_S, LONGEST_WAIT_S]


def test_a_group_that_joins_a_hold_with_a_message_that_failed_before_waits_like_the_others(
    breakers: Breakers, clock: Clock
) -> None:
    for number in range(HOLD_AFTER):
        breakers.observe("orders", failing(number), f"caller-{number % HOLD_GROUPS}")
    breakers.observe("orders", failing(0), "late")  # known to have failed
    breakers.observe("orders", WELL, "another")
    waits = []
    for _ in range(3):
        before = clock.now
        while not breakers.share("orders", "late"):
            clock.now += 0.25
        breakers.probing("orders", "late")
        waits.append(clock.now - before)
        assert breakers.blameless("orders", "late", "TypeError")
        breakers.observe("orders", failing(0), "late")
    assert waits == [1, 2, 4]


def test_of_what_comes_while_a_workload_is_held_one_a_second_is_tried(breakers: Breakers, clock: Clock) -> None:
    assert not breakers.try_fresh("orders")
    for number in range(HOLD_AFTER):
        breakers.observe("orders", failing(number))
    assert [breakers.try_fresh("orders") for _ in range(3)] == [True, False, False]
    clock.now += TRICKLE_S
    assert breakers.try_fresh("orders")
    open_it(breakers)
    breakers.observe("orders", WELL)
    open_it(breakers)
    clock.now += TRICKLE_S
    assert not breakers.try_fresh("orders")  # nobody asks a sick backend for the sake of a new message


def test_one_callers_run_of_failures_holds_the_caller_alone(breakers: Breakers) -> None:
    for number in range(10 * HOLD_AFTER):
        breakers.observe("orders", failing(number), "clumsy")
    assert (breakers.allowance("orders"), breakers.share("orders", "clumsy")) == (None, 0)
    assert breakers.share("orders", "careful") is None


def test_a_bug_that_all_groups_meet_holds_the_workload(breakers: Breakers) -> None:
    for number in range(HOLD_AFTER):
        breakers.observe("orders", failing(number), f"caller-{number % HOLD_GROUPS}")
    assert breakers.states()["orders"]["state"] == "held"
    assert breakers.blameless("orders", "another", "TypeError")
    assert breakers.share("orders", "another") == 1
    breakers.observe("orders", failing(99), "another")
    assert breakers.share("orders", "another") == 0
