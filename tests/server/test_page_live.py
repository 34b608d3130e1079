"""What the page shows of a real server, held to what happens there; and that no order waits for those who look."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from decoupled.engines.sqlite import outage
from tests.support.dead_letters import AN_ORDER, dead_letters, fill
from tests.support.page import ask, code_of, post, signed_in
from tests.support.server import Server, decoupled, serving, wait_for

ORDER = msgspec.json.decode(AN_ORDER)
JSON = "content-type: application/json"


@pytest.fixture(params=["0", "2"], ids=["inside", "fronts"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "data", "--fronts", request.param) as server:
        yield server


def live(server: Server) -> dict[str, Any]:
    answer = ask(server, "/-/live")
    assert answer.status == 200, answer
    told: dict[str, Any] = answer.json
    return told


@contextlib.contextmanager
def page_open(server: Server) -> Iterator[list[dict[str, Any]]]:
    """As a browser has it, only more often: what it was told."""
    told: list[dict[str, Any]] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.05):
            told.append(live(server))

    with ThreadPoolExecutor(3) as pages:
        looking = [pages.submit(look) for _ in range(3)]
        try:
            yield told
        finally:
            stop.set()
        for page in looking:
            page.result()


def test_orders_are_taken_while_pages_are_open_and_are_shown(server: Server) -> None:
    with page_open(server) as told:
        for _ in range(10):
            server.accept("/orders", *[ORDER] * 100)
        server.wait_until_settled()
        shown = wait_for(lambda: live(server), lambda it: it["overview"]["processed"] == 1_000)
        wait_for(lambda: [it for it in told if it["commit"]["p99_s"] is not None])
    assert shown["status"] == "ok"
    assert max(it["overview"]["accepted_per_s"] or 0 for it in told) > 0
    assert max(it["workloads"][0].get("processed_per_s") or 0 for it in told) > 0
    assert {box["colour"] for box in live(server)["boxes"].values()} == {"ok"}
    assert live(server)["workers"] == 2


def test_a_sick_table_turns_the_picture_red_and_back(server: Server) -> None:
    outage.begin(server.data, 60)
    server.accept("/orders", *[ORDER] * 10)
    red = wait_for(lambda: live(server), lambda it: it["boxes"]["table"]["colour"] == "bad")
    assert red["boxes"]["processor"]["colour"] == "bad"
    assert red["boxes"]["table"]["why"] == "the table does not answer"
    assert red["workloads"][0]["state"] == "open"
    outage.end(server.data)
    well = wait_for(lambda: live(server), lambda it: {box["colour"] for box in it["boxes"].values()} == {"ok"})
    assert well["overview"]["dead"] == 0


def test_the_page_and_the_status_say_the_same(server: Server) -> None:
    outage.begin(server.data, 60)
    server.accept("/orders", *[ORDER] * 10)
    shown = wait_for(lambda: live(server), lambda it: it["workloads"][0]["state"] == "open")
    said = decoupled("status", "--data", server.data)
    assert "open" in said
    assert shown["workloads"][0]["why"] in said
    assert shown["overview"]["queued"] + shown["overview"]["delayed"] + shown["overview"]["in_flight"] == 10
    outage.end(server.data)
    server.wait_until_settled()


def test_prometheus_gets_the_metrics(server: Server) -> None:
    server.accept("/orders", *[ORDER] * 3)
    server.wait_until_settled()

    def samples() -> dict[tuple[str, ...], float]:
        families = text_string_to_metric_families(ask(server, "/metrics").body.decode())
        return {(it.name, *it.labels.values()): it.value for family in families for it in family.samples}

    told = wait_for(samples, lambda it: it.get(("decoupled_processed_total", "orders")) == 3)
    assert told["decoupled_accepted_total", "orders"] == 3
    assert told["decoupled_messages", "queued"] == 0
    assert told["decoupled_up",] == 1


def test_where_callers_are_asked_prometheus_needs_an_operators_key(tmp_path: Path) -> None:
    data = tmp_path / "data"
    operator = decoupled("keys", "add", "prometheus", "--operator", "--data", data)
    other = decoupled("keys", "add", "shop", "--data", data)
    with serving(data, "--auth", "keys", "--fronts", "1", "--page", "off") as server:
        assert ask(server, "/metrics").status == 401
        assert ask(server, "/metrics", f"authorization: Bearer {other}").status == 401
        assert ask(server, "/metrics", f"authorization: Bearer {operator}").status == 200
        assert ask(server, "/metrics", f"authorization: Bearer {operator}", method="HEAD").status == 200


def test_no_order_waits_for_a_look_that_takes_long(tmp_path: Path) -> None:
    """In the writer's own process, where a look that held up the event loop would hold up everything."""
    held = tmp_path / "held"
    held.touch()
    program = (sys.executable, "-m", "tests.support.slow_page", str(held))
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    with (
        serving(tmp_path / "data", "--fronts", "0", program=program, environment=environment) as server,
        ThreadPoolExecutor(1) as page,
    ):
        looking = page.submit(ask, server, "/-/live")
        wait_for(held.with_suffix(".busy").exists)
        for _ in range(50):
            server.accept("/orders", ORDER)
        assert server.wait_until_settled() == {"processed": 50}
        assert not looking.done()
        held.unlink()
        assert looking.result().json["overview"]["processed"] == 50


def test_an_operator_redrives_from_the_page_and_a_visitor_cannot(tmp_path: Path) -> None:
    fill(tmp_path / "data", dead_letters(250))
    with serving(tmp_path / "data", "--fronts", "2") as server:
        groups = ask(server, "/-/dead").json
        assert [group["count"] for group in groups["groups"]] == [84, 83, 83]
        assert live(server)["boxes"]["dead"]["colour"] == "warn"
        which = {"which": {"error": "ValueError"}}
        assert post(server, "/-/dead/redrive", which, JSON).status == 403
        assert server.statuses() == {"dead": 250}
        cookie = signed_in(server, code=code_of(server.data))
        dry = post(server, "/-/dead/redrive", {**which, "dry_run": True}, JSON, cookie).json
        assert dry["counts"] == {"redriven": 83}
        cursor, redriven = None, 0
        for _ in range(10):
            done = post(server, "/-/dead/redrive", {**which, "cursor": cursor}, JSON, cookie)
            assert done.status == 200, done
            redriven += done.json["counts"].get("redriven", 0)
            if (cursor := done.json.get("cursor")) is None:
                break
        assert redriven == 83
        assert server.wait_until_settled() == {"dead": 167, "processed": 83}
        letter = ask(server, "/-/dead/letters?limit=1").json["letters"][0]
        assert ask(server, f"/-/messages/{letter['id']}").json["row"]["status"] == "dead"
        assert len(ask(server, "/-/messages?status=dead&limit=10").json["rows"]) == 10
