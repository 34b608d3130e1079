"""Requests that take a while to decode, or to find fault with: the server sees to others in between. How long a thing
takes is not asked here, since that depends on the machine, but how many others are answered meanwhile."""

from __future__ import annotations

import json
import select
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from decoupled.core import limits
from tests.support.events import ORDER
from tests.support.server import Client, Server, serving, wait_for

LINE = {"sku": "KB-104", "quantity": 1, "unit_price": "1"}
GOOD = json.dumps({**ORDER, "lines": [LINE] * 400})
FAULTY = json.dumps({**ORDER, "lines": [LINE] * 4_500 + [0]})
COUNT = "SELECT count(*) FROM messages"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("large") / "data", "--workloads", "orders") as server:
        yield server
    assert "Traceback" not in server.log.read_text()


def batch_of(entry: str, entries: int = limits.MAX_BATCH_ENTRIES) -> tuple[bytes, int]:
    """As many as a request may have, and how many that is."""
    entries = min(entries, (limits.MAX_REQUEST_BYTES - 2) // (len(entry) + 1))
    return f"[{','.join([entry] * entries)}]".encode(), entries


@pytest.mark.parametrize(
    ("entry", "entries", "status", "others"),
    [(GOOD, 1_000, 202, 6), (FAULTY, 1_000, 422, 6), ('{"customer": {}}', 1_000, 422, 2)],
    ids=["good", "faulty", "many small and faulty"],
)
def test_others_are_answered_while_a_large_request_is_seen_to(
    server: Server, entry: str, entries: int, status: int, others: int
) -> None:
    body, entries = batch_of(entry, entries)
    for _ in range(5):  # on a busy machine it is this client that is late
        if answered_beside(server, body, entries, status) >= others:
            return
    pytest.fail("one or two are answered where the loop sees to nothing else")


def answered_beside(server: Server, body: bytes, entries: int, status: int) -> int:
    """How many small requests are answered before a large one is."""
    with Client(server) as large, Client(server) as small:
        large.post(body, "content-type: application/json", path="/orders")
        answered = 0
        while not select.select([large.socket], [], [], 0)[0]:
            small.send(b"GET /orders/none HTTP/1.1\r\nhost: x\r\n\r\n")
            assert small.answer().status == 404
            answered += 1
        answer = large.answer()
    assert answer.status == status
    assert len(answer.json["accepted"]) == (entries if status == 202 else 0)
    assert [entry["index"] for entry in answer.json["accepted"] + answer.json["rejected"]] == list(range(entries))
    return answered


def test_large_requests_at_once_are_all_answered_and_stored_also_for_clients_that_left(server: Server) -> None:
    ((before,),) = server.rows(COUNT)
    body, entries = batch_of(GOOD, 60)
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(8)]
        for client in clients:
            client.post(body, "content-type: application/json", path="/orders")
            client.post(GOOD.encode(), "content-type: application/json", path="/orders")
        clients.pop().close()
        for client in clients:
            batch, order = client.answer(), client.answer()
            assert (batch.status, len(batch.json["accepted"]), order.status) == (202, entries, 202)
    wait_for(lambda: server.rows(COUNT)[0][0] - before, lambda stored: stored >= 7 * (entries + 1))


def test_a_server_stops_although_large_requests_wait(tmp_path: Path) -> None:
    body, _ = batch_of(FAULTY)
    with serving(tmp_path / "data", "--workloads", "orders") as server, ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(Client(server)).post(body, "content-type: application/json", path="/orders")
        assert server.get("/health").status == 200
