"""`decoupled serve --auth keys,signatures`: webhooks of others, signed as they sign them, come in once, and nothing
else does."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from decoupled.core import limits
from decoupled.engines.sqlite.keys_file import SendersFile
from tests.support.forged import forged
from tests.support.server import LAUNCH, Answer, Client, Server, decoupled, serving, wait_for
from tests.support.webhooks import OTHERS, SECRETS, SIGN, STRIPE, Headers

PRESETS = ("standard", "stripe", "github")
JSON = {"content-type": "application/json"}
FORGED = 1_000
NUMBERS = itertools.count(1)


def senders(data: Path, *arguments: str, secret: str = "", status: int = 0) -> str:
    """What `decoupled senders ...` prints, with a secret on standard input."""
    return decoupled("senders", *arguments, "--data", data, status=status, input=f"{secret}\n")


def event(amount: int = 1, **more: Any) -> tuple[str, str]:
    """A new one: what its sender calls it, and its body."""
    name = f"evt_{next(NUMBERS)}"
    return name, json.dumps({"id": name, "type": "payment", "amount": amount, **more})


def signed(preset: str, name: str, body: str, secret: str = "", at_s: float | None = None) -> Headers:
    return {**JSON, **SIGN[preset](secret or SECRETS[preset], name, int(at_s or time.time()), body)}


def post(server: Server, body: str, headers: Headers, path: str = "/payments") -> Answer:
    return server.ask("POST", path, body.encode(), headers)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("senders") / "data"
    for preset in PRESETS:
        senders(data, "add", preset, "--preset", preset, "--workloads", "payments", secret=SECRETS[preset])
    return data


@pytest.fixture(scope="module")
def operator(data: Path) -> Headers:
    return {"authorization": f"Bearer {decoupled('keys', 'add', 'ops', '--operator', '--data', data)}"}


@pytest.fixture(scope="module", params=["2", "0"], ids=["fronts", "inside"])
def server(request: pytest.FixtureRequest, data: Path, operator: Headers) -> Iterator[Server]:
    """With two fronts, and with none."""
    options = ("--auth", "keys,signatures", "--workloads", "payments,orders", "--fronts", request.param)
    assert operator
    with serving(data, *options) as server:
        yield server


def totals(server: Server, operator: Headers, preset: str) -> dict[str, int]:
    answer = server.ask("GET", f"/payments/totals/webhook:{preset}", headers=operator)
    return dict(answer.json) if answer.status == 200 else {"events": 0, "amount": 0}


def processed(server: Server, operator: Headers, answer: Answer) -> dict[str, Any]:
    assert answer.status == 202, answer
    where = answer.headers["location"]
    return dict(
        wait_for(lambda: server.ask("GET", where, headers=operator).json, lambda told: told["status"] == "processed")
    )


def caller_of(server: Server, message_id: str) -> str:
    ((caller,),) = server.rows("SELECT caller FROM messages WHERE id = ?", message_id)
    return str(caller)


@pytest.mark.parametrize("preset", PRESETS)
def test_an_event_that_its_sender_sends_again_has_one_effect(preset: str, server: Server, operator: Headers) -> None:
    before = totals(server, operator, preset)
    name, body = event(amount=7, pending_webhooks=2)
    first = post(server, body, signed(preset, name, body))
    processed(server, operator, first)
    later = body.replace('"pending_webhooks": 2', '"pending_webhooks": 1')
    assert later != body
    again = post(server, later, signed(preset, name, later, at_s=time.time() - 60))
    assert (again.status, again.json) == (202, first.json)
    other_name, other = event(amount=1)
    processed(server, operator, post(server, other, signed(preset, other_name, other)))
    after = totals(server, operator, preset)
    assert (after["events"], after["amount"]) == (before["events"] + 2, before["amount"] + 8)


def test_what_senders_send_is_theirs_and_two_that_call_their_events_alike_have_two(
    server: Server, operator: Headers
) -> None:
    name, body = event()
    ids = [processed(server, operator, post(server, body, signed(preset, name, body)))["id"] for preset in PRESETS]
    assert len(set(ids)) == len(PRESETS)
    assert [caller_of(server, each) for each in ids] == ["webhook:standard", "webhook:stripe", "webhook:github"]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_sender_sees_no_records_and_sends_to_no_other_workload(preset: str, server: Server, data: Path) -> None:
    name, body = event()
    headers = signed(preset, name, body)
    where = post(server, body, headers).headers["location"]
    for method, path in (("GET", where), ("GET", "/payments/totals/all"), ("POST", "/orders"), ("POST", "/nothing")):
        answer = server.ask(method, path, body.encode(), headers)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Signature"), path
    for method in ("GET", "PUT", "DELETE"):
        assert server.ask(method, "/payments", body.encode(), headers).status in (403, 405)


def test_what_nobody_has_signed_so_is_not_queued(server: Server) -> None:
    count = "SELECT count(*) FROM messages"
    before = server.rows(count)
    for preset in PRESETS:
        name, body = event()
        headers = signed(preset, name, body)
        forged = [
            (body, signed(preset, name, body, OTHERS[preset])),
            (body.replace("1}", "1000000}"), headers),
            (body + "\n", headers),
            (body, {key: "x" if "signature" in key else value for key, value in headers.items()}),
            (body, {key: value[:-5] if "signature" in key else value for key, value in headers.items()}),
        ]
        if preset != "github":
            forged += [(body, signed(preset, name, body, at_s=time.time() + late)) for late in (-310, 310)]
        for each, these in forged:
            answer = post(server, each, these)
            assert answer.status == 401, these
            assert answer.headers["content-type"] == "application/problem+json"
    assert server.rows(count) == before


def test_of_a_thousand_forged_webhooks_none_is_queued(server: Server) -> None:
    seed = random.randrange(2**32)
    draw, count = random.Random(seed), "SELECT count(*) FROM messages"
    before = server.rows(count)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    for number in range(FORGED):
        headers, body, to = forged(draw, int(time.time()))
        connection.request("POST", f"/{to}", body.encode(), JSON | headers)
        answer = connection.getresponse()
        told = answer.read()
        assert answer.status in (400, 401), f"{told!r} to {headers}, number {number} of seed {seed}"
    connection.close()
    assert server.rows(count) == before


def test_an_event_without_its_sender_s_name_for_it_is_refused_by_what_is_missing(server: Server) -> None:
    name, body = event()
    for preset, missing in (("standard", "webhook-id"), ("github", "x-github-delivery")):
        headers = {key: value for key, value in signed(preset, name, body).items() if key != missing}
        answer = post(server, body, headers)
        assert (answer.status, missing in answer.json["detail"]) == (400, True)
    answer = post(server, "{}", signed("stripe", "", "{}"))
    assert (answer.status, "`id`" in answer.json["detail"]) == (400, True)


def test_headers_that_nobody_has_signed_count_for_nothing(server: Server, operator: Headers) -> None:
    name, body = event()
    more = {"delay": "3600", "idempotency-key": '"another"', "prefer": "wait=5", "callback-url": "https://example.com"}
    answer = post(server, body, signed("stripe", name, body) | more)
    record = processed(server, operator, answer)
    assert answer.json.keys() == {"id", "status_url"}
    assert server.rows("SELECT callback FROM messages WHERE id = ?", record["id"]) == [("",)]
    plain = post(server, body, signed("stripe", name, body))
    assert plain.json["id"] == record["id"]
    assert post(server, body, signed("stripe", name, body) | {"idempotency-key": '"'}).json["id"] == record["id"]


def test_a_form_is_told_to_come_as_json_and_an_event_that_is_none_what_is_wrong(server: Server) -> None:
    name, body = event()
    form = post(server, body, signed("github", name, body) | {"content-type": "application/x-www-form-urlencoded"})
    assert (form.status, "application/json" in form.json["detail"]) == (415, True)
    assert (
        post(server, body, signed("stripe", name, body) | {"content-type": "application/json; charset=utf-8"}).status
        == 202
    )

    batch = f"[{body}]"
    answer = post(server, batch, signed("github", name, batch))
    assert (answer.status, "one event" in answer.json["detail"]) == (422, True)
    ping = '{"zen": "Design for failure.", "hook_id": 1}'
    answer = post(server, ping, signed("github", "72d3162e", ping))
    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "#/type")


def test_a_large_event_is_checked_over_all_of_its_body(server: Server, operator: Headers) -> None:
    name, body = event(note="x" * 200_000)
    assert len(body) > limits.AT_ONCE_BYTES
    for preset in PRESETS:
        processed(server, operator, post(server, body, signed(preset, name, body)))
        assert (
            post(server, body.replace("xx}", "xy}").replace('xx"}', 'xy"}'), signed(preset, name, body)).status == 401
        )


def test_an_api_key_counts_beside_signatures_and_without_one(server: Server, operator: Headers) -> None:
    name, body = event()
    ids = [post(server, body, {**JSON, **operator, **more}).json["id"] for more in ({}, signed("stripe", name, body))]
    assert [caller_of(server, each) for each in ids] == ["key:ops", "key:ops"]
    assert post(server, body, JSON).status == 401


def test_every_front_hears_of_a_sender_that_comes_changes_its_secret_and_goes(server: Server, data: Path) -> None:
    who = f"shop-{server.options[-1]}"

    def statuses(secret: str) -> set[int]:
        name, body = event()
        headers = {**signed("stripe", name, body, secret), "host": "x", "content-length": str(len(body))}
        lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
        clients = [Client(server) for _ in range(12)]
        try:
            for client in clients:
                client.send(f"POST /payments HTTP/1.1\r\n{lines}\r\n{body}".encode())
            return {client.answer().status for client in clients}
        finally:
            for client in clients:
                client.close()

    first, second = f"whsec_{server.options[-1] * 32}", f"whsec_{server.options[-1] * 31}s"
    assert statuses(first) == {401}
    senders(data, "add", who, "--preset", "stripe", "--workloads", "payments", secret=first)
    wait_for(lambda: statuses(first), lambda told: told == {202})
    senders(data, "rotate", who, "--overlap", "1h", secret=second)
    wait_for(lambda: statuses(second), lambda told: told == {202})
    assert statuses(first) == {202}
    senders(data, "rotate", who, "--overlap", "0s", secret=f"{first}0")
    wait_for(lambda: statuses(second), lambda told: told == {401})
    senders(data, "revoke", who)
    wait_for(lambda: statuses(f"{first}0"), lambda told: told == {401})


def test_a_file_that_is_damaged_keeps_no_sender_out(server: Server, data: Path) -> None:
    file = SendersFile(data).path
    good = file.read_bytes()
    file.write_bytes(good[:-3])
    try:
        health = wait_for(lambda: server.get("/health").json, lambda told: told["status"] == "degraded")
        assert "secrets of webhooks count as they were" in wait_for(
            lambda: str(server.get("/health").json.get("detail")), lambda told: "secrets of webhooks" in told
        ), health
        name, body = event()
        assert post(server, body, signed("stripe", name, body)).status == 202
        assert post(server, body, signed("stripe", name, body, OTHERS["stripe"])).status == 401
    finally:
        file.write_bytes(good)
    wait_for(lambda: server.get("/health").json["status"], lambda status: status == "ok")


def test_a_secret_is_in_no_log_and_no_answer(server: Server) -> None:
    name, body = event()
    told = [post(server, body, signed("stripe", name, body, secret)) for secret in (STRIPE, OTHERS["stripe"])]
    texts = [server.log.read_text(), *(answer.body.decode() + str(answer.headers) for answer in told)]
    texts += [Path(f"/proc/{pid}/environ").read_text() for pid in (server.pid, *server.fronts())]
    assert not [text for text in texts if any(secret in text for secret in SECRETS.values())]


# --- alone, and through crashes -----------------------------------------------


def test_where_only_senders_are_let_in_nobody_reads_anything(tmp_path: Path) -> None:
    data = tmp_path / "data"
    senders(data, "add", "till", "--preset", "stripe", "--workloads", "payments", secret=STRIPE)
    with serving(data, "--auth", "signatures", "--workloads", "payments") as server:
        name, body = event()
        answer = post(server, body, signed("stripe", name, body))
        assert answer.status == 202
        for headers in (JSON, {"authorization": "Bearer dk_0"}, {"x-api-key": "dk_0"}):
            refusal = server.ask("GET", answer.headers["location"], headers=headers)
            assert (refusal.status, refusal.headers["www-authenticate"]) == (401, "Signature")
        assert server.get("/health").json["status"] == "ok"


def test_without_a_file_of_senders_it_does_not_start(tmp_path: Path) -> None:
    said = decoupled("serve", "--auth", "signatures", "--data", tmp_path / "data", status=1, cwd=tmp_path)
    assert "keys: decoupled senders add NAME makes it" in said


@pytest.mark.parametrize("point", ["after_insert", "before_commit_of_a_send", "after_commit_of_a_send"])
def test_an_event_that_is_sent_again_after_a_crash_has_one_effect(point: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    senders(data, "add", "till", "--preset", "stripe", "--workloads", "payments", secret=STRIPE)
    operator = {"authorization": f"Bearer {decoupled('keys', 'add', 'ops', '--operator', '--data', data)}"}
    server = Server(data, "--auth", "keys,signatures", "--workloads", "payments", "--fronts", "0")
    try:
        server.spawn(*LAUNCH, point, "1")
        server.wait_until_up()
        name, body = event(amount=3)
        with pytest.raises((OSError, http.client.HTTPException)):
            post(server, body, signed("stripe", name, body))
        assert server.wait() == -signal.SIGKILL, server.logged()
        server.start()
        for _ in range(2):
            processed(server, operator, post(server, body, signed("stripe", name, body)))
        assert totals(server, operator, "till") == {"events": 1, "amount": 3}
    finally:
        server.end()
