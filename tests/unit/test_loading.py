"""Workloads are found by the names that an operator gives, and what could not work is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from decoupled.pipeline.loading import WorkloadError, load

ONE = """
from decoupled import Effects, Workload
from msgspec import Struct

class Entry(Struct):
    pass

WORKLOAD = Workload("{name}", Entry, lambda entry, message: Effects({{}}))
RETURNS = Workload("returns", Entry, lambda entry, message: Effects({{}}))
HIDDEN = Workload("hidden", Entry, lambda entry, message: Effects({{}}), internal=True, readable=("things",))
PUBLISHES = Workload("publishes", Entry, lambda entry, message: Effects({{}}), readable=("a",), public=("a", "c"))
LISTS = Workload("lists", Entry, lambda entry, message: Effects({{}}), readable=("a",), listed=("a", "b"))
ONE_NAME = Workload("names", Entry, RETURNS.process, readable="things")
AT_RATES = Workload("rates", Entry, RETURNS.process, rate=20, group_rate=0.1)
STOPPED = Workload("rates", Entry, RETURNS.process, rate=0)
BACKWARDS = Workload("rates", Entry, RETURNS.process, group_rate=-1.5)
NO_RATE = Workload("rates", Entry, RETURNS.process, rate=float("nan"))
ENDLESS = Workload("rates", Entry, RETURNS.process, group_rate=float("inf"))
RATE_IN_WORDS = Workload("rates", Entry, RETURNS.process, rate="20")
ATTRIBUTE = Workload("groups", Entry, RETURNS.process, group="host")
PERHAPS = Workload("groups", Entry, RETURNS.process, ordered="no")
TEXT = "not a workload"

async def call(entry, message):
    return Effects({{}})

MANY = Workload("many", Entry, call, concurrency=1_000)
THREADS = Workload("threads", Entry, RETURNS.process, threads=64)
NONE_AT_ONCE = Workload("none", Entry, call, concurrency=0)
TOO_MANY = Workload("many", Entry, call, concurrency=1_001)
HALF = Workload("half", Entry, call, concurrency=1.5)
PLAIN_MANY = Workload("many", Entry, RETURNS.process, concurrency=5)
ASYNC_THREADS = Workload("threads", Entry, call, threads=5)
NO_THREADS = Workload("threads", Entry, RETURNS.process, threads=-1)
TOO_MANY_THREADS = Workload("threads", Entry, RETURNS.process, threads=65)
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a package and files."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    package = tmp_path / f"shop_{tmp_path.name.replace('-', '_')}"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for name in ("parcels", "health"):
        (package / f"{name}.py").write_text(ONE.format(name=name))
        (tmp_path / f"{name}.py").write_text(ONE.format(name=name))
    (package / "invoices.py").write_text(ONE.format(name="orders"))
    (package / "broken.py").write_text("import json\n\nprice = 1 / 0\n")
    (package / "unclear.py").write_text("def (:\n")
    (package / "missing.py").write_text("import nobody_wrote_this\n")
    (package / "empty.py").write_text("")
    (tmp_path / "Upper.py").write_text(ONE.format(name="Upper"))
    return tmp_path


def named(root: Path, name: str) -> str:
    """`shop` stands for the package of this test."""
    return name.replace("shop", f"shop_{root.name.replace('-', '_')}")


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("orders", "orders"),
        ("shop.parcels", "parcels"),
        ("shop.parcels:RETURNS", "returns"),
        ("shop.parcels:MANY", "many"),
        ("shop.parcels:THREADS", "threads"),
        ("shop.parcels:AT_RATES", "rates"),
        ("./parcels.py", "parcels"),
    ],
)
def test_a_workload_is_named_in_four_ways(root: Path, name: str, route: str) -> None:
    assert list(load([named(root, name)], root)) == [route]


def test_several_are_served_by_their_own_names(root: Path) -> None:
    assert list(load(["orders", named(root, "shop.parcels"), named(root, "shop.parcels:RETURNS")], root)) == [
        "orders",
        "parcels",
        "returns",
    ]


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ([], "name at least one workload"),
        (["nothing"], "no workload 'nothing'.*yours are named like shop.nothing"),
        (["shop.nothing"], "no module shop_.*nothing"),
        (["./nothing.py"], "no file .*nothing.py"),
        (["shop.invoices"], "it calls itself 'orders', which would be its route; name it 'invoices'"),
        (["orders", "shop.invoices:WORKLOAD"], "there are two with the name 'orders'"),
        (["./health.py"], "the route /health is the server's own"),
        (["./Upper.py"], "its name 'Upper' is no route"),
        (["shop.empty"], "has no WORKLOAD"),
        (["shop.parcels:TEXT"], "has a str, not a Workload, as TEXT"),
        (["shop.parcels:HIDDEN"], "it is internal, so that nothing of it can be readable"),
        (["shop.parcels:LISTS"], "it lists 'b', which is not among its readable collections"),
        (["shop.parcels:PUBLISHES"], "'c' is public, and not among its readable collections"),
        (["shop.broken"], "ZeroDivisionError: division by zero .*broken.py, line 3"),
        (["shop.unclear"], "SyntaxError: .*unclear.py, line 1"),
        (["shop.missing"], "No module named 'nobody_wrote_this' .*missing.py, line 1"),
        (["registrations"], "emits to 'notifications': name that one too"),
        (["shop.parcels:NONE_AT_ONCE"], "concurrency is 0, not a whole number from 1 to 1000"),
        (["shop.parcels:TOO_MANY"], "concurrency is 1001, not a whole number from 1 to 1000"),
        (["shop.parcels:HALF"], "concurrency is 1.5, not a whole number"),
        (["shop.parcels:PLAIN_MANY"], "concurrency is for an async process: for a plain one .* say threads"),
        (["shop.parcels:ASYNC_THREADS"], "threads are for a plain process, and its process is async: say concurrency"),
        (["shop.parcels:NO_THREADS"], "threads is -1, not a whole number from 1 to 64, or 0 for none"),
        (["shop.parcels:TOO_MANY_THREADS"], "threads is 65, not a whole number"),
        (["shop.parcels:ONE_NAME"], r"readable is 'things', one name: make it a tuple, \('things',\)"),
        (["shop.parcels:STOPPED"], "rate is 0, not a number of messages a second, 0.001 to 1,000,000, or None for no"),
        (["shop.parcels:BACKWARDS"], "group_rate is -1.5, not a number of messages a second"),
        (["shop.parcels:NO_RATE"], "rate is nan, not a number of messages a second"),
        (["shop.parcels:ENDLESS"], "group_rate is inf, not a number of messages a second"),
        (["shop.parcels:RATE_IN_WORDS"], "rate is '20', not a number of messages a second"),
        (["shop.parcels:ATTRIBUTE"], "group is 'host', not a function from an entry to the name of its group"),
        (["shop.parcels:PERHAPS"], "ordered is 'no', not True or False"),
        (["what is this?"], "is none of: orders, shop.orders"),
    ],
)
def test_what_could_not_work_is_refused_in_one_line(root: Path, names: list[str], complaint: str) -> None:
    with pytest.raises(WorkloadError, match=complaint) as refused:
        load([named(root, name) for name in names], root)
    assert "\n" not in str(refused.value)
