"""Which workloads of a stack get a queue of their own."""

from __future__ import annotations

import pytest
from msgspec import Struct

from decoupled.cli.bulkheads import queue_notes, queue_parameters
from decoupled.core import own_queues
from decoupled.core.own_queues import MAX_BYTES, MAX_NAME_CHARS, MAX_QUEUES, lacking, planned
from decoupled.core.workload import Effects, Workload, Workloads


def workloads(*names: str, ordered: bool = False) -> Workloads:
    return {name: Workload(name, Struct, lambda entry, message: Effects({}), ordered=ordered) for name in names}


def test_each_workload_that_keeps_no_order_gets_one_by_its_name_without_underscores() -> None:
    some = {**workloads("orders", "large_pallets"), **workloads("steps", ordered=True)}
    assert queue_parameters("shop", None, some, {}) == {"OwnQueues": "orders,largepallets"}
    assert queue_parameters("shop", None, workloads("steps", ordered=True), {}) == {"OwnQueues": own_queues.NONE}


def test_what_a_stack_has_stays_in_its_place() -> None:
    assert queue_parameters("shop", "gone,orders", workloads("new", "orders"), {}) == {"OwnQueues": "gone,orders,new"}
    assert queue_parameters("shop", own_queues.NONE, workloads("orders"), {}) == {"OwnQueues": "orders"}


def test_who_names_them_has_these() -> None:
    assert queue_parameters("shop", "gone", workloads("orders"), {"OwnQueues": own_queues.NONE}) == {}
    assert list(queue_notes("shop", "gone", workloads("orders"), {"OwnQueues": "orders"})) == []
    with pytest.raises(ValueError, match="OwnQueues=large_pallets: names of workloads without underscores"):
        queue_parameters("shop", None, workloads("orders"), {"OwnQueues": "orders,large_pallets"})


def test_two_that_would_have_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="'a_b' and 'ab' differ in underscores only"):
        queue_parameters("shop", None, workloads("a_b", "ab"), {})


def test_what_finds_no_room_shares_a_queue_and_is_told() -> None:
    many = [f"workload{number}" for number in range(MAX_QUEUES + 2)]
    queues, sharing = planned("shop", many, [])
    assert queues + sharing == many
    assert 20 <= len(queues) <= MAX_QUEUES
    taken = sum(len(f"QUEUE{one}") + len(f"shop-OwnQueue{one}-") + 13 for one in queues)
    assert taken <= MAX_BYTES
    (note,) = queue_notes("shop", None, workloads(*many), {})
    assert repr(sharing[0]) in note


def test_a_name_that_cloudformation_would_cut_is_none() -> None:
    fits = "o" * (MAX_NAME_CHARS - len("shop-OwnQueue-") - 13)
    assert planned("shop", [fits], []) == ([fits], [])
    assert planned("shop", [fits + "o"], []) == ([], [fits + "o"])
    assert planned("s" * 60, ["orders"], []) == ([], ["orders"])


def test_what_a_stack_lacks_of_queues_is_asked_for_beside_what_it_has() -> None:
    given = {"OwnQueues": "orders,new", "OrderedWorkloads": "steps", "Workloads": "orders"}
    assert lacking({"OwnQueues": "orders,old"}, given) == {"OwnQueues": "orders,old,new", "OrderedWorkloads": "steps"}
    assert lacking({"OwnQueues": own_queues.NONE}, {"OwnQueues": "orders"}) == {"OwnQueues": "orders"}
    assert lacking({"OwnQueues": "orders,new", "OrderedWorkloads": "steps"}, given) == {}
    assert lacking({"OwnQueues": "orders,old"}, {"OwnQueues": "orders"}) == {}  # to leave one out makes none
