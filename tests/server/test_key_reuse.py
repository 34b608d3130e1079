"""One Idempotency-Key with two entries: the first one counts, and the other one is refused, in whatever request it
comes. With fronts and without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Answer, Client, Server, serving, wait_for

ENTRY, OTHER = {"account": 1, "amount": 1}, {"account": 1, "amount": 2}


@pytest.fixture(params=["2", "0"], ids=["fronts", "inside"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    options = ("--workloads", "ledger,echoes,readings", "--fronts", request.param)
    with serving(tmp_path / "data", *options) as server:
        yield server


def post(server: Server, entry: Any, key: str, path: str = "/ledger") -> Answer:
    return server.post(path, entry, idempotency_key=key)


def is_reuse(problem: dict[str, Any]) -> bool:
    return problem["status"] == 422 and "Idempotency-Key" in problem["detail"] and "resend" not in problem


def test_another_entry_under_a_key_is_refused_while_the_first_waits_and_when_it_is_done(server: Server) -> None:
    first = post(server, ENTRY, "a")
    assert first.status == 202
    refused = post(server, OTHER, "a")
    assert (refused.status, refused.headers["content-type"]) == (422, "application/problem+json")
    assert is_reuse(refused.json), refused.json
    path = first.json["status_url"]
    server.wait_until("processed", path)
    assert is_reuse(post(server, OTHER, "a").json)
    again = server.ask(
        "POST",
        "/ledger",
        b' {"amount": 1,\n"account": 1}',
        {"content-type": "application/json", "idempotency-key": "a"},
    )
    assert (again.status, again.json) == (202, first.json)
    server.wait_until_settled()
    assert server.get("/ledger/accounts/1").json == {"entries": 1, "total": 1}


def test_of_a_batch_the_entries_that_another_one_stands_for_are_refused_alone(server: Server) -> None:
    first = post(server, [ENTRY] * 3, "b")
    mixed = post(server, [ENTRY, OTHER, {"account": "?"}, ENTRY, ENTRY], "b")
    assert mixed.status == 202
    assert [it["index"] for it in mixed.json["accepted"]] == [0, 3, 4]
    assert [it["index"] for it in mixed.json["rejected"]] == [1, 2]
    assert is_reuse(mixed.json["rejected"][0]), mixed.json
    assert mixed.json["accepted"][0]["id"] == first.json["accepted"][0]["id"]
    all_refused = post(server, [OTHER, OTHER], "b")
    assert (all_refused.status, all_refused.json["accepted"]) == (422, [])
    server.wait_until_settled()
    assert server.get("/ledger/accounts/1").json == {"entries": 5, "total": 5}


def test_of_two_entries_that_come_under_one_key_at_once_one_is_accepted_and_the_other_refused(server: Server) -> None:
    entries = [json.dumps({"account": 2, "amount": amount}).encode() for amount in (1, 2, 1)]
    for number in range(30):
        headers = ("content-type: application/json", f"idempotency-key: at-once-{number}")
        with Client(server) as one, Client(server) as two, Client(server) as three:
            for client, body in zip((one, two, three), entries, strict=True):
                client.post(body, *headers)
            statuses = [client.answer().status for client in (one, two, three)]
        assert statuses in ([202, 422, 202], [422, 202, 422]), statuses
    server.wait_until_settled()
    assert server.get("/ledger/accounts/2").json["entries"] == 30


def test_a_natural_key_is_not_compared_and_the_first_entry_counts(server: Server) -> None:
    reading = {"device": "d-1", "at": "2026-11-23T10:00:00Z", "value": 20.5}
    first = post(server, reading, "a", "/readings")
    other = post(server, {**reading, "value": 21}, "a", "/readings")
    assert (first.status, other.status) == (202, 202), first.body
    assert first.json == other.json


def test_a_key_outlives_a_crash(server: Server) -> None:
    assert post(server, ENTRY, "c").status == 202
    server.kill()
    server.start()
    assert is_reuse(post(server, OTHER, "c").json)
    assert post(server, ENTRY, "c").status == 202
    wait_for(lambda: server.get("/ledger/accounts/1").json, lambda item: item.get("entries") == 1)
