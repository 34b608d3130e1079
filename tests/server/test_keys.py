"""`decoupled serve --auth keys`: who is asked, whose a record is, and how a running server hears of changed keys."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from decoupled.core.identifiers import derived_id
from decoupled.engines.sqlite.keys_file import KeysFile
from decoupled.server.fronts.seats import AHEAD
from decoupled.server.listening import bind, refuse_strangers
from decoupled.server.options import Options
from tests.support.events import ORDER
from tests.support.server import ROOT, Answer, Client, Server, decoupled, free_port, serving, wait_for

JSON = {"content-type": "application/json"}
ENTRY = {"account": 1, "amount": 1}


def keys(data: Path, *arguments: str) -> str:
    """What `decoupled keys ...` prints."""
    return decoupled("keys", *arguments, "--data", data)


def with_key(key: str, **more: str) -> dict[str, str]:
    return {**JSON, "authorization": f"Bearer {key}", **more}


def post(server: Server, path: str, entry: Any, headers: Mapping[str, str]) -> Answer:
    return server.ask("POST", path, json.dumps(entry).encode(), headers)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "data"


@pytest.fixture(scope="module")
def ana(data: Path) -> str:
    return keys(data, "add", "ana")


@pytest.fixture(scope="module")
def ben(data: Path) -> str:
    return keys(data, "add", "ben")


@pytest.fixture(scope="module")
def operator(data: Path) -> str:
    return keys(data, "add", "ops", "--operator")


@pytest.fixture(scope="module", params=["2", "0"], ids=["fronts", "inside"])
def server(request: pytest.FixtureRequest, data: Path, ana: str, ben: str, operator: str) -> Iterator[Server]:
    """With two fronts, and with none."""
    with serving(data, "--auth", "keys", "--workloads", "ledger,echoes,orders", "--fronts", request.param) as server:
        yield server


def status_of(server: Server, key: str, path: str = "/orders/nothing") -> int:
    return server.ask("GET", path, headers=with_key(key)).status


def everywhere(server: Server, key: str, path: str = "/orders/nothing") -> set[int]:
    """What all fronts say. So many clients at once are of no single front."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(3 * AHEAD)]
        for client in clients:
            client.send(f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n".encode())
        return {client.answer().status for client in clients}


def wait_until_all_say(status: int, server: Server, key: str, path: str = "/orders/nothing") -> None:
    wait_for(lambda: everywhere(server, key, path), lambda told: told == {status})


def test_who_has_no_key_is_told_to_send_one_and_health_is_for_all(server: Server) -> None:
    for method, path in (("POST", "/orders"), ("GET", "/orders/x"), ("GET", "/no/such/route/at/all")):
        answer = server.ask(method, path, b"{}" if method == "POST" else None, JSON)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["status"] == 401
    assert server.get("/health").json["status"] == "ok"


def test_two_callers_with_one_idempotency_key_have_two_payments_and_each_sees_its_own(
    server: Server, ana: str, ben: str, operator: str
) -> None:
    paths = {}
    for key in (ana, ben):
        answers = [post(server, "/orders", ORDER, with_key(key, **{"idempotency-key": "1001"})) for _ in range(2)]
        assert [answer.status for answer in answers] == [202, 202]
        assert answers[0].json == answers[1].json
        paths[key] = answers[0].json["status_url"]
    assert paths[ana] != paths[ben]
    for key, other in ((ana, ben), (ben, ana)):
        wait_for(lambda key=key: server.ask("GET", paths[key], headers=with_key(key)).json["status"] == "processed")  # type: ignore[misc]
        theirs = server.ask("GET", paths[other], headers=with_key(key))
        nothing = server.ask("GET", f"/orders/{'0' * 40}", headers=with_key(key))
        assert (theirs.status, theirs.body) == (nothing.status, nothing.body) == (404, nothing.body)
        assert status_of(server, operator, paths[other]) == 200
    assert server.rows("SELECT DISTINCT caller FROM messages WHERE workload = 'orders' ORDER BY caller") == [
        ("key:ana",),
        ("key:ben",),
    ]


def test_what_is_emitted_is_the_same_caller_s(server: Server, ana: str, ben: str) -> None:
    answer = post(server, "/ledger", ENTRY, with_key(ana))
    assert answer.status == 202, answer
    path = answer.json["status_url"]
    wait_for(lambda: server.ask("GET", path, headers=with_key(ana)).json["status"] == "processed")
    emitted = derived_id(answer.json["id"], "emit", "0")
    assert server.rows("SELECT workload, caller FROM messages WHERE id = ?", emitted) == [("echoes", "key:ana")]


def test_items_are_for_their_owners_and_for_operators_unless_they_are_public(
    server: Server, ana: str, ben: str, operator: str
) -> None:
    account = f"/ledger/accounts/{server.port}"

    def entries() -> Any:
        return server.ask("GET", account, headers=with_key(operator)).json.get("entries")

    post(server, "/ledger", {"account": server.port, "amount": 1}, with_key(ana))
    wait_for(entries, lambda count: count == 1)
    post(server, "/ledger", {"account": server.port, "amount": 1}, with_key(ben))
    wait_for(entries, lambda count: count == 2)
    assert server.ask("GET", account, headers=with_key(ana)).json == {"entries": 2, "total": 2}
    others = server.ask("GET", account, headers=with_key(ben))
    nothing = server.ask("GET", "/ledger/accounts/77", headers=with_key(operator))
    assert (others.status, others.body) == (404, nothing.body)


def test_a_key_for_one_workload_opens_no_other(server: Server, data: Path) -> None:
    name = f"till-{server.options[-1]}"
    key = keys(data, "add", name, "--workloads", "ledger")
    wait_until_all_say(404, server, key, "/ledger/x")
    assert post(server, "/orders", ORDER, with_key(key)).status == 403


def test_every_front_hears_of_a_new_key_and_of_one_that_is_revoked_or_rotated(server: Server, data: Path) -> None:
    name = f"cem-{server.options[-1]}"
    first = keys(data, "add", name)
    wait_until_all_say(404, server, first)
    second = keys(data, "rotate", name, "--overlap", "1h")
    wait_until_all_say(404, server, second)
    assert everywhere(server, first) == {404}
    third = keys(data, "rotate", name, "--overlap", "0s")
    wait_until_all_say(401, server, second)
    assert everywhere(server, third) == {404}
    keys(data, "revoke", name)
    wait_until_all_say(401, server, third)


def test_a_file_that_is_damaged_lets_nobody_in_and_keeps_nobody_out(server: Server, data: Path, ana: str) -> None:
    wait_for(lambda: server.get("/health").json["fronts"] == int(server.options[-1]))
    file = KeysFile(data).path
    good = file.read_bytes()
    file.write_bytes(good[:-3])
    try:
        health = wait_for(lambda: server.get("/health").json, lambda told: told["status"] == "degraded")
        assert "API keys count as they were" in health["detail"]
        assert "is damaged" in health["detail"]
        assert status_of(server, ana) == 404
        assert status_of(server, ana.replace("dk_", "dk_0")) == 401
        assert server.get("/orders/x").status == 401
    finally:
        file.write_bytes(good)
    wait_for(lambda: server.get("/health").json["status"], lambda status: status == "ok")
    assert "the API keys cannot be read" in [line["message"] for line in server.log_lines()]


def asked(server: Server) -> dict[str, Any]:
    """What it says of its health; nothing if the front that was asked has just died."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return dict(server.get("/health").json)
    return {}


def test_a_front_that_starts_while_no_keys_can_be_read_lets_nobody_in(server: Server, data: Path, ana: str) -> None:
    if not server.fronts():
        pytest.skip("there is none")
    file = KeysFile(data).path
    good = file.read_bytes()
    file.unlink()
    try:
        for front in server.fronts():
            os.kill(front, signal.SIGKILL)
        health = wait_for(lambda: asked(server), lambda told: "nobody can be let in" in str(told.get("detail")))
        assert health["status"] == "unavailable"
        answer = server.ask("GET", "/orders/x", headers=with_key(ana))
        assert (answer.status, answer.json["resend"]) == (503, "safe")
    finally:
        file.write_bytes(good)
    wait_until_all_say(404, server, ana)


def test_a_key_is_in_no_log_no_answer_and_no_list_of_processes(server: Server, ana: str, ben: str) -> None:
    secrets = [key[16:] for key in (ana, ben)]
    answers = [
        server.ask("GET", "/orders/x", headers={"authorization": f"Basic {ana}"}),
        server.ask("GET", "/orders/x", headers={"authorization": f"Bearer {ana}", "x-api-key": ben}),
        server.ask("GET", "/orders/x", headers={"x-api-key": f"{ben}x"}),
        post(server, "/orders", "no order", with_key(ana)),
        server.get("/health"),
    ]
    told = [answer.body.decode() + str(answer.headers) for answer in answers]
    told.append(server.log.read_text())
    told += [Path(f"/proc/{pid}/cmdline").read_text() for pid in (server.pid, *server.fronts(), *server.workers())]
    told += [Path(f"/proc/{pid}/environ").read_text() for pid in (server.pid, *server.fronts(), *server.workers())]
    assert not [text for text in told if any(secret in text for secret in secrets)]


# --- the tools ----------------------------------------------------------------


def test_the_orders_script_passes_with_a_key(server: Server, ana: str) -> None:
    script = [str(ROOT / "scripts" / "test-orders.sh"), server.url]
    environment = {**os.environ, "TOKEN": ana}
    done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "with a bearer token" in done.stdout


def test_a_spike_finds_its_orders_with_a_key_that_no_process_shows(server: Server, data: Path, ana: str) -> None:
    spike = ("spike", "--orders", "200", "--data", data, "--ledger", data.parent / "ledger")
    assert "lost 0, double 0" in decoupled(*spike, env={**os.environ, "DECOUPLED_KEY": ana})
    assert "lost 0, double 0" in decoupled(*spike, "--header", f"x-api-key: {ana}")
    decoupled(*spike, status=3)


# --- the start ----------------------------------------------------------------


def refusal(tmp_path: Path, *options: str) -> str:
    """Why a server does not start."""
    where = ("--data", tmp_path / "data", "--port", str(free_port()))
    return decoupled("serve", *where, *options, status=1, cwd=tmp_path)


def test_a_server_that_could_let_nobody_in_does_not_start(tmp_path: Path) -> None:
    assert "keys: decoupled keys add NAME makes it" in refusal(tmp_path, "--auth", "keys")
    keys(tmp_path / "data", "add", "ana")
    KeysFile(tmp_path / "data").path.write_text("{}")
    assert "keys is damaged" in refusal(tmp_path, "--auth", "keys")


def test_nobody_listens_where_others_come_without_asking_who_they_are(tmp_path: Path) -> None:
    said = refusal(tmp_path, "--host", "0.0.0.0")
    assert "others can reach 0.0.0.0" in said
    assert "--auth keys" in said
    assert "--insecure" in said
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("host", "options"),
    [
        ("0.0.0.0", Options(insecure=True)),
        ("0.0.0.0", Options(auth=("keys",))),
        ("127.0.0.1", Options()),
        ("127.3.2.1", Options()),
        ("localhost", Options()),
    ],
)
def test_whoever_asks_for_it_or_stays_at_home_may_listen(host: str, options: Options) -> None:
    with bind(host, free_port()) as listener:
        refuse_strangers(listener, options)
