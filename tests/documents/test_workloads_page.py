"""docs/workloads.md cannot lie: its workload is served, its requests are made, its test is run."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from decoupled.core import limits
from decoupled.core.workload import Workload, Workloads
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.table import SqliteTable
from decoupled.pipeline import processor, receiver, settlement
from decoupled.pipeline.loading import load
from tests.support.engines import ReceivingSqliteQueue
from tests.support.events import read_event, receive_event
from tests.support.model_engine import ManualClock

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "workloads.md").read_text()
SOURCE, ITS_TEST, SEATS, PAYMENTS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
REQUESTS, SEATS_REQUESTS = re.findall(r"```http\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def votes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workload:
    """The page's file, in a directory of its reader's."""
    (tmp_path / "votes.py").write_text(SOURCE)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return load(["./votes.py"], tmp_path)["votes"]


def test_the_sixth_workload_takes_twenty_lines(votes: Workload) -> None:
    assert len([line for line in SOURCE.splitlines() if line]) <= 20
    assert votes.name == "votes"


def test_the_requests_are_answered_as_the_page_says(votes: Workload) -> None:
    assert outcomes(REQUESTS, {"votes": votes}) == [None, None, "voted already"]


def test_a_reservation_expires_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "seats.py").write_text(SEATS)
    monkeypatch.setattr(sys, "path", [*sys.path])
    served = load(["./seats.py", "./seats.py:RELEASES"], tmp_path)
    no = ["you do not hold this seat", "the seat is taken"]
    assert outcomes(SEATS_REQUESTS, served) == [None, None, None, *no, "it was paid", None]


def test_an_event_of_stripe_s_is_what_the_page_says_and_others_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "payments.py").write_text(PAYMENTS)
    monkeypatch.setattr(sys, "path", [*sys.path])
    served = load(["./payments.py"], tmp_path)
    charge = {"id": "ch_1", "object": "charge", "amount": 1000, "currency": "eur", "livemode": False}
    event = {"id": "evt_1", "object": "event", "api_version": "2026-01-28", "pending_webhooks": 1}
    paid = json.dumps(event | {"type": "charge.succeeded", "data": {"object": charge}})
    other = json.dumps(event | {"type": "customer.created", "data": {"object": {}}})
    requests = f"POST /payments\n{paid}\n-> 202\n\nPOST /payments\n{other}\n-> 422 #/type"
    taken = 'GET /payments/takings/eur\n-> 200 {"amount": 1000}'
    assert outcomes(f"{requests}\n\n{taken}", served) == [None]


def outcomes(requests: str, served: Workloads) -> list[str | None]:
    """Make the page's requests, and process what they send. The reason of each message that is done, or None."""
    database = Database(":memory:")
    clock = ManualClock()
    queue, table = ReceivingSqliteQueue(database, clock), SqliteTable(database, clock_ms=clock)
    monkey_clock = mock.patch.object(receiver, "now_ms", clock)
    reasons = []
    for exchange in requests.strip().split("\n\n"):
        if exchange == "(ten minutes later)":
            clock.advance(599)
            assert queue.receive(10, 30) == []
            clock.advance(1)
            reasons += process_all(queue, table, served, clock)
            continue
        request, _, expected = exchange.partition("\n-> ")
        with monkey_clock:
            response = ask(request, queue, table, served)
        code, _, rest = expected.strip().partition(" ")
        assert response["statusCode"] == int(code), response
        if rest.startswith("{"):
            seen = re.sub('"hold":"[0-9a-f]+"', '"hold":"the id of her hold"', response["body"])
            assert json.loads(seen) == json.loads(rest)
        else:
            assert all(part in response["body"] for part in rest.split())
        reasons += process_all(queue, table, served, clock)
    database.close()
    return reasons


def process_all(
    queue: ReceivingSqliteQueue, table: SqliteTable, served: Workloads, clock: ManualClock
) -> list[str | None]:
    reasons = []
    while deliveries := queue.receive(10, 30):
        decided = [(each, processor.decide(each.message, served, 30)) for each in deliveries]
        settlement.settle(decided, queue, table, settlement.Policy(3, clock))
        reasons += [record.reason for each in deliveries if (record := table.get(each.message.id))]
    return reasons


def ask(request: str, queue: ReceivingSqliteQueue, table: SqliteTable, served: Workloads) -> Any:
    line, _, body = request.partition("\n")
    method, target = line.split()
    path, _, query = target.partition("?")
    parts = path.strip("/").split("/")
    names = dict(zip(("workload", "collection", "key") if len(parts) == 3 else ("workload", "id"), parts, strict=False))
    event = {
        "pathParameters": names,
        "rawQueryString": query,
        "headers": {"content-type": "application/json"},
        "requestContext": {},
        "body": body,
    }
    if method == "GET":
        return read_event(event, table, served)
    return receive_event(event, queue, served)


def test_the_page_s_test_passes() -> None:
    exec(compile(SOURCE + ITS_TEST, "docs/workloads.md", "exec", dont_inherit=True), {"__name__": "votes"})  # noqa: S102


def test_the_page_names_every_workload_and_every_setting() -> None:
    for file in (ROOT / "decoupled" / "workloads").glob("[a-z]*.py"):
        assert f"(../decoupled/workloads/{file.name})" in PAGE
    source = "".join(
        (ROOT / "decoupled" / name).read_text() for name in ("workloads/notifications.py", "outbound/signed.py")
    )
    settings = set(re.findall(r'(?:setting|environ\.get)\("([A-Z_]+)"', source))
    assert len(settings) == 4
    assert all(f"| `{name}` |" in PAGE for name in settings)


def test_the_page_s_limits_are_the_code_s() -> None:
    assert f"{limits.MAX_ITEMS} items an atomic step" in PAGE
    assert f"{limits.MAX_ITEM_BYTES // 1000} KB an item" in PAGE
    assert f"{limits.MAX_EMITS} emitted messages" in PAGE
    assert f"of {limits.MAX_NUMBER_DIGITS} digits" in PAGE
    assert f"up to a year ({limits.MAX_LATER_S // 86_400} days)" in PAGE
    assert f"has {limits.MAX_LATER_ENTRY_BYTES // limits.KIB} KiB an entry at most" in PAGE


@pytest.mark.parametrize(
    "file", sorted((ROOT / "decoupled" / "workloads").glob("[a-z]*.py")), ids=lambda file: file.stem
)
def test_a_workload_file_can_be_read_in_one_go(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 97
