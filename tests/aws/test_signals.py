"""What the processor tells always: that messages had to be put back, for how long, and whose fault that is; and nothing
where nothing was."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from decoupled.core.outcomes import Delivery
from decoupled.core.workload import Effects, Message, NotYet, Unavailable, Workload
from decoupled.engines.aws.unmeasured import Unmeasured, measuring_of
from decoupled.pipeline.processor import process
from decoupled.pipeline.settlement import Policy
from tests.support.emf import extracted, validate
from tests.support.model_engine import ManualClock, ModelQueue, ModelTable

NOW = 1_795_000_000_000
BACKEND = {"well": None, "sick": Unavailable("gone"), "bad": ValueError("no"), "early": NotYet(60.0)}


class Entry(msgspec.Struct):
    """How its backend is."""

    backend: str


def _process(entry: Entry, _message: Message) -> Effects:
    if (error := BACKEND[entry.backend]) is not None:
        raise error
    return Effects({})


WORKLOADS = {name: Workload(name, Entry, _process) for name in ("orders", "notes")}


def told(deliveries: Sequence[Delivery], workloads: Sequence[str] = ("orders", "notes")) -> list[str]:
    """The lines that a batch leaves in the log."""
    written: list[str] = []
    clock = ManualClock(NOW)
    policy = Policy(5, clock)
    Unmeasured("Decoupled/shop", workloads, written.append, clock).processed(
        deliveries,
        ModelQueue(clock),
        lambda some, queue, tally: process(some, queue, ModelTable(), WORKLOADS, policy, lambda: 30.0, tally),
        policy.runs.held,
    )
    assert all(line.endswith("\n") for line in written)
    return [line.strip() for line in written]


def delivery(what: str, age_s: int, tried_s: int = 0, workload: str = "orders", count: int = 1) -> Delivery:
    message = Message(f"{workload}-{what}-{age_s}", workload, json.dumps({"backend": what}), "ana", NOW - 90_000_000)
    since = NOW - age_s * 1000
    return Delivery(message, message.id, count, waits_since=since, tried_since=NOW - tried_s * 1000)


def test_where_all_goes_well_or_is_not_due_yet_nothing_is_told() -> None:
    assert told([delivery("well", 9_000), delivery("early", 9_000)]) == []


def test_what_waits_for_a_backend_is_counted_with_the_longest_wait_and_how_long_it_was_tried() -> None:
    batch = [delivery("sick", 100, 3), delivery("sick", 4_000, 200, count=9), delivery("well", 9_000)]
    written = told(batch)
    validate(written)
    (line,) = written
    assert extracted([line]) == {
        (metric, dimension): [value]
        for metric, value in (
            ("oldest_age_seconds", 4_000),
            ("waiting_age_seconds", 4_000),
            ("unavailable_seconds", 200),
            ("unavailable", 2),
        )
        for dimension in ("", "Workload=orders")
    }


def test_what_fails_on_its_own_makes_nothing_wait_that_alarms_are_on() -> None:
    found = extracted(told([delivery("bad", 5_000)]))
    assert {metric: values for (metric, dimension), values in found.items() if not dimension} == {
        "oldest_age_seconds": [5_000],
        "failed": [1],
    }


def test_a_batch_of_several_workloads_tells_a_line_of_each_and_strangers_share_one() -> None:
    batch = [delivery("sick", 10), delivery("sick", 30, workload="notes"), delivery("sick", 20, workload="nobody")]
    written = told(batch, ["orders", "notes"])
    assert len(written) == 3
    assert {dimension for _, dimension in extracted(written)} == {
        "",
        *(f"Workload={it}" for it in ("orders", "notes", "-")),
    }
    assert max(extracted(written)["oldest_age_seconds", ""]) == 30


def test_only_a_function_that_is_told_where_tells() -> None:
    clock, batch, written = ManualClock(NOW), [delivery("sick", 10)], list[str]()
    tallies: list[object] = []

    def process_it(some: Sequence[Delivery], _queue: object, tally: object) -> list[Delivery]:
        tallies.append(tally)
        return list(some)

    measuring = measuring_of({}, ["orders"])
    assert measuring.processed(batch, ModelQueue(clock), process_it, set()) == batch
    assert tallies == [None]
    assert written == []
