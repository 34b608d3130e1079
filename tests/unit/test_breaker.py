"""The breaker, answer by answer, in time that a test moves."""

from __future__ import annotations

import pytest

from decoupled.server.scheduling.breaker import FIRST_WAIT_S, LONGEST_WAIT_S, SICK_AFTER, Answer, Breakers


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breakers(clock: Clock) -> Breakers:
    return Breakers(["orders", "pings"], clock)


def open_it(breakers: Breakers) -> None:
    for _ in range(SICK_AFTER):
        breakers.observe("orders", "sick", "down")


def probe(breakers: Breakers, clock: Clock) -> None:
    """Wait until a probe is due, and send it."""
    while breakers.allowance("orders") == 0:
        clock.now += 0.25
    assert breakers.allowance("orders") == 1
    breakers.probing("orders")


def test_a_run_of_sick_answers_stops_claims_and_no_shorter_run_does(breakers: Breakers) -> None:
    for _ in range(SICK_AFTER - 1):
        breakers.observe("orders", "sick", "down")
    assert breakers.allowance("orders") is None
    breakers.observe("orders", "sick", "down")
    assert breakers.allowance("orders") == 0
    assert breakers.open()


def test_a_good_answer_in_between_begins_the_run_anew(breakers: Breakers) -> None:
    almost: list[Answer] = ["sick"] * (SICK_AFTER - 1)
    for answer in (*almost, "well", *almost):
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


def test_sick_probes_are_sent_ever_more_seldom_up_to_a_limit(breakers: Breakers, clock: Clock) -> None:
    open_it(breakers)
    waits = []
    for _ in range(8):
        before = clock.now
        probe(breakers, clock)
        waits.append(clock.now - before)
        breakers.observe("orders", "sick")
    assert waits == [1, 2, 4, 8, 16, LONGEST_WAIT_S, LONGEST_WAIT_S, LONGEST_WAIT_S]


def test_a_good_probe_opens_the_way_for_all(breakers: Breakers, clock: Clock) -> None:
    open_it(breakers)
    probe(breakers, clock)
    breakers.observe("orders", "well")
    assert breakers.allowance("orders") is None
    assert breakers.states()["orders"] == {"state": "closed"}


def test_a_probe_that_fails_of_itself_is_no_evidence_and_another_one_goes_at_once(
    breakers: Breakers, clock: Clock
) -> None:
    open_it(breakers)
    probe(breakers, clock)
    breakers.observe("orders", "no evidence")
    assert breakers.allowance("orders") == 1


def test_answers_of_what_was_in_flight_when_it_opened_do_not_lengthen_the_wait(
    breakers: Breakers, clock: Clock
) -> None:
    open_it(breakers)
    for _ in range(100):
        breakers.observe("orders", "sick")
    clock.now += FIRST_WAIT_S
    assert breakers.allowance("orders") == 1


def test_a_backend_that_asks_for_time_gets_it_within_the_longest_wait(breakers: Breakers, clock: Clock) -> None:
    for _ in range(SICK_AFTER):
        breakers.observe("orders", "sick", "later", retry_after_s=7)
    clock.now += 6.9
    assert breakers.allowance("orders") == 0
    clock.now += 0.1
    assert breakers.allowance("orders") == 1
    breakers.observe("orders", "sick", "much later", retry_after_s=10_000)
    clock.now += LONGEST_WAIT_S
    assert breakers.allowance("orders") == 1


def test_the_state_tells_why_since_when_and_when_it_probes(breakers: Breakers, clock: Clock) -> None:
    open_it(breakers)
    clock.now += 0.4
    assert breakers.states()["orders"] == {"state": "open", "why": "down", "open_for_s": 0.4, "probe_in_s": 0.6}


def test_a_workload_that_is_not_served_waits(breakers: Breakers) -> None:
    assert breakers.allowance("unknown") == 0
    breakers.observe("unknown", "sick")
