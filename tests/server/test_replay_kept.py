"""`decoupled replay --kept`: what has ended is run through the code that is here, and held against what it came to."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.server import DECOUPLED, Server

# What it makes of an entry is changed by a file beside it, as a deploy would.
SHOP = """
from pathlib import Path
from msgspec import Struct
from decoupled import Add, Effects, Message, Put, Rejected, Workload

class Sale(Struct, forbid_unknown_fields=True):
    how: str
    sku: str = "KB-104"

def process(sale: Sale, message: Message) -> Effects:
    deployed = Path(__file__).with_name("deployed")
    bug = deployed.read_text() if deployed.exists() else ""
    if sale.how == "refuse" or bug == "refuses":
        raise Rejected("it is closed" if bug == "reason" else "it is sold out")
    if bug == "fails" and sale.how == "once":
        raise KeyError(sale.sku)
    if sale.how == "once":
        return Effects({"n": 1}, [Put("sales/once/it", {"sku": sale.sku}, if_absent="it is there already")])
    if sale.how == "over":
        return Effects({}, [Put("sales/once/it", {"sku": "another"})])
    stock = Add("sales/stock/" + sale.sku, {"left": -1}, floor={"left": -2}, otherwise="nothing is left")
    return Effects({"sold": [{"sku": sale.sku, "price": 2 if bug == "price" else 1}]}, [stock])

async def call(sale: Sale, message: Message) -> Effects:
    return Effects({})

def forgetful(sale: Sale, message: Message) -> Effects:
    return Effects({})

SALES = Workload("sales", Sale, process)
CALLS = Workload("calls", Sale, call)
FORGETFUL = Workload("forgetful", Sale, forgetful)
"""
SENT = ("sell", "sell", "sell", "refuse", "once", "once")
"""The third is rejected by the floor, and the sixth since the fifth was there."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    project = tmp_path_factory.mktemp("shop")
    (project / "shop.py").write_text(SHOP)
    names = ",".join(f"{project / 'shop.py'}:{name}" for name in ("SALES", "CALLS", "FORGETFUL"))
    kept = "sales=7d,calls=7d"
    server = Server(project / "data", "--workloads", names, "--body-ttl", kept)
    server.start()
    for how in SENT:
        server.accept("/sales", {"how": how})
        server.wait_until_settled()
    server.accept("/calls", {"how": "sell"})
    server.accept("/forgetful", {"how": "sell"})
    server.wait_until_settled()
    yield server
    assert server.stop() == 0, server.logged()


@pytest.fixture(autouse=True)
def nothing_deployed(shop: Server) -> Iterator[None]:
    yield
    shop.data.with_name("deployed").unlink(missing_ok=True)


def replay(server: Server, *arguments: str, deployed: str = "", status: int) -> str:
    if deployed:
        server.data.with_name("deployed").write_text(deployed)
    environment = os.environ | {"DECOUPLED_WORKLOADS": server.options[1], "COLUMNS": "200"}
    command = [str(DECOUPLED), "replay", "--kept", "--data", str(server.data), *arguments]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == status, ran.stdout + ran.stderr
    assert "Traceback (most" not in ran.stderr
    return ran.stdout + ran.stderr


def test_the_code_that_has_processed_them_changes_nothing_also_where_their_own_effects_are_in_the_way(
    shop: Server,
) -> None:
    tables = ("messages", "items", "removed", "edits")
    before = [shop.rows(f"SELECT * FROM {table}") for table in tables]  # noqa: S608  constants
    said = replay(shop, status=0)
    assert "6 replayed that have ended; nothing is stored" in said
    assert "6  unchanged" in said
    assert "differ" not in said
    assert "1 left out: calls: to decide is to call others (--call-out does)" in said
    assert "7  unchanged" in replay(shop, "--call-out", status=0)
    assert [shop.rows(f"SELECT * FROM {table}") for table in tables] == before  # noqa: S608  constants


def test_a_deploy_that_would_change_results_says_where_with_an_example_of_each(shop: Server) -> None:
    said = replay(shop, deployed="price", status=1)
    assert "4  unchanged" in said
    assert "2  sales  would differ: sold/*/price" in said
    assert '-   sold: [{"price":1,"sku":"KB-104"}]' in said
    assert '+   sold: [{"price":2,"sku":"KB-104"}]' in said


def test_one_that_refuses_what_was_processed_or_gives_other_reasons_says_so(shop: Server) -> None:
    said = replay(shop, deployed="refuses", status=1)
    assert "3  sales  would differ: processed  ->  rejected: it is sold out" in said
    assert "1  sales  would differ: rejected: nothing is left  ->  rejected: it is sold out" in said
    assert "1  unchanged" in said
    said = replay(shop, deployed="reason", status=1)
    assert "1  sales  would differ: rejected: it is sold out  ->  rejected: it is closed" in said


def test_one_that_fails_says_what_it_would_fail_with(shop: Server) -> None:
    said = replay(shop, deployed="fails", status=1)
    assert "2  sales  would fail: KeyError: '…'" in said
    assert "raise KeyError(sale.sku)" in said


def test_the_newest_come_first_and_which_can_be_chosen(shop: Server) -> None:
    said = replay(shop, "--json", "--limit", "3", "--workload", "sales", status=0)
    found = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    kinds: list[Any] = [(it["verdict"], it["was"], it["before"]) for it in found]
    assert kinds == [
        ("unchanged", "rejected", "it is there already"),
        ("unchanged", "processed", {"n": 1}),
        ("unchanged", "rejected", "it is sold out"),
    ]
    said = replay(shop, "--limit", "2", status=0)  # the newest is left out, and takes the place of none
    assert "2 replayed that have ended" in said
    assert "the workload 'sale' is none of those here (sales, calls, forgetful)" in replay(
        shop, "--workload", "sale", status=1
    )
    assert "6  unchanged" in replay(shop, "--workload", "sales", "--newer-than", "1h", status=0)
    assert "has kept its body" in replay(shop, "--newer-than", "0s", status=0)
    assert "has kept its body" in replay(shop, "--workload", "forgetful", status=0)
    assert "is chosen by --workload" in replay(shop, "--error", "KeyError", status=2)


def test_an_item_that_was_written_again_since_is_told_and_is_no_difference(shop: Server) -> None:
    shop.accept("/sales", {"how": "over"})
    shop.wait_until_settled()
    said = replay(shop, status=0)
    assert "7  unchanged" in said
    assert "1 of these have items that are not as they would leave them" in said
