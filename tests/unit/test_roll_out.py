"""The order in which a stack is changed from one release to the next, with a stack that is played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from decoupled.cli import headroom, releases
from decoupled.cli.check import against_stack, refuse_breaks, told
from decoupled.cli.releases import Change, make_queues, roll_out
from decoupled.core.headroom import Account
from decoupled.core.own_queues import NONE
from decoupled.core.releases import Serving, Shift, Step
from decoupled.core.workload import Effects, Workload
from decoupled.engines.aws import account_quotas, deployment, smoke, stack_events
from decoupled.engines.aws.releases import LAMBDAS, Recorded


class Bucket:
    """What is kept of releases."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def store(self, files: Mapping[str, bytes]) -> str:
        self.files |= files
        return ""

    def read(self, key: str) -> bytes | None:
        return self.files.get(key)


class Played(Change):
    """A change that is noted. What is `wrong` after each comes from a list."""

    def __init__(self, *wrong: Sequence[str]) -> None:
        super().__init__(Bucket(), "shop", set(), lambda _: "", echo=lambda _: None)  # type: ignore[arg-type]
        object.__setattr__(self, "asked", [])
        object.__setattr__(self, "wrong", [*wrong])

    asked: list[Any]
    wrong: list[Sequence[str]]

    def apply(self, serving: Serving, given: Mapping[str, str], step: Step) -> tuple[Mapping[str, str], Sequence[str]]:
        self.asked.append((str(serving), dict(given)))
        return {}, self.wrong.pop(0) if self.wrong else ()


def test_queues_are_made_while_what_does_not_know_them_serves() -> None:
    change = Played()
    given = {"OwnQueues": "orders,pallets", "CodeKey": "new"}
    make_queues(change, Serving("one"), {"OwnQueues": "orders"}, given)
    assert change.asked == [("one", {"OwnQueues": "orders,pallets"})]
    (kept,) = change.bucket.files.values()  # type: ignore[attr-defined]
    assert msgspec.json.decode(kept, type=Recorded).returned  # deployed again, one is a new release, which knows them


def test_a_stack_that_has_them_or_serves_nothing_yet_is_changed_once() -> None:
    change = Played()
    make_queues(change, Serving("one"), {"OwnQueues": "orders"}, {"OwnQueues": "orders"})
    make_queues(change, None, {}, {"OwnQueues": "orders"})
    assert change.asked == []


def test_a_stack_of_an_earlier_version_gets_them_when_it_has_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_quotas, "read", lambda: (Account(), []))
    served = {"orders": Workload("orders", Struct, lambda order, message: Effects({}))}
    earlier = {"Workloads": "orders", "MaximumConcurrency": "10"}
    added, notes, _ = headroom.prepared("shop", earlier, served, {})
    assert added["OwnQueues"] == NONE
    assert any("deploy once more" in note for note in notes)
    assert headroom.prepared("shop", {**earlier, **added}, served, {})[0]["OwnQueues"] == "orders"
    assert headroom.prepared("shop", {}, served, {})[0]["OwnQueues"] == "orders"


@pytest.fixture(autouse=True)
def untaken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The workloads whose queues the release before sends to, and nothing takes from."""
    found: list[str] = []
    monkeypatch.setattr(deployment, "untaken", lambda *_: found)
    return found


CANARY = Shift.parse("canary", "10", 60.0)


def served_after(change: Played) -> list[str]:
    return [serving for serving, _ in change.asked]


def test_a_release_that_does_not_work_is_gone_back_from() -> None:
    change = Played(["it is broken"])
    with pytest.raises(ValueError, match="it is broken\nwent back from two to one"):
        roll_out(change, Serving("one"), "two", {}, Shift(), 0.0)
    assert served_after(change) == ["two", "one"]


def test_what_is_gone_back_to_is_tried_too() -> None:
    with pytest.raises(ValueError, match="it is broken\nso is that\none serves again, and does not work either"):
        roll_out(Played(["it is broken"], ["so is that"]), Serving("one"), "two", {}, Shift(), 0.0)
    with pytest.raises(ValueError, match="so is that\none serves again"):
        releases._back(Played(["so is that"]), "one")


def test_a_release_that_served_before_is_not_exchanged_for_an_older_one() -> None:
    change = Played(["an alarm sounds"])
    with pytest.raises(ValueError, match="an alarm sounds\ntwo is what served before, and was left so"):
        roll_out(change, Serving("two", "one"), "two", {}, Shift(), 60.0)
    assert change.asked == [("two", {})]


def test_a_shift_that_goes_on_goes_back_all_the_same() -> None:
    change = Played(["an alarm sounds"])
    with pytest.raises(ValueError, match="went back from two to one"):
        roll_out(change, Serving("two", "one", 90), "two", {}, CANARY, 60.0)
    assert served_after(change) == ["two", "one"]


def test_a_function_of_which_no_version_is_found_has_not_been_tried() -> None:
    assert smoke.missing({"Receiver": "arn", "Processor": "arn"}) == ["  Status: there is no version of it to try"]
    assert smoke.missing(dict.fromkeys(LAMBDAS, "arn")) == []


def test_a_release_that_would_accept_what_nothing_takes_is_not_gone_back_to(untaken: list[str]) -> None:
    untaken.append("pallets")
    change = Played(["it is broken"])
    with pytest.raises(
        ValueError, match=r"broken\none sends to queues that nothing takes from any more \(of pallets\)"
    ):
        roll_out(change, Serving("one"), "two", {}, Shift(), 0.0)
    assert served_after(change) == ["two"]


def test_what_is_taken_back_was_accepted_by_a_release_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "outputs", lambda _: {})
    here = {"orders": Workload("orders", Struct, lambda order, message: Effects({}))}
    left = Recorded(release="one", template="", code="", schemas=told(here))
    refuse_breaks("shop", here, accepted=False, left=left)
    with pytest.raises(ValueError, match="would not be understood"):
        refuse_breaks("shop", {}, accepted=False, left=left)
    refuse_breaks("shop", {}, accepted=True, left=left)
    refuse_breaks("shop", {}, accepted=False)


def test_a_stack_that_only_took_back_what_was_left_has_nothing_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    for stack in (None, {"StackStatus": "IMPORT_COMPLETE", "Parameters": []}):
        monkeypatch.setattr(stack_events, "current", lambda _, stack=stack: stack)
        with pytest.raises(ValueError, match="there is no stack 'shop' here that has accepted anything"):
            against_stack("shop", {})
