"""The order in which a stack is changed from one release to the next, with a stack that is played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from decoupled.cli import headroom
from decoupled.cli.releases import Change, make_queues
from decoupled.core.headroom import Account
from decoupled.core.own_queues import NONE
from decoupled.core.releases import Serving, Step
from decoupled.core.workload import Effects, Workload
from decoupled.engines.aws import account_quotas
from decoupled.engines.aws.releases import Recorded


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
        super().__init__(Bucket(), "shop", set(), lambda _: "", lambda _: None)  # type: ignore[arg-type]
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
