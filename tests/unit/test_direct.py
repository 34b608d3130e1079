"""Which fresh messages go to a worker in the transaction that accepts them, past the claims: those of callers, too, as
long as no caller has more than its share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import pytest

from decoupled.core.outcomes import Delivery
from decoupled.core.workload import Effects, Message, Workload
from decoupled.server.scheduling.breaker import Answer
from decoupled.server.scheduling.groups import Groups


class Entry(msgspec.Struct):
    pass


WORKLOADS = {
    "orders": Workload("orders", Entry, lambda entry, message: Effects({})),
    "hosts": Workload("hosts", Entry, lambda entry, message: Effects({}), group=lambda entry: "a host"),
    "paced": Workload("paced", Entry, lambda entry, message: Effects({}), group_rate=1.0),
}
CAPACITY = 8


@pytest.fixture
def groups() -> Groups:
    return Groups(WORKLOADS, None, lambda: 0.0, {"": 1})


def fresh(count: int, group: str = "", workload: str = "orders") -> list[Message]:
    return [Message(f"{group}-{number}", workload, "{}", group or "anonymous", 0, group) for number in range(count)]


def direct(groups: Groups, messages: Sequence[Message]) -> Counter[str]:
    """How many of each group; they are in flight from then on."""
    taken = groups.direct(messages, lambda _workload: CAPACITY)
    groups.took_fresh([delivery(message) for message in taken])
    return Counter(message.group for message in taken)


def delivery(message: Message) -> Delivery:
    return Delivery(message, f"1.{message.id}", 1)


def test_what_a_caller_sends_goes_to_a_worker_as_what_nobody_does(groups: Groups) -> None:
    assert direct(groups, [*fresh(5), *fresh(5, "key:ana")]) == {"": 5, "key:ana": 5}


def test_one_caller_leaves_room_for_the_next_one(groups: Groups) -> None:
    assert direct(groups, fresh(CAPACITY, "key:ana")) == {"key:ana": CAPACITY * 3 // 4}
    assert direct(groups, fresh(CAPACITY, "key:ana")) == {}
    assert direct(groups, fresh(CAPACITY, "key:ben")) == {"key:ben": CAPACITY // 2}


def test_what_is_decided_makes_way_for_more_of_its_caller(groups: Groups) -> None:
    sent = fresh(6, "key:ana")
    assert direct(groups, sent) == {"key:ana": 6}
    assert groups.decided("orders", [delivery(message) for message in sent[:2]]) is False
    assert direct(groups, fresh(6, "key:ana")) == {"key:ana": 2}
    assert groups.decided("orders", [delivery(message) for message in sent[2:]]), "others were left waiting for these"


@pytest.mark.parametrize("workload", ["hosts", "paced"])
def test_what_has_groups_or_a_pace_of_its_own_is_left_to_the_claims(groups: Groups, workload: str) -> None:
    assert direct(groups, fresh(3, "a host", workload)) == {}


def test_of_a_workload_with_a_caller_in_trouble_all_is_left_to_the_claims(groups: Groups) -> None:
    (one,) = fresh(1, "key:ana")
    groups.observe(one, Answer("sick", "it does not answer"))
    assert direct(groups, [*fresh(3, "key:ana"), *fresh(3, "key:ben")]) == {}
