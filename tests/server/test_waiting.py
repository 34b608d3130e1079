"""Prefer: wait. A client that likes to wait is answered with what its message came to, if that comes in time; and with
what it would have got otherwise, if not, or if it cannot be had."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from decoupled.engines.sqlite import outage
from tests.support.fronts import front_of, ready, renewed
from tests.support.server import DECOUPLED, LAUNCH, TRIAL, Answer, Client, Server, serving, wait_for

JSON = "content-type: application/json"
SEATS = TRIAL / "workloads/seats.py"
OPTIONS = (
    "--workloads",
    f"hazards,{SEATS},{SEATS}:RELEASES",
    "--concurrency",
    "2",
    "--max-attempts",
    "1",
    "--log-level",
    "ERROR",
)


@pytest.fixture(scope="module", params=["2", "0"], ids=["fronts", "inside"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("waiting") / "data", *OPTIONS, "--fronts", request.param) as server:
        yield server


def post(server: Server, entry: Any, wait: str, path: str = "/hazards", **more: str) -> Answer:
    return server.post(path, entry, prefer=f"wait={wait}", **more)


def late(server: Server) -> str:
    """The path of a message that does not end for an hour."""
    answer = server.post("/hazards", {}, delay="3600")
    assert answer.status == 202, answer
    return answer.headers["location"]


@pytest.mark.parametrize(
    ("act", "status"), [("well", "processed"), ("slow", "processed"), ("reject", "rejected"), ("raise", "dead")]
)
def test_who_waits_is_answered_with_the_record_as_get_shows_it(server: Server, act: str, status: str) -> None:
    answer = post(server, {"act": act, "seconds": 0.3}, "20")
    assert (answer.status, answer.json["status"]) == (200, status)
    assert answer.headers["preference-applied"] == "wait=20"
    assert answer.headers["content-type"] == "application/json"
    shown = server.get(answer.headers["location"])
    assert (shown.status, shown.body) == (200, answer.body)
    assert "preference-applied" not in shown.headers


def test_what_does_not_end_in_time_is_accepted_as_ever(server: Server) -> None:
    answer = post(server, {}, "1", delay="3600")
    assert (answer.status, answer.headers["preference-applied"]) == (202, "wait=1")
    path = answer.headers["location"]
    assert answer.json == {"id": path.rpartition("/")[2], "status_url": path}
    assert server.get(path).json["status"] == "queued"


def test_what_has_ended_before_is_answered_at_once_when_it_is_sent_again(server: Server) -> None:
    first = post(server, {"act": "well"}, "20", idempotency_key="again")
    assert first.status == 200
    again = post(server, {"act": "well"}, "20", idempotency_key="again")
    assert (again.status, again.body) == (200, first.body)


def test_who_sends_the_same_while_it_is_processed_hears_of_its_end_too(server: Server, tmp_path: Path) -> None:
    entry = {"act": "slow", "seconds": 0.5, "touch": str(tmp_path / "begun")}
    with Client(server) as first, Client(server) as second:
        for client in (first, second):
            body = json.dumps(entry).encode()
            client.post(body, JSON, "idempotency-key: twice", "prefer: wait=20", path="/hazards")
            wait_for((tmp_path / "begun").exists)
        answers = [client.answer() for client in (first, second)]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].body == answers[1].body


def test_what_is_refused_is_refused_at_once(server: Server) -> None:
    answer = post(server, {"act": 7}, "20")
    assert answer.status == 422
    assert "preference-applied" not in answer.headers
    sent = post(server, {"act": "well"}, "20", idempotency_key="other")
    assert sent.status == 200
    other = post(server, {"act": "slow"}, "20", idempotency_key="other")
    assert (other.status, "preference-applied" in other.headers) == (422, False)


def test_a_batch_is_answered_as_ever(server: Server) -> None:
    answer = post(server, [{"act": "well"}], "20")
    assert answer.status == 202
    assert "preference-applied" not in answer.headers


@pytest.mark.parametrize("header", ["wait", "wait=x", "wait=-1", "wait=0", "respond-async", ""])
def test_what_is_no_wait_is_none(server: Server, header: str) -> None:
    answer = server.post("/hazards", {"act": "slow", "seconds": 0.3}, prefer=header)
    assert answer.status == 202
    assert "preference-applied" not in answer.headers


def test_no_wait_is_longer_than_there_may_be_one(server: Server) -> None:
    answer = post(server, {}, "86400")
    assert (answer.status, answer.headers["preference-applied"]) == (200, "wait=50")


# --- GET ------------------------------------------------------------------------------


def test_get_waits_for_what_has_not_ended(server: Server) -> None:
    path = server.post("/hazards", {"act": "slow", "seconds": 0.5}).headers["location"]
    answer = server.ask("GET", path, headers={"prefer": "respond-async, wait=20"})
    assert (answer.status, answer.json["status"]) == (200, "processed")
    assert answer.headers["preference-applied"] == "wait=20"
    assert server.get(path).body == answer.body


def test_get_shows_what_has_not_ended_in_time_as_it_is(server: Server) -> None:
    answer = server.ask("GET", late(server), headers={"prefer": "wait=1"})
    assert (answer.status, answer.json["status"], answer.headers["preference-applied"]) == (200, "queued", "wait=1")


def test_get_of_what_has_ended_or_is_not_there_does_not_wait(server: Server) -> None:
    path = post(server, {}, "20").headers["location"]
    for method in ("GET", "HEAD"):
        answer = server.ask(method, path, headers={"prefer": "wait=20"})
        assert (answer.status, "preference-applied" in answer.headers) == (200, False)
    assert server.ask("GET", f"/hazards/{'0' * 40}", headers={"prefer": "wait=20"}).status == 404
    assert server.ask("GET", "/nothing/here", headers={"prefer": "wait=20"}).status == 404


def test_a_listing_is_none_to_wait_for(server: Server) -> None:
    answer = server.ask("GET", "/seats/taken", headers={"prefer": "wait=20"})
    assert (answer.status, "preference-applied" in answer.headers) == (200, False)


def test_what_a_person_gives_up_is_told_to_who_waits(server: Server, tmp_path: Path) -> None:
    """A dead letter has ended; put back, it has not."""
    once = tmp_path / "once"
    entry = {"act": "raise", "once": str(once)}
    path = post(server, entry, "20").headers["location"]
    assert server.get(path).json["status"] == "dead"
    dead = [str(DECOUPLED), "dead", "redrive", path.rpartition("/")[2], "--data", str(server.data)]
    assert subprocess.run(dead, capture_output=True, timeout=60, check=False).returncode == 0
    answer = server.ask("GET", path, headers={"prefer": "wait=20"})
    assert answer.json["status"] == "processed"


# --- who goes, and who must -----------------------------------------------------------


def test_a_client_that_leaves_is_forgotten_and_its_message_is_not(server: Server, tmp_path: Path) -> None:
    with Client(server) as client:
        entry = {"act": "slow", "seconds": 0.5, "touch": str(tmp_path / "begun")}
        client.post(json.dumps(entry).encode(), JSON, "idempotency-key: leaves", "prefer: wait=20", path="/hazards")
        wait_for((tmp_path / "begun").exists)
    answer = post(server, entry, "20", idempotency_key="leaves")
    assert (answer.status, answer.json["status"]) == (200, "processed")


def test_what_is_pipelined_behind_who_waits_comes_after_it(server: Server) -> None:
    with Client(server) as client:
        client.post(b'{"act": "slow", "seconds": 0.3}', JSON, "prefer: wait=20", path="/hazards")
        client.post(b"{}", JSON, path="/hazards")
        assert [client.answer().status for _ in range(2)] == [200, 202]


def waiting(server: Server) -> Client:
    """A client that waits for what does not end; what it has sent is on the queue."""
    client = Client(server)
    ((before,),) = server.rows("SELECT count(*) FROM messages")
    client.post(b"{}", JSON, "prefer: wait=50", "delay: 3600", path="/hazards")
    wait_for(lambda: server.rows("SELECT count(*) FROM messages"), lambda rows: rows == [(before + 1,)])
    return client


@pytest.mark.parametrize("fronts", ["2", "0"])
def test_who_waits_when_the_server_stops_is_answered(tmp_path: Path, fronts: str) -> None:
    with serving(tmp_path / "data", *OPTIONS, "--fronts", fronts) as server:
        path = late(server)
        with waiting(server) as sender, Client(server) as reader:
            reader.send(f"GET {path} HTTP/1.1\r\nhost: x\r\nprefer: wait=50\r\n\r\n".encode())
            os.kill(server.pid, signal.SIGTERM)
            answer = sender.answer()
            assert (answer.status, answer.headers["connection"]) == (202, "close")
            with contextlib.suppress(ConnectionResetError, IndexError):  # it may not have been read before the end
                assert reader.answer().json["status"] == "queued"


def test_who_waits_at_a_front_that_is_renewed_is_answered(tmp_path: Path) -> None:
    with serving(tmp_path / "data", *OPTIONS, "--fronts", "2") as server:
        before = ready(server, 2)
        with waiting(server) as client:
            os.kill(server.pid, signal.SIGHUP)
            renewed(server, before, 2)
            answer = client.answer()
            assert (answer.status, answer.headers["connection"]) == (202, "close")


def test_what_is_sent_through_a_front_that_dies_is_waited_for_at_another(tmp_path: Path) -> None:
    with serving(tmp_path / "data", *OPTIONS, "--fronts", "2") as server:
        ready(server, 2)
        entry = {"act": "slow", "seconds": 1.0, "touch": str(tmp_path / "begun")}
        with Client(server) as client:
            client.post(json.dumps(entry).encode(), JSON, "idempotency-key: dies", "prefer: wait=50", path="/hazards")
            wait_for((tmp_path / "begun").exists)
            victim = front_of(server, client)
            assert victim is not None
            os.kill(victim, signal.SIGKILL)
        answer = post(server, entry, "50", idempotency_key="dies")
        assert (answer.status, answer.json["status"]) == (200, "processed")
        assert wait_for(lambda: server.get("/health").json, lambda it: it["status"] == "ok")


def test_where_too_many_wait_a_further_one_is_answered_as_ever(tmp_path: Path) -> None:
    program, options = (*LAUNCH, "limits", "MAX_HEARERS=2"), (*OPTIONS, "--fronts", "0")
    with serving(tmp_path / "data", *options, program=program) as server, waiting(server), waiting(server) as second:
        answer = post(server, {}, "50", delay="3600")
        assert (answer.status, "preference-applied" in answer.headers) == (202, False)
        answer = server.ask("GET", answer.headers["location"], headers={"prefer": "wait=50"})
        assert (answer.status, answer.json["status"]) == (200, "queued")
        second.close()
        wait_for(lambda: post(server, {}, "20").headers, lambda headers: "preference-applied" in headers)


def test_the_table_s_trouble_is_none_of_who_waits(tmp_path: Path) -> None:
    """What is accepted is accepted."""
    with serving(tmp_path / "data", *OPTIONS, "--fronts", "1") as server, Client(server) as client:
        entry = {"act": "slow", "seconds": 1.0, "touch": str(tmp_path / "begun")}
        client.post(json.dumps(entry).encode(), JSON, "prefer: wait=2", path="/hazards")
        wait_for((tmp_path / "begun").exists)
        outage.begin(server.data, 60)
        assert client.answer().status == 202
        outage.end(server.data)
