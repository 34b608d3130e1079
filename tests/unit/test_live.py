"""What the page says of a look: colours by their rules, rates and latencies from what was counted in between, and no
look more often than it may cost."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoupled.core import limits
from decoupled.core.metrics import METRICS, Numbers
from decoupled.core.overview import TABLE_REFUSES, Look, Overview
from decoupled.dashboard.boxes import RULES, duration
from decoupled.dashboard.live import live
from decoupled.dashboard.looks import STALE_S, Looks
from decoupled.dashboard.shapes import Live

WELL: dict[str, Any] = {"status": "ok", "detail": None, "workloads": ["orders"], "fronts": 2, "workers": 2}
CLOSED: dict[str, Any] = {"orders": {"state": "closed"}}
OPEN = {"orders": {"state": "open", "why": "payments.example does not answer", "open_for_s": 9.0, "probe_in_s": 1.0}}
REFUSED = {"orders": {**OPEN["orders"], "why": TABLE_REFUSES}}
GROUP = {"group": "a", "state": "held", "why": "ValueError", "open_for_s": 1.0, "probe_in_s": 2.0}
GROUPS = {"orders": {"state": "closed", "sick_groups": 3, "groups": [GROUP]}}


def look(
    health: dict[str, Any] | None = WELL,
    numbers: Numbers | None = None,
    dead_lately: int | None = 0,
    engine: Literal["sqlite", "aws"] = "sqlite",
    **more: Any,
) -> Look:
    at = {"taken_at": 1_000, "queued": 0, "in_flight": 0, "delayed": 0, "dead": 0, "processed": 0, "rejected": 0}
    running = {"server": "http://127.0.0.1:8080", "breakers": CLOSED}
    overview = Overview(**{**at, **running, **more})
    return Look(
        system="here",
        engine=engine,
        overview=overview,
        health=health,
        numbers=numbers,
        dead_lately=dead_lately,
        alarms=[("queue", why) for why in overview.alarms or ()],
    )


def shown(seen: Look, *, grows: bool = False) -> Live:
    return live(seen, None, None, grows, ["orders"])


def colours(seen: Look, *, grows: bool = False) -> dict[str, str]:
    """Of the boxes that are not well."""
    return {name: box.colour for name, box in shown(seen, grows=grows).boxes.items() if box.colour != "ok"}


@pytest.mark.parametrize(
    ("seen", "grows", "expected"),
    [
        (look(), False, {}),
        (look(), True, {}),
        (look(oldest_age_s=60.0), False, {}),
        (look(oldest_age_s=61.0), False, {"queue": "warn"}),
        (look(oldest_age_s=301.0), False, {"queue": "bad"}),
        (look({**WELL, "workers": 0}), False, {"processor": "bad"}),
        (look({**WELL, "workers": 0}), True, {"processor": "bad", "queue": "bad"}),
        (look(breakers=OPEN), False, {"processor": "bad"}),
        (look(breakers=GROUPS), False, {"processor": "warn"}),
        (look(breakers=REFUSED), False, {"processor": "bad", "table": "bad"}),
        (look({**WELL, "status": "degraded", "detail": "a front is missing"}), False, {}),
        (look({**WELL, "status": "unavailable", "detail": "the disk is full"}), False, {"front": "bad"}),
        (look(None, breakers=None), False, {"front": "bad", "processor": "unknown", "table": "unknown"}),
        (
            look(None, server=None, breakers=None),
            False,
            {"clients": "unknown", "front": "bad", "processor": "bad", "table": "unknown"},
        ),
        (look(limited={"callers": 2, "worst": []}), False, {"clients": "warn"}),
        (look(dead=9), False, {}),
        (look(dead=9, dead_lately=1), False, {"dead": "warn"}),
        (look(None, dead_lately=None, engine="aws", server=None, breakers=None, alarms=[]), False, {}),
        (
            look(None, dead_lately=None, engine="aws", server=None, breakers=None, alarms=["It is old."], dead=1),
            False,
            {"queue": "bad", "dead": "warn"},
        ),
    ],
)
def test_a_part_has_the_colour_of_the_first_rule_that_holds(seen: Look, grows: bool, expected: dict[str, str]) -> None:
    assert colours(seen, grows=grows) == expected
    assert shown(seen, grows=grows).boxes.keys() == RULES.keys()
    assert all(box.why for box in shown(seen, grows=grows).boxes.values() if box.colour != "ok")


@pytest.mark.parametrize(
    ("seen", "status", "detail"),
    [
        (look(), "ok", None),
        (look({**WELL, "status": "degraded", "detail": "x"}), "degraded", "x"),
        (look(None), "unavailable", "the server does not answer"),
        (look(None, server=None), "not running", None),
        (look(None, engine="aws", server=None, alarms=["a", "b"]), "degraded", "a; b"),
    ],
)
def test_it_says_whether_messages_are_accepted(seen: Look, status: str, detail: str | None) -> None:
    assert (shown(seen).status, shown(seen).detail) == (status, detail)


def test_workloads_are_those_that_are_served_and_those_of_which_something_waits() -> None:
    told = shown(look(breakers=GROUPS, queued_by_workload={"orders": 4, "gone": 7})).workloads
    assert [(it.name, it.unfinished, it.form, it.sick_groups) for it in told] == [
        ("orders", 4, True, 3),
        ("gone", 7, False, 0),
    ]
    assert [(group.group, group.state, group.probe_in_s) for group in told[0].groups] == [("a", "held", 2.0)]


def test_a_front_whose_writer_hangs_says_little_and_that_is_shown() -> None:
    told = shown(look({"status": "unavailable", "detail": "the writer does not answer"}, breakers=None))
    assert (told.status, told.workers, told.boxes["front"].why) == ("unavailable", None, "the writer does not answer")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (200_000, "2 days")]
)
def test_times_are_told_as_people_do(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# --- what was counted in between ----------------------------------------------


def counted(accepted: int, *waits_s: float) -> Numbers:
    numbers = Numbers()
    numbers.count("accepted", "orders", accepted)
    numbers.count("processed", "orders", accepted // 2)
    for wait_s in waits_s:
        numbers.observe("waiting_seconds", wait_s, "orders")
    return numbers


observed = st.lists(st.floats(0, 1_000), max_size=20)


@given(observed, observed)
def test_what_was_counted_since_is_the_rest(first: list[float], second: list[float]) -> None:
    before, now, rest = counted(3, *first), counted(10, *first, *second), counted(7, *second)
    told = now.since(before)
    assert told.counters["accepted"] == rest.counters["accepted"]
    if second:
        assert (
            told.histograms["waiting_seconds"]["orders"].counts == rest.histograms["waiting_seconds"]["orders"].counts
        )


def test_a_server_that_began_anew_has_counted_all_of_it_since() -> None:
    assert counted(4, 0.1).since(counted(100, *[0.1] * 9)).counters["accepted"] == {"orders": 4}
    assert sum(counted(4, 0.1).since(counted(100, *[0.1] * 9)).histograms["waiting_seconds"]["orders"].counts) == 1


class Source:
    """Looks that a test prepares, and how long each takes."""

    def __init__(self) -> None:
        self.clock = 0.0
        self.worked = 0.0
        self.took = 0.0
        self.works = 0.0
        self.next = look(numbers=counted(0))
        self.asked = 0

    def look(self) -> Look:
        self.asked += 1
        self.clock += self.took
        self.worked += self.works
        return self.next


def test_rates_and_latencies_are_of_what_was_counted_in_between() -> None:
    source: Any = Source()
    looks = Looks(["orders"], clock_s=lambda: source.clock)
    first = looks.live(source)
    assert (first.overview.accepted_per_s, first.accept.p99_s) == (None, None)
    for second in range(1, 91):
        source.clock += 1.0
        waits = [10.0] * 30 + [0.003] * max(0, second - 30)  # a slow half minute, and then a fast one
        source.next = look(numbers=counted(10 * second if second <= 80 else 800, *waits[: 10 * second]))
        told = looks.live(source)
    assert told.overview.accepted_per_s == 0.0
    assert told.overview.processed_per_s == 0.0
    assert told.waiting.p99_s is not None
    assert told.waiting.p99_s <= 0.005


def test_rates_are_those_of_the_last_seconds() -> None:
    source: Any = Source()
    looks = Looks(["orders"], clock_s=lambda: source.clock)
    for second in range(20):
        source.clock = float(second)
        source.next = look(numbers=counted(100 * max(0, second - 9)))
        told = looks.live(source)
    assert told.overview.accepted_per_s == 100.0
    assert told.workloads[0].accepted_per_s == 100.0
    assert told.overview.processed_per_s == 50.0
    assert told.dead_per_s is None or told.dead_per_s == 0.0


def test_what_nobody_looked_at_for_long_makes_no_rate() -> None:
    source: Any = Source()
    looks = Looks(["orders"], clock_s=lambda: source.clock)
    looks.live(source)
    source.clock += limits.LATENCY_WINDOW_S + STALE_S + 1
    source.next = look(numbers=counted(1_000_000))
    assert looks.live(source).overview.accepted_per_s is None


def test_all_pages_share_a_look_and_one_that_is_much_work_is_kept_for_longer() -> None:
    source: Any = Source()
    looks = Looks(clock_s=lambda: source.clock, worked_s=lambda: source.worked)
    for _ in range(50):
        looks.live(source)
        looks.look(source)
    assert source.asked == 1
    source.clock += limits.LIVE_EVERY_S
    source.took = source.works = 2.0
    looks.live(source)
    assert source.asked == 2
    source.clock += limits.LIVE_PART * 2.0 - 2.1  # since it began
    looks.live(source)
    assert source.asked == 2
    source.clock += 0.2
    looks.live(source)
    assert source.asked == 3


def test_one_that_waited_for_a_writer_that_hangs_is_not_kept_for_a_minute() -> None:
    source: Any = Source()
    looks = Looks(clock_s=lambda: source.clock, worked_s=lambda: source.worked)
    source.took, source.works = 4.0, 0.01
    looks.live(source)
    source.clock += 3.9  # as long again as it took
    looks.live(source)
    assert source.asked == 1
    source.clock += 0.2
    looks.live(source)
    assert source.asked == 2


def test_no_more_is_kept_than_a_minute_of_looks() -> None:
    source: Any = Source()
    looks = Looks(clock_s=lambda: source.clock)
    for _ in range(500):
        source.clock += 1.0
        source.next = look(numbers=counted(1))
        looks.live(source)
    assert len(looks._counted) <= limits.LATENCY_WINDOW_S + limits.RATE_S + 2


def test_a_server_without_numbers_has_the_rates_of_two_looks() -> None:
    source: Any = Source()
    looks = Looks(clock_s=lambda: source.clock)
    source.next = look()
    looks.live(source)
    source.clock += 2.0
    source.next = look(taken_at=3_000, processed=10)
    assert looks.live(source).overview.processed_per_s == 5.0


def test_a_source_that_knows_what_is_recent_is_believed() -> None:
    source: Any = Source()
    source.next = msgspec.structs.replace(look(engine="aws", server=None), recent=(counted(60, 0.1), 60.0))
    told = Looks(clock_s=lambda: source.clock).live(source)
    assert told.overview.accepted_per_s == 1.0
    assert told.waiting.p50_s is not None
    assert [workload.name for workload in told.workloads] == ["orders"]


def test_where_charts_are_all_that_there_is_their_last_numbers_are_shown() -> None:
    charted = {"accepted_per_s": 7.5, "processed_per_s": 7.0, "dead_per_s": 0.5, "accept_p99_s": 0.2}
    told = shown(msgspec.structs.replace(look(None, engine="aws", server=None), charted=charted))
    assert (told.overview.accepted_per_s, told.dead_per_s, told.rejected_per_s) == (7.5, 0.5, None)
    assert (told.accept.p50_s, told.accept.p99_s) == (None, 0.2)


def test_all_metrics_of_the_page_are_metrics() -> None:
    for name in ("accepted", "processed", "rejected", "dead", "retried", "wal_bytes", "commit_messages"):
        assert name in METRICS
