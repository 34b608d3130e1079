"""`decoupled spike` against real servers: it accounts for every order, and notices when something is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from decoupled.cli import reconcile
from decoupled.cli.load import Accepted, Plan, Sent, address, order
from decoupled.cli.reconcile import Account, count_effects
from decoupled.workloads.orders import Order, total
from tests.support.server import DECOUPLED, Server, serving, wait_for
from tests.support.signing import KEY, SECRET, TOKEN, endpoint, front, signed  # noqa: F401  two are fixtures


def spike(*arguments: str, status: int = 0, seconds: float = 120) -> str:
    """`decoupled spike ...`; its report."""
    command = [str(DECOUPLED), "spike", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("spike") / "data") as server:
        yield server


def test_every_order_is_accounted_for_and_in_the_ledger(server: Server, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    report = spike("--orders", "500", "--data", str(server.data), "--ledger", str(ledger))
    assert "accepted 500 = processed 500 + rejected 0 + queued 0 + dead 0" in report
    assert "lost 0, double 0, dead 0 (effects counted in the table)" in report
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert {line["order"] for line in lines} == set(range(500))
    assert server.get(f"/orders/{lines[0]['id']}").json["status"] == "processed"


def test_an_outage_in_the_middle_loses_nothing_and_the_front_answers_on(server: Server, tmp_path: Path) -> None:
    command = ["spike", "--orders", "600", "--data", str(server.data), "--outage", "3s"]
    tool = subprocess.Popen(
        [str(DECOUPLED), *command, "--ledger", str(tmp_path / "ledger")], stdout=subprocess.PIPE, text=True
    )
    wait_for((server.data / "outage").exists)
    refused = wait_for(lambda: server.get("/orders/some-id"), lambda answer: answer.status == 503)
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["retry-after"] == "1"
    assert refused.json["resend"] == "safe"
    wait_for(lambda: server.get("/health").json["breakers"]["orders"]["state"], lambda state: state == "open")
    assert server.get("/health").status == 200  # it accepts
    assert tool.stdout is not None
    report = tool.stdout.read()
    assert tool.wait(60) == 0, report
    assert "accepted 600 = processed 600 + rejected 0 + queued 0 + dead 0" in report
    assert "lost 0, double 0, dead 0" in report
    assert "during it" in report
    assert not (server.data / "outage").exists()
    assert server.get("/health").json["breakers"] == {"orders": {"state": "closed"}}


def _kill_after(least: int, server: Server) -> None:
    """Once it has accepted more than so many."""
    wait_for(lambda: sum(server.statuses().values()), lambda total: total > least)
    server.kill()


def test_a_server_that_is_killed_under_it_loses_nothing(tmp_path: Path) -> None:
    server = Server(tmp_path / "data")
    try:
        server.start()
        command = [str(DECOUPLED), "spike", "--orders", "2000", "--url", server.url, "--data", str(server.data)]
        tool = subprocess.Popen([*command, "--ledger", str(tmp_path / "ledger")], stdout=subprocess.PIPE, text=True)
        for least in (200, 800):
            _kill_after(least, server)
            server.start()
        assert tool.stdout is not None
        report = tool.stdout.read()
        assert tool.wait(60) == 0, report
        assert "accepted 2,000 = processed 2,000 + rejected 0 + queued 0 + dead 0" in report
        assert "lost 0, double 0" in report
        assert "tried again" in report
    finally:
        server.end()


def test_what_is_still_queued_when_the_time_is_up_is_not_called_lost(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--rate", "1") as server:
        report = spike("--orders", "50", "--url", server.url, "--within", "1s", status=3)
        assert "lost 0, double 0, dead 0" in report
        assert "queued 0" not in report


def test_an_outage_needs_the_servers_own_directory(server: Server, tmp_path: Path) -> None:
    report = spike("--outage", "1s", "--url", server.url, "--data", str(tmp_path), status=2)
    assert f"is not that of {server.url}" in report


def test_where_nobody_answers_orders_are_given_up_and_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from decoupled.cli.load import send, session
    from decoupled.core import limits

    monkeypatch.setattr(limits, "SPIKE_TRIES", 2)
    plan = Plan("http://127.0.0.1:1", 3, 2, "run")

    async def attempt() -> Sent:
        async with session(plan) as client:
            with (tmp_path / "ledger").open("w") as ledger:
                return await send(plan, client, ledger)

    sent = asyncio.run(attempt())
    assert (sent.accepted, sent.given_up, sent.tried_again) == ([], 3, 6)


def test_it_signs_every_request_for_an_api_that_asks_for_iam(
    front: Callable[..., str],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = front(admits=signed)
    arguments = ("--orders", "20", "--url", url, "--data", str(tmp_path), "--within", "20s")
    assert "refused 20: 403" in spike(*arguments, status=3)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    assert "accepted 20 = processed 20" in spike(*arguments, "--aws-sigv4", "eu-west-1")


# --- it notices --------------------------------------------------------------------------


class _Liar(BaseHTTPRequestHandler):
    """A server that answers 202 and then does wrong, in the way that its class says."""

    wrong = ""
    protocol_version = "HTTP/1.1"
    orders: dict[str, dict[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        key = self.headers["idempotency-key"].strip('"')
        new_id = f"{key}-{len(self.orders)}" if self.wrong == "double" else key
        self.orders[new_id] = body
        self._answer(202, {"id": new_id, "status_url": f"/orders/{new_id}"})

    def do_GET(self) -> None:
        message_id = self.path.rpartition("/")[2]
        body = self.orders.get(message_id)
        if body is None or (self.wrong == "lost" and message_id.endswith("-7")):
            return self._answer(404, {"detail": "There is no such record."})
        sum_ = str(total(msgspec.convert(body, Order)))
        customer = body["customer"]
        if self.wrong == "total":
            sum_ = str(Decimal(sum_) + 1)
        if self.wrong == "mixed up":
            customer = {"email": "somebody@example.com", "name": "Else"}
        times = {"accepted_at": "2026-11-23T10:15:30.123Z", "processed_at": "2026-11-23T10:15:30.131Z"}
        status = "dead" if self.wrong == "dead" else "processed"
        return self._answer(200, {"status": status, "result": {"total": sum_, "customer": customer}, **times})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def liar(wrong: str) -> Iterator[str]:
    handler = type("Handler", (_Liar,), {"wrong": wrong, "orders": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("wrong", "status", "complaint"),
    [
        ("", 0, "lost 0, double 0, dead 0"),
        ("lost", 1, "lost 1, double 0"),
        ("double", 1, "lost 0, double 1"),
        ("total", 1, "not "),
        ("mixed up", 1, "is the record of another order"),
        ("dead", 3, "dead 20"),
    ],
)
def test_a_server_that_does_wrong_is_found_out(tmp_path: Path, wrong: str, status: int, complaint: str) -> None:
    with liar(wrong) as url:
        report = spike(
            "--orders",
            "20",
            "--connections",
            "4",
            "--url",
            url,
            "--data",
            str(tmp_path),
            "--within",
            "1s",
            status=status,
        )
    assert complaint in report


def test_two_records_for_one_order_are_double() -> None:
    account = Account(2, Counter(processed=2))
    count_effects(Plan("", 2, 1, "run"), {address("run", 0): 1, address("run", 1): 2}, account)
    assert account.double == ["order 1 has 2 records"]
    assert account.exit_status == 1


def test_two_orders_under_one_id_are_noticed() -> None:
    account = Account(2)
    reconcile._check_ids(Sent([Accepted(0, "same", 0, 0), Accepted(1, "same", 0, 0)]), account)
    assert len(account.wrong) == 1


def test_an_order_that_is_in_no_status_is_an_error() -> None:
    assert Account(2, Counter(processed=1)).exit_status == 1


@pytest.mark.parametrize("number", range(8))
def test_the_orders_are_valid_and_come_to_what_is_expected(number: int) -> None:
    body, expected = order("run", number)
    assert str(total(msgspec.convert(body, Order))) == expected
