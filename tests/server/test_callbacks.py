"""A client that names a Callback-Url is told by HTTP, once in effect, through crashes and while its receiver is away.
What it gets is checked as receivers do, by the library of Standard Webhooks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook as Verifier

from decoupled.core.dead_letters import PURGED
from tests.support.events import ORDER
from tests.support.receivers import HttpReceiver, http_receiver
from tests.support.server import DECOUPLED, LAUNCH, Answer, Server, serving, wait_for

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SETTINGS = {"WEBHOOK_SECRET": SECRET, "WEBHOOK_TRUSTED_HOSTS": "127.0.0.1,localhost"}
WORKLOADS = ("--workloads", "orders,transactions,hazards,notifications", "--max-attempts", "2")
Told = tuple[str, dict[str, Any]]  # webhook-id, content


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as running:
        yield running


@contextmanager
def server_of(data: Path, *options: str) -> Iterator[Server]:
    with serving(data, *WORKLOADS, *options, environment=SETTINGS) as server:
        yield server


@pytest.fixture(params=["0", "2"], ids=["one process", "two fronts"])
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    with server_of(tmp_path / "data", "--fronts", request.param) as running:
        yield running


def send(server: Server, receiver: HttpReceiver, path: str, entry: Any, host: str = "127.0.0.1", **more: str) -> Answer:
    answer = server.post(path, entry, callback_url=f"http://{host}:{receiver.port}/hooks?a=1", **more)
    assert answer.status == 202, answer
    return answer


def told(receiver: HttpReceiver) -> list[Told]:
    """What the receiver was told and believes, the signature included."""
    return [(headers["webhook-id"], Verifier(SECRET).verify(body, headers)) for _, headers, body in receiver.requests]


def heard(receiver: HttpReceiver, of: int = 1) -> dict[str, dict[str, Any]]:
    """What it knows once it has heard of so many messages, by their ids."""
    contents = wait_for(lambda: dict(told(receiver)), lambda it: len(it) >= of, seconds=40)
    assert len(contents) == of
    return {content["data"]["id"]: content for content in contents.values()}


# --- told -----------------------------------------------------------------------


def test_what_became_of_each_is_told_as_get_shows_it(server: Server, receiver: HttpReceiver) -> None:
    overdrawn = {"kind": "transfer", "from_account": "a", "to_account": "b", "currency": "EUR", "amount": "1"}
    order = send(server, receiver, "/orders", ORDER).json["status_url"]
    by_condition = send(server, receiver, "/transactions", overdrawn).json["status_url"]
    by_rule = send(server, receiver, "/hazards", {"act": "reject"}).json["status_url"]
    contents = heard(receiver, of=3)
    for url, type_ in (
        (order, "orders.processed"),
        (by_condition, "transactions.rejected"),
        (by_rule, "hazards.rejected"),
    ):
        record = server.get(url).json
        content = contents[record["id"]]
        assert content.keys() == {"type", "timestamp", "data"}
        assert (content["type"], content["data"]) == (type_, record)
    assert {path for path, _, _ in receiver.requests} == {"/hooks?a=1"}


def test_each_entry_of_a_batch_is_told_of_and_nobody_elses(server: Server, receiver: HttpReceiver) -> None:
    server.accept("/orders", ORDER)
    answer = send(server, receiver, "/orders", [ORDER, {"bad": 1}, *[ORDER] * 40])
    ids = {accepted["id"] for accepted in answer.json["accepted"]}
    assert heard(receiver, of=41).keys() == ids
    server.wait_until_settled()
    assert len(receiver.requests) == 41


def test_of_a_resend_with_another_url_the_first_counts(server: Server, receiver: HttpReceiver) -> None:
    send(server, receiver, "/orders", ORDER, idempotency_key="a")
    send(server, receiver, "/orders", ORDER, host="localhost", idempotency_key="a")
    heard(receiver)
    server.wait_until_settled()
    ((_, headers, _),) = receiver.requests
    assert headers["host"].startswith("127.0.0.1")


def test_what_cannot_be_called_back_is_not_accepted(server: Server) -> None:
    for url, why in (("http://shop.example/", "only https"), ("https://10.0.0.1/", "not a public address")):
        answer = server.post("/orders", ORDER, callback_url=url)
        assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")
        assert why in answer.json["detail"]
    assert server.statuses() == {}


def test_what_is_dead_is_told_of_when_a_person_has_decided(server: Server, receiver: HttpReceiver) -> None:
    purged = send(server, receiver, "/hazards", {"act": "raise"}).json["id"]
    redriven = send(server, receiver, "/hazards", {"act": "raise", "once": str(server.data / "once")}).json["id"]
    server.wait_until("processed", f"/hazards/{redriven}", seconds=60)  # it failed once, and then did not
    server.wait_until("dead", f"/hazards/{purged}", seconds=90)
    assert heard(receiver).keys() == {redriven}
    command = [str(DECOUPLED), "dead", "purge", "--all", "--yes", "--data", str(server.data)]
    assert "1 purged" in subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    content = heard(receiver, of=2)[purged]
    assert (content["type"], content["data"]["reason"]) == ("hazards.rejected", PURGED)
    assert content["data"] == server.get(f"/hazards/{purged}").json


# --- once in effect, whatever happens ---------------------------------------------


def test_a_receiver_that_is_away_is_told_when_it_is_back(server: Server, receiver: HttpReceiver) -> None:
    receiver.reply = lambda: (503, {})
    ids = {send(server, receiver, "/orders", ORDER).json["id"] for _ in range(3)}
    wait_for(lambda: receiver.requests)
    receiver.reply = lambda: (204, {})
    assert heard(receiver, of=3).keys() == ids
    server.wait_until_settled(seconds=40)
    assert len({webhook_id for webhook_id, _ in told(receiver)}) == 3  # every repetition under the id of the first


def test_a_server_that_is_killed_before_it_has_told_does_so_afterwards(tmp_path: Path, receiver: HttpReceiver) -> None:
    receiver.reply = lambda: (503, {})
    server = Server(tmp_path / "data", *WORKLOADS)
    server.environment = SETTINGS
    try:
        server.start()
        ids = [send(server, receiver, "/orders", ORDER).json["id"] for _ in range(20)]
        server.wait_until("processed", *[f"/orders/{message_id}" for message_id in ids])
        server.kill()
        receiver.reply = lambda: (204, {})
        server.start()
        assert heard(receiver, of=20).keys() == set(ids)
        server.wait_until_settled(seconds=40)
        assert server.stop() == 0
    finally:
        server.end()


@pytest.mark.parametrize("point", ["before_commit_of_a_settlement", "after_commit_of_a_settlement"])
def test_a_crash_at_the_commit_loses_no_callback_and_makes_none_up(
    tmp_path: Path, receiver: HttpReceiver, point: str
) -> None:
    server = Server(tmp_path / "data", *WORKLOADS, program=(*LAUNCH, point, "1"))
    server.environment = SETTINGS
    try:
        server.start()
        message_id = send(server, receiver, "/orders", ORDER).json["id"]
        server.wait()
        server.program = (str(DECOUPLED),)
        server.start()
        assert heard(receiver).keys() == {message_id}
        server.wait_until_settled(seconds=40)
        assert server.rows("SELECT count(*) FROM messages WHERE workload = 'notifications'") == [(1,)]
        assert server.stop() == 0
    finally:
        server.end()


def test_a_receiver_that_was_told_when_the_server_died_can_tell_a_repetition(
    tmp_path: Path, receiver: HttpReceiver
) -> None:
    server = Server(tmp_path / "data", *WORKLOADS)
    server.environment = SETTINGS

    def killed_meanwhile() -> tuple[int, dict[str, str]]:
        if len(receiver.requests) == 1:
            server.kill()
        return 204, {}

    receiver.reply = killed_meanwhile
    try:
        server.start()
        message_id = send(server, receiver, "/orders", ORDER).json["id"]
        wait_for(server.ended)
        server.end()
        server.start()
        wait_for(lambda: len(receiver.requests) >= 2, seconds=40)
        assert heard(receiver).keys() == {message_id}
        assert json.loads(receiver.requests[0][2]) == json.loads(receiver.requests[1][2])
        assert server.stop() == 0
    finally:
        server.end()
