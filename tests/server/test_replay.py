"""`decoupled replay`: dead letters are run through the code that is here now. What it says is what a redrive then does;
until that, nothing is changed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from decoupled.engines.sqlite.database import FILE_NAME
from tests.support.server import DECOUPLED, Server

# What entry `how` asks for; those that fail do so until there is a file `mended`.
SHOP = """
import os, time
from pathlib import Path
from msgspec import Struct
from decoupled import Add, Effects, Message, Put, Rejected, Workload

class Sale(Struct, forbid_unknown_fields=True):
    how: str
    sku: str = "KB-104"

def process(sale: Sale, message: Message) -> Effects:
    if not Path(__file__).with_name("mended").exists():
        raise KeyError(f"no product {sale.sku!r}")
    if sale.how == "exit":
        os._exit(4)
    if sale.how == "hang":
        time.sleep(60)
    if sale.how == "refuse":
        raise Rejected("it is sold out")
    if sale.how == "fail":
        raise ValueError("this one is bad")
    if sale.how == "once":
        return Effects({}, [Put("sales/once/it", {"by": message.id}, if_absent="it is there already")])
    return Effects({"sold": sale.sku}, [Add("sales/stock/" + sale.sku, {"sold": 1})])

async def call(sale: Sale, message: Message) -> Effects:
    Path(__file__).with_name("called").touch()
    raise KeyError("no receiver")

SALES = Workload("sales", Sale, process)
CALLS = Workload("calls", Sale, call)
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose messages have died of a bug; the code beside it is mended."""
    project = tmp_path_factory.mktemp("shop")
    (project / "shop.py").write_text(SHOP)
    names = f"{project / 'shop.py'}:SALES,{project / 'shop.py'}:CALLS"
    server = Server(project / "data", "--workloads", names, "--max-attempts", "1", "--function-timeout", "1")
    server.start()
    try:
        entries = [{"how": how} for how in ("sell", "sell", "exit", "hang", "refuse", "fail", "once", "once")]
        sales = server.accept("/sales", *entries)
        calls = server.accept("/calls", {"how": "call"})
        server.wait_until("dead", *[f"/sales/{it}" for it in sales], *[f"/calls/{it}" for it in calls])
        (project / "mended").touch()
        yield server
        assert server.stop() == 0, server.logged()
    finally:
        server.end()


def replay(server: Server, *arguments: str, status: int) -> str:
    environment = os.environ | {
        "DECOUPLED_WORKLOADS": server.options[1],
        "DECOUPLED_FUNCTION_TIMEOUT": "1",
        "COLUMNS": "200",
    }
    ran = subprocess.run(
        [DECOUPLED, "replay", "--data", server.data, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == status, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def as_json(said: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


def test_each_says_what_it_would_come_to_and_nothing_is_changed(shop: Server) -> None:
    rows = "SELECT id, status, attempts, error, visible_at, receive_count FROM messages ORDER BY id"
    before, items = shop.rows(rows), shop.rows("SELECT * FROM items")
    called = shop.data.with_name("called").stat().st_mtime_ns
    found = as_json(replay(shop, "--workload", "sales", "--json", status=1))
    came_to = [(it["now"], it["why"].partition(":")[0]) for it in found]
    assert sorted(came_to) == sorted(
        [
            ("processed", ""),
            ("processed", ""),
            ("dead", "Crashed"),
            ("dead", "TimeLimitExceeded"),
            ("rejected", "it is sold out"),
            ("dead", "ValueError"),
            ("processed", ""),
            ("processed", ""),  # each by itself: the first would be in the way of the second
        ]
    )
    assert {it["was"] for it in found} == {"KeyError: \"no product 'KB-104'\""}
    (sold, *_) = [it for it in found if it["result"]]
    assert sold["result"] == {"sold": "KB-104"}
    assert sold["writes"] == [{"key": "sales/stock/KB-104", "before": None, "after": {"sold": 1}}]
    (failed,) = [it for it in found if it["why"].startswith("ValueError")]
    assert "this one is bad" in failed["traceback"]
    assert shop.rows(rows) == before
    assert shop.rows("SELECT * FROM items") == items
    assert shop.data.with_name("called").stat().st_mtime_ns == called


def test_a_person_sees_kinds_with_an_example_and_what_is_left_out(shop: Server) -> None:
    said = replay(shop, status=1)
    assert "8 replayed; nothing is stored" in said
    assert '4  sales  KeyError: "…"  ->  would be processed' in said
    assert '- KeyError: "no product' in said
    assert '+ result {"sold":"KB-104"}' in said
    assert "+   sold: 1" in said
    assert "1 left out: calls: to decide is to call others (--call-out does)" in said
    assert "would die again: KeyError: 'no receiver'" in replay(shop, "--workload", "calls", "--call-out", status=1)


def test_by_id_and_with_a_limit(shop: Server) -> None:
    (first, *_) = shop.rows("SELECT id FROM messages WHERE workload = 'sales' ORDER BY seq")
    assert as_json(replay(shop, first[0], "--json", status=0))[0]["id"] == first[0]
    assert len(as_json(replay(shop, "--json", "--workload", "sales", "--limit", "2", status=0))) == 2
    assert "none is not dead here" in replay(shop, "none", status=1)
    assert "choose by ids, or by filters" in replay(shop, first[0], "--workload", "sales", status=2)
    assert "No dead letters to replay." in replay(shop, "--workload", "none", status=0)


def test_a_workload_that_cannot_be_loaded_is_named(shop: Server, tmp_path: Path) -> None:
    assert "nowhere" in replay(shop, "--workloads", str(tmp_path / "nowhere.py"), status=1)
    assert (shop.data / FILE_NAME).exists()


def test_what_would_be_processed_is_so_after_the_redrive(shop: Server) -> None:
    found = as_json(replay(shop, "--workload", "sales", "--json", "--limit", "2", status=0))
    ids = [it["id"] for it in found]
    subprocess.run([DECOUPLED, "dead", "redrive", "--data", shop.data, *ids], check=True, capture_output=True)
    records = shop.wait_until("processed", *[f"/sales/{message_id}" for message_id in ids])
    assert [record["result"] for record in records] == [it["result"] for it in found]
    assert shop.rows("SELECT item FROM items WHERE key = 'sales/stock/KB-104'") == [('{"sold":2}',)]
