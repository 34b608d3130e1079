"""A caller's rate and its share of what waits, over HTTP: who floods is refused, whichever front it meets, and nobody
else is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import http_sf
import pytest

from tests.support import api_tools
from tests.support.events import ORDER
from tests.support.server import DECOUPLED, Answer, Server, serving, wait_for

FRONTS = pytest.mark.parametrize("fronts", ["2", "0"])
RATE = 5
FLOOD = 400  # requests: far faster than that, however slow the machine is
SENDERS = 8


def decoupled(*arguments: str | Path, status: int = 0) -> str:
    """What a command prints, or what it says when it fails."""
    typed = [str(DECOUPLED), *map(str, arguments)]
    done = subprocess.run(typed, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return (done.stderr if status else done.stdout).strip()


def keys(data: Path, *arguments: str, status: int = 0) -> str:
    return decoupled("keys", *arguments, "--data", data, status=status)


def post(server: Server, key: str | None, entry: Any = ORDER, path: str = "/orders", **more: str) -> Answer:
    headers = {"content-type": "application/json", **more}
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    return server.ask("POST", path, json.dumps(entry).encode(), headers)


def queued(server: Server, caller: str) -> int:
    ((count,),) = server.rows("SELECT count(*) FROM messages WHERE caller = ? AND status = 'queued'", caller)
    return int(count)


# --- the rate -----------------------------------------------------------------


@FRONTS
def test_who_floods_has_its_rate_and_the_other_ones_requests_are_all_accepted(tmp_path: Path, fronts: str) -> None:
    data = tmp_path / "data"
    ana, ben = keys(data, "add", "ana", "--rate", str(RATE)), keys(data, "add", "ben")
    with serving(data, "--auth", "keys", "--fronts", fronts) as server, ThreadPoolExecutor(SENDERS) as pool:
        began = time.monotonic()
        flood = [pool.submit(post, server, ana) for _ in range(FLOOD)]
        others = [post(server, ben).status for _ in range(100)]
        answers = [future.result() for future in flood]
        seconds = time.monotonic() - began
        assert others == [202] * 100
        accepted = [answer for answer in answers if answer.status == 202]
        assert {answer.status for answer in answers} == {202, 429}
        assert RATE <= len(accepted) <= RATE * (seconds + 1) + 1
        ((stored,),) = server.rows("SELECT count(*) FROM messages WHERE caller = 'key:ana'")
        assert stored == len(accepted)


@FRONTS
def test_a_refusal_says_when_to_come_back_in_fields_that_others_can_read(tmp_path: Path, fronts: str) -> None:
    with serving(tmp_path / "data", "--fronts", fronts, "--caller-rate", "0.01", "--caller-waiting", "50") as server:
        assert post(server, None).status == 202
        refused = post(server, None)
        assert (refused.status, refused.headers["content-type"]) == (429, "application/problem+json")
        assert refused.json == {
            "type": "about:blank",
            "title": "Too Many Requests",
            "status": 429,
            "detail": "Not accepted: no more than 0.01 messages a second are taken of this caller",
            "resend": "safe",
        }
        wait_s = int(refused.headers["retry-after"])
        assert 1 <= wait_s <= 100
        assert fields(refused) == (
            [("caller", {"q": 1, "w": 100}), ("waiting", {"q": 50})],
            [("caller", {"r": 0, "t": wait_s})],
        )
        batch = post(server, None, [ORDER, {"no": "order"}, ORDER])
        assert (batch.status, batch.json["accepted"]) == (429, [])
        assert [entry["status"] for entry in batch.json["rejected"]] == [429, 422, 429]
        assert fields(batch)[0] == fields(refused)[0]
        assert 1 <= int(batch.headers["retry-after"]) <= 100


def fields(answer: Answer) -> tuple[Any, Any]:
    """RateLimit-Policy and RateLimit, as an implementation of structured fields reads them."""
    policy, left = (answer.headers[name].encode() for name in ("ratelimit-policy", "ratelimit"))
    return http_sf.parse(policy, tltype="list"), http_sf.parse(left, tltype="list")


def test_a_batch_is_let_in_whole_and_then_its_caller_waits(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--fronts", "2", "--caller-rate", "5") as server:
        assert len(server.accept("/orders", *[ORDER] * 1_000)) == 1_000
        refused = post(server, None)
        assert refused.status == 429
        assert 150 < int(refused.headers["retry-after"]) <= 200


def test_the_rate_of_a_key_is_changed_and_reaches_a_running_server(tmp_path: Path) -> None:
    data = tmp_path / "data"
    ana = keys(data, "add", "ana", "--rate", "0.001")
    with serving(data, "--auth", "keys", "--fronts", "2") as server:
        assert [post(server, ana).status for _ in range(3)] == [202, 429, 429]
        assert keys(data, "change", "ana", "--rate", "1000") == ""
        assert "1000/s" in keys(data, "list")
        wait_for(lambda: post(server, ana).status == 202)
        second = keys(data, "rotate", "ana", "--overlap", "1h")
        assert keys(data, "list").count("1000/s") == 2
        keys(data, "change", "ana", "--rate", "none")
        assert keys(data, "list").count("as all") == 2
        wait_for(lambda: post(server, second).status == 202)
    for rate, why in (("fast", "'fast' is no number"), ("0", "0.001 to 1,000,000"), ("nan", "0.001 to 1,000,000")):
        assert why in keys(data, "change", "ana", "--rate", rate, status=2)
    assert "there is no caller 'eve'" in keys(data, "change", "eve", "--rate", "5", status=1)
    assert "0.001 to 1,000,000" in keys(data, "add", "eve", "--rate", "0", status=2)


# --- the share of what waits --------------------------------------------------


@pytest.fixture(params=["2", "0"], ids=["fronts", "inside"])
def shut(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Server, str, str, Path]]:
    """A server whose callers may have a hundred messages waiting, two of their keys, and a gate that all wait at."""
    data = tmp_path / "data"
    ana, ben = keys(data, "add", "ana"), keys(data, "add", "ben")
    gate = tmp_path / "open"
    options = ("--auth", "keys", "--fronts", request.param, "--workloads", "gates", "--caller-waiting", "100")
    with serving(data, *options, "--function-timeout", "120") as server:
        yield server, ana, ben, gate
        gate.touch()


def test_no_more_of_a_caller_wait_than_may_and_what_is_processed_makes_room(
    shut: tuple[Server, str, str, Path],
) -> None:
    server, ana, ben, gate = shut
    entry = {"file": str(gate)}
    with ThreadPoolExecutor(SENDERS) as pool:
        answers = list(pool.map(lambda _: post(server, ana, entry, "/gates"), range(110)))
    assert sorted(answer.status for answer in answers) == [202] * 100 + [429] * 10
    assert queued(server, "key:ana") == 100
    refused = post(server, ana, entry, "/gates")
    assert refused.json["detail"] == "Not accepted: no more than 100 messages of this caller may wait"
    assert refused.json["resend"] == "safe"
    assert refused.headers["retry-after"] == "5"
    assert fields(refused) == ([("waiting", {"q": 100})], [("waiting", {"r": 0, "t": 5})])
    assert post(server, ben, entry, "/gates").status == 202
    gate.touch()
    wait_for(lambda: post(server, ana, entry, "/gates").status == 202)


def test_a_batch_of_more_than_may_ever_wait_is_refused_for_good(shut: tuple[Server, str, str, Path]) -> None:
    server, ana, _, gate = shut
    refused = post(server, ana, [{"file": str(gate)}] * 101, "/gates")
    assert refused.status == 422
    assert "these are 101" in refused.json["rejected"][0]["detail"]
    assert "resend" not in refused.json["rejected"][0]


def test_what_is_emitted_for_a_caller_takes_its_room(shut: tuple[Server, str, str, Path]) -> None:
    server, ana, ben, gate = shut
    first = post(server, ana, {"file": str(gate), "others": 98}, "/gates").json["status_url"]
    wait_for(
        lambda: server.rows("SELECT status FROM messages WHERE id = ?", first.rpartition("/")[2]) == [("processed",)]
    )
    entry = {"file": str(gate)}
    for _ in range(2):  # what was processed makes room at the next count, a tenth of a second later
        wait_for(lambda: post(server, ana, entry, "/gates").status == 202)
    assert post(server, ana, entry, "/gates").status == 429
    assert queued(server, "key:ana") == 100
    assert post(server, ben, entry, "/gates").status == 202


def test_what_waits_still_counts_after_a_crash_and_when_the_fronts_are_renewed(
    shut: tuple[Server, str, str, Path],
) -> None:
    server, ana, _, gate = shut
    entry = {"file": str(gate)}
    assert post(server, ana, [entry] * 60, "/gates").status == 202
    server.kill()
    server.start()
    assert post(server, ana, [entry] * 40, "/gates").status == 202
    os.kill(server.pid, signal.SIGHUP)
    for _ in range(20):
        assert post(server, ana, entry, "/gates").status == 429
    assert queued(server, "key:ana") == 100


def test_the_index_that_counts_is_there_only_while_it_is_needed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    named = "SELECT count(*) FROM sqlite_schema WHERE name = 'messages_waiting'"
    for options, there in (((), 0), (("--caller-waiting", "5"), 1), (("--caller-waiting", "6"), 1), ((), 0)):
        with serving(data, *options) as server:
            assert server.rows(named) == [(there,)]
            assert post(server, None).status == 202


# --- what is told -------------------------------------------------------------


def test_health_status_and_the_log_say_who_is_refused_and_no_secret(tmp_path: Path) -> None:
    data = tmp_path / "data"
    ana = keys(data, "add", "ana", "--rate", "0.001")
    with serving(data, "--auth", "keys", "--fronts", "2") as server:
        assert server.get("/health").json["limited"] == {"callers": 0, "worst": []}
        assert [post(server, ana).status for _ in range(4)] == [202, 429, 429, 429]
        health = server.get("/health").json
        assert (health["status"], health["limited"]["callers"]) == ("ok", 1)
        (worst,) = health["limited"]["worst"]
        why = "no more than 0.001 messages a second are taken of this caller"
        assert (worst["caller"], worst["why"], worst["messages"]) == ("key:ana", why, 3)
        told = json.loads(decoupled("status", "--data", data, "--json", "--every", "100ms"))
        assert told["limited"]["worst"][0]["caller"] == "key:ana"
        shown = decoupled("status", "--data", data, "--every", "100ms")
        assert "key:ana: no more than 0.001" in " ".join(shown.split())
        lines = wait_for(lambda: [it for it in server.log_lines() if it["message"] == "a caller is refused"])
        assert [(line["caller"], line["why"]) for line in lines] == [("key:ana", why)]
        assert ana[16:] not in server.log.read_text() + json.dumps(health)


def test_a_server_that_refuses_callers_does_what_the_document_says(tmp_path: Path) -> None:
    limits = ("--caller-rate", "1", "--caller-waiting", "20")
    with serving(tmp_path / "data", "--fronts", "2", "--workloads", "readings", *limits) as server:
        document = server.get("/openapi.json").json
        assert document["paths"]["/readings"]["post"]["responses"]["429"]
        assert {"RateLimit", "RateLimit-Policy"} <= document["components"]["headers"].keys()
        api_tools.conforms(document, server.url, tmp_path, 15, "--include-path-regex", "readings")
        assert server.get("/health").json["limited"]["worst"][0]["caller"] == "anonymous"
