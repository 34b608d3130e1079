"""How long records and bodies are kept, as people say it."""

from __future__ import annotations

import pytest

from decoupled.core.retention import Option, Retention, parse
from decoupled.core.status import STATUSES
from decoupled.server.configuration import choose

DAY_MS = 86_400_000


def said(*says: str) -> Retention:
    return parse(says, "record_ttl")


def test_nothing_said_keeps_everything() -> None:
    assert {said().of("orders", status) for status in STATUSES} == {None}
    assert said().shortest() is None


def test_one_time_is_for_what_is_final_and_not_for_dead_letters() -> None:
    kept = [said("90d").of("orders", status) for status in ("queued", "processed", "rejected", "dead")]
    assert kept == [None, 90 * DAY_MS, 90 * DAY_MS, None]


def test_the_more_exact_of_two_wins_by_workload_first() -> None:
    retention = said("90d", "*.rejected=60d", "orders=365d", "orders.rejected=36h", "readings=0", "*.dead=400d")
    assert retention.of("orders", "processed") == 365 * DAY_MS
    assert retention.of("orders", "rejected") == 1.5 * DAY_MS
    assert retention.of("notifications", "rejected") == 60 * DAY_MS
    assert retention.of("readings", "rejected") is None
    assert retention.of("orders", "dead") == 400 * DAY_MS
    assert retention.shortest() == retention.soonest("orders") == 1.5 * DAY_MS
    assert retention.soonest("readings") == 400 * DAY_MS
    assert retention.named() == {"orders", "readings"}


@pytest.mark.parametrize(
    ("says", "option", "complaint"),
    [
        (["ninety"], "record_ttl", "record_ttl has 'ninety'; it can be 90d"),
        (["orders.done=9d"], "record_ttl", "has 'orders.done=9d'"),
        (["9d", ""], "record_ttl", "has ''"),
        (["90"], "record_ttl", "say 90d for days"),
        (["23h"], "record_ttl", "24 h to 36,500 d, or 0: while its record is there"),
        (["36501d"], "record_ttl", "24 h to 36,500 d, or 0$"),
        (["9d", "8d"], "record_ttl", "another time for the same"),
        (["orders=9d", "orders=9d"], "record_ttl", "another time for the same"),
        (["orders.dead=9d"], "body_ttl", "a dead letter keeps its body"),
    ],
)
def test_what_is_wrong_is_named(says: list[str], option: Option, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse(says, option)
    with pytest.raises(ValueError, match=complaint):
        choose({option: tuple(says)})
