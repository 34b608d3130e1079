"""Prefer: wait on AWS: what a client gets that would rather wait, and that it never loses its 202 by it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from decoupled.core import limits
from decoupled.core.identifiers import digest_of
from decoupled.core.outcomes import Record
from decoupled.core.signed_ids import keys_of, new_key
from decoupled.core.workload import Unavailable
from decoupled.engines.protocols import Table
from decoupled.pipeline import waiting
from decoupled.pipeline.call import EventResponse, answered
from decoupled.pipeline.issued import Issued
from decoupled.pipeline.loading import load
from decoupled.pipeline.waiting import Waiting
from tests.support import events
from tests.support.model_engine import ManualClock, ModelQueue, ModelTable
from tests.support.server import TRIAL

WORKLOADS = load(["orders", "readings"])
ISSUED = Issued(keys_of(new_key(1_795_000_000_123, b"n" * 32)))


class Stack:
    """The functions in a time of their own, in which a processor ends what is queued after `takes_s`."""

    def __init__(self, takes_s: float = 1.0, remaining_s: float = 20.0, **fields: Any) -> None:
        self.queue, self.table = ModelQueue(ManualClock()), ModelTable()
        self.now_s, self.takes_s, self.remaining_s = 0.0, takes_s, remaining_s
        self.fields = {"status": "processed", "result": "{}", "finished_at": 1_795_000_000_456, **fields}
        self.readings = 0
        self.connected = 0

    def get(self, message_id: str) -> Record | None:
        self.readings += 1
        (message,) = [row.message for row in self.queue.rows]
        if self.now_s >= self.takes_s:
            fields = {"accepted_at": message.accepted_at, "caller": message.caller, **self.fields}
            self.table.records[message.id] = Record(message.id, message.workload, **fields)
        return self.table.get(message_id)

    def connect(self) -> Table:
        self.connected += 1
        return Reading(self.table, self.get)

    def waiting(self) -> Waiting:
        return Waiting(lambda: self.remaining_s - self.now_s, self.pause, lambda: self.now_s)

    def pause(self, seconds: float) -> None:
        assert 0 < seconds <= limits.WAIT_PAUSE_CAP_S
        self.now_s += seconds

    def post(self, prefer: str | None, body: Any = events.ORDER, **more: Any) -> EventResponse:
        event = events.post(body, headers={} if prefer is None else {"prefer": prefer}, **more)
        return answered(
            event, lambda call: waiting.receive(call, self.queue, WORKLOADS, ISSUED, self.connect, self.waiting())
        )

    def get_record(self, shown: str, prefer: str | None) -> EventResponse:
        event = events.get("orders", shown, headers={} if prefer is None else {"prefer": prefer})
        table = self.connect()
        return answered(event, lambda call: waiting.read(call, table, WORKLOADS, ISSUED, self.waiting()))


class Reading(ModelTable):
    def __init__(self, table: ModelTable, get: Callable[[str], Record | None]) -> None:
        self.__dict__.update(table.__dict__)
        self._get = get

    def get(self, message_id: str) -> Record | None:
        return self._get(message_id)


def test_a_client_that_waits_gets_the_record() -> None:
    answer = Stack().post("wait=5")
    body = json.loads(answer["body"])
    assert (answer["statusCode"], body["status"]) == (200, "processed")
    assert answer["headers"]["location"] == f"/orders/{body['id']}"
    assert answer["headers"]["preference-applied"] == "wait=5"
    assert "." in body["id"]


@pytest.mark.parametrize("ended", ["processed", "rejected", "dead"])
def test_whatever_it_ends_in_ends_the_wait(ended: str) -> None:
    fields: dict[str, Any] = {"status": ended, "result": "{}" if ended == "processed" else None, "reason": "no"}
    answer = Stack(**fields).post("wait=5")
    assert (answer["statusCode"], json.loads(answer["body"])["status"]) == (200, ended)


def test_what_takes_longer_is_a_202_after_the_wait() -> None:
    stack = Stack(takes_s=9)
    answer = stack.post("wait=5")
    assert (answer["statusCode"], answer["headers"]["preference-applied"]) == (202, "wait=5")
    assert stack.now_s == pytest.approx(5)
    assert json.loads(answer["body"])["status_url"] == answer["headers"]["location"]


def test_without_the_preference_the_table_is_not_even_connected() -> None:
    stack = Stack(takes_s=0)
    for prefer in (None, "wait=0", "respond-async", "wait=soon"):
        assert stack.post(prefer)["statusCode"] == 202
    assert stack.connected == 0


def test_nobody_waits_for_a_batch_or_for_what_was_refused() -> None:
    stack = Stack(takes_s=0)
    assert stack.post("wait=5", [events.ORDER])["statusCode"] == 202
    assert stack.post("wait=5", {})["statusCode"] == 422
    assert stack.connected == 0


def test_a_function_waits_no_longer_than_it_has_time() -> None:
    stack = Stack(takes_s=30, remaining_s=10)
    answer = stack.post("wait=25")
    assert stack.now_s == pytest.approx(10 - limits.WAIT_RESERVED_S)
    assert answer["headers"]["preference-applied"] == "wait=7"
    assert Stack(takes_s=0, remaining_s=3.5).post("wait=25")["headers"].get("preference-applied") is None


def test_a_wait_is_a_bounded_number_of_readings() -> None:
    stack = Stack(takes_s=99, remaining_s=99)
    stack.post(f"wait={limits.MAX_WAIT_S}")
    assert stack.readings <= limits.MAX_WAIT_S / limits.WAIT_PAUSE_CAP_S + 10


@pytest.mark.parametrize("error", [Unavailable("throttled"), KeyError("TABLE_NAME"), RuntimeError("a bug of ours")])
def test_whatever_is_wrong_with_the_table_what_was_accepted_is_a_202(error: Exception) -> None:
    stack = Stack()

    def sick(*_: object) -> Any:
        raise error

    for broken in ("connect", "get"):
        setattr(stack, broken, sick)
        answer = stack.post("wait=5")
        assert answer["statusCode"] == 202
        assert "preference-applied" not in answer["headers"]
    assert len(stack.queue.rows) == 2


def test_another_entry_under_the_same_key_is_told_to_who_waits() -> None:
    same = digest_of(json.dumps(events.ORDER).encode())
    assert Stack(digest=same).post("wait=5", key="cart-1")["statusCode"] == 200
    stack = Stack(digest="b" * 24)
    answer = stack.post("wait=5", key="cart-1")
    assert (answer["statusCode"], answer["headers"]["content-type"]) == (422, "application/problem+json")
    assert stack.now_s < 2


@pytest.mark.parametrize("status", ["queued", "dead"])
def test_another_entry_under_the_same_key_that_has_only_failed_refuses_none(status: str) -> None:
    stack = Stack(digest="b" * 24, status=status, attempts=1, result=None, finished_at=None)
    answer = stack.post("wait=5", key="cart-1")
    assert answer["statusCode"] == 202  # it is on the queue, and may be the one that is applied
    assert stack.now_s == pytest.approx(5)


def test_a_record_of_another_caller_is_no_answer() -> None:
    stack = Stack(caller="iam:1:ben")
    assert stack.post("wait=5", authorizer=events.iam("ana"))["statusCode"] == 202
    assert stack.now_s == pytest.approx(5)


# --- GET ------------------------------------------------------------------------


def accepted(stack: Stack) -> str:
    return str(json.loads(stack.post(None)["body"])["id"])


def test_who_asks_may_wait_too() -> None:
    stack = Stack(takes_s=2)
    answer = stack.get_record(accepted(stack), "wait=5")
    assert (answer["statusCode"], json.loads(answer["body"])["status"]) == (200, "processed")
    assert answer["headers"]["preference-applied"] == "wait=5"
    assert 2 <= stack.now_s < 3.5


def test_who_asks_and_waits_in_vain_hears_queued() -> None:
    stack = Stack(takes_s=9)
    answer = stack.get_record(accepted(stack), "wait=3")
    assert (answer["statusCode"], json.loads(answer["body"])["status"]) == (200, "queued")
    assert answer["headers"]["preference-applied"] == "wait=3"
    assert stack.now_s == pytest.approx(3)


def test_who_asks_hears_of_another_entry_under_the_same_key_when_that_has_ended() -> None:
    stack = Stack(takes_s=2, digest="b" * 24)
    shown = str(json.loads(stack.post(None, key="cart-1")["body"])["id"])
    assert stack.get_record(shown, "wait=5")["statusCode"] == 422
    assert 2 <= stack.now_s < 3.5


def test_what_is_not_there_is_not_waited_for() -> None:
    stack = Stack()
    shown = accepted(stack)
    assert stack.get_record(shown[:-1] + "!", "wait=5")["statusCode"] == 404
    assert stack.now_s == 0


def test_a_listing_is_not_waited_for() -> None:
    seats = load([str(TRIAL / "workloads/seats.py"), f"{TRIAL / 'workloads/seats.py'}:RELEASES"])
    name, collection = next((it.name, it.listed[0]) for it in seats.values() if it.listed)
    named = {"workload": name, "id": collection}
    event = events.http_event("GET", f"/{name}/{collection}", named, {"prefer": "wait=5"})
    stack = Stack()
    answer = answered(event, lambda call: waiting.read(call, stack.table, seats, ISSUED, stack.waiting()))
    assert (answer["statusCode"], json.loads(answer["body"]), stack.now_s) == (200, {"items": []}, 0)


def test_a_table_that_gets_sick_meanwhile_leaves_what_was_seen() -> None:
    stack = Stack(takes_s=9)
    shown = accepted(stack)
    looks: list[Callable[[str], Record | None]] = [stack.get, stack.get]

    def get(message_id: str) -> Record | None:
        if not looks:
            raise Unavailable("throttled")
        return looks.pop()(message_id)

    stack.connect = lambda: Reading(stack.table, get)  # type: ignore[method-assign]
    answer = stack.get_record(shown, "wait=5")
    assert (answer["statusCode"], json.loads(answer["body"])["status"]) == (200, "queued")


def test_a_table_that_is_sick_from_the_start_is_a_503() -> None:
    stack = Stack()
    shown = accepted(stack)

    def get(_: str) -> Record | None:
        raise Unavailable("throttled")

    stack.connect = lambda: Reading(stack.table, get)  # type: ignore[method-assign]
    assert stack.get_record(shown, "wait=5")["statusCode"] == 503
