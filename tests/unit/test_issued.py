"""What GET says on AWS of ids that were given out, before and after the table knows of them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from decoupled.core import limits
from decoupled.core.identifiers import derived_id, new_id
from decoupled.core.outcomes import Record
from decoupled.core.problem import Problem
from decoupled.core.signed_ids import keys_of, new_key
from decoupled.core.workload import ANONYMOUS, Message, Unavailable
from decoupled.pipeline import status
from decoupled.pipeline.call import Call
from decoupled.pipeline.issued import Issued
from decoupled.pipeline.loading import load
from tests.support.model_engine import ModelTable

NOW = 1_795_000_000_123
DAY = 86_400_000
ANA, BEN = "iam:1:ana", "iam:1:ben"
NEW, OLD = new_key(NOW, b"n" * 32), new_key(NOW - 40 * DAY, b"o" * 32)
WORKLOADS = load(["orders", "readings"])


def issued(at: int = NOW, ttl_days: int = 0, keys: str = NEW) -> Issued:
    return Issued(keys_of(keys), ttl_days, lambda: at)


def message(caller: str = ANA, delay_s: int = 0) -> Message:
    due_at = NOW + 1000 * delay_s if delay_s else None
    return Message(new_id(NOW, 0, "e" * 18), "orders", "{}", caller, NOW, "", due_at)


def keyed(digest: str = "") -> Message:
    return Message(derived_id("orders", "key", ANA, "cart-1", "0"), "orders", "{}", ANA, NOW, "", None, digest=digest)


def recorded(sent: Message, **fields: Any) -> ModelTable:
    table = ModelTable()
    record = Record(sent.id, sent.workload, "processed", NOW, sent.caller, result="{}", digest=sent.digest)
    table.records[sent.id] = msgspec.structs.replace(record, **fields)
    return table


def ask(
    shown: str, ids: Issued, table: ModelTable | None = None, caller: str = ANA, workload: str = "orders", **more: Any
) -> tuple[int, Any]:
    call = Call([workload, shown], "", {}, b"", caller, **more)
    try:
        response = status.read(call, table or ModelTable(), WORKLOADS, ids)
    except Problem as problem:
        response = problem.response()
    return response.status, json.loads(response.body)


def test_what_was_just_accepted_is_queued() -> None:
    shown = issued().shown(message())
    told = {"id": shown, "workload": "orders", "status": "queued", "accepted_at": "2026-11-18T11:06:40.123Z"}
    assert ask(shown, issued()) == (200, told)


def test_an_id_made_from_a_key_is_queued_though_it_does_not_tell_since_when() -> None:
    shown = issued().shown(keyed())
    assert ask(shown, issued()) == (200, {"id": shown, "workload": "orders", "status": "queued"})


def test_a_client_may_ask_again_in_a_second_but_not_of_what_is_due_later() -> None:
    soon, later = issued().shown(message()), issued().shown(message(delay_s=3600))
    call = Call(["orders", soon], "", {}, b"", ANA)
    assert status.read(call, ModelTable(), WORKLOADS, issued()).headers["retry-after"] == "1"
    call = Call(["orders", later], "", {}, b"", ANA)
    response = status.read(call, ModelTable(), WORKLOADS, issued())
    assert "retry-after" not in response.headers
    assert json.loads(response.body)["due_at"] == "2026-11-18T12:06:40.123Z"


def test_a_record_is_shown_under_the_id_that_its_client_has() -> None:
    shown = issued().shown(message())
    found, body = ask(shown, issued(), recorded(message()))
    assert (found, body["id"], body["status"]) == (200, shown, "processed")


class Untouched(ModelTable):
    def get(self, message_id: str) -> Record | None:
        raise AssertionError(f"{message_id} was read")


@pytest.mark.parametrize("caller", [ANA, BEN])
def test_what_was_never_given_out_is_a_404_and_no_reading(caller: str) -> None:
    shown = issued().shown(message())
    forged = shown[:-1] + ("A" if shown[-1] != "A" else "B")
    assert ask(forged, issued(), Untouched(), caller)[0] == 404


def test_another_caller_s_id_is_a_404_with_a_record_and_without() -> None:
    shown = issued().shown(message())
    answers = [ask(shown, issued(), table, BEN) for table in (None, recorded(message()))]
    assert [it[0] for it in answers] == [404, 404]
    assert answers[0] == answers[1] == ask(message(BEN).id, issued(), None, BEN)


def test_another_workload_s_id_is_a_404() -> None:
    assert ask(issued().shown(message()), issued(), workload="readings")[0] == 404


def test_an_operator_and_whoever_has_no_others_see_all() -> None:
    shown = issued().shown(message())
    assert ask(shown, issued(), caller=BEN, operator=True)[0] == 200
    assert ask(shown, issued(), caller=ANONYMOUS)[0] == 200
    assert ask(shown, issued(), recorded(message()), BEN, operator=True)[1]["status"] == "processed"


def test_a_plain_id_is_good_for_what_has_a_record() -> None:
    assert ask(message().id, issued())[0] == 404
    assert ask(message().id, issued(), recorded(message()))[1]["id"] == message().id
    assert ask(message().id, issued(), recorded(message()), BEN)[0] == 404


def test_ids_of_before_and_after_a_rotation_are_queued_alike() -> None:
    rotated = issued(keys=f"{NEW},{OLD}")
    for ids in (issued(keys=OLD), rotated):
        assert ask(ids.shown(message()), rotated)[1]["status"] == "queued"
        assert ask(ids.shown(keyed()), rotated)[1]["status"] == "queued"


def test_an_id_of_a_key_that_is_gone_still_shows_its_record() -> None:
    shown = issued(keys=OLD).shown(message())
    assert ask(shown, issued())[0] == 404
    assert ask(shown, issued(), recorded(message()))[1]["id"] == shown


# --- what was given out long ago -----------------------------------------------


def test_what_has_no_record_any_more_is_gone_and_not_queued_for_ever() -> None:
    shown = issued().shown(message())
    assert ask(shown, issued(NOW + 30 * DAY, ttl_days=30))[0] == 200
    assert ask(shown, issued(NOW + 30 * DAY + 1, ttl_days=30))[0] == 404


def test_what_is_due_later_is_queued_until_so_long_after_that() -> None:
    shown = issued().shown(message(delay_s=60 * 86_400))
    assert ask(shown, issued(NOW + 90 * DAY, ttl_days=30))[0] == 200
    assert ask(shown, issued(NOW + 90 * DAY + 1, ttl_days=30))[0] == 404


@pytest.mark.parametrize("ttl_days", [0, 3650])
def test_nothing_is_queued_for_longer_than_a_queue_can_hold_it(ttl_days: int) -> None:
    shown, most = issued().shown(message()), limits.MAX_UNRECORDED_S * 1000
    assert ask(shown, issued(NOW + most, ttl_days))[0] == 200
    assert ask(shown, issued(NOW + most + 1, ttl_days))[0] == 404


def test_an_id_made_from_a_key_is_gone_so_long_after_its_signing_key_was_retired() -> None:
    shown = issued(keys=OLD).shown(keyed())
    assert ask(shown, issued(NOW + 30 * DAY, 30, f"{NEW},{OLD}"))[0] == 200
    assert ask(shown, issued(NOW + 32 * DAY, 30, f"{NEW},{OLD}"))[0] == 404
    assert ask(shown, issued(NOW + 32 * DAY, 30, OLD))[0] == 200  # it may be of a moment ago


# --- the same key, another entry ------------------------------------------------


def test_an_id_of_another_entry_under_the_same_key_is_told_so() -> None:
    first, second = keyed("a" * 24), keyed("b" * 24)
    assert ask(issued().shown(first), issued(), recorded(first))[0] == 200
    found, problem = ask(issued().shown(second), issued(), recorded(first))
    assert (found, problem["status"]) == (422, 422)
    assert "Idempotency-Key" in problem["detail"]


@pytest.mark.parametrize("status", ["queued", "dead"])
def test_another_entry_under_the_same_key_that_has_only_failed_refuses_none(status: str) -> None:
    first, second = keyed("a" * 24), keyed("b" * 24)
    still_open = recorded(first, status=status, attempts=1, result=None)
    found, record = ask(issued().shown(second), issued(), still_open)
    assert (found, record["status"]) == (200, status)  # it is on the queue, and may be the one that is applied


def test_what_another_caller_has_under_an_id_is_a_404_and_not_compared() -> None:
    found, _ = ask(issued().shown(keyed("b" * 24)), issued(), recorded(keyed("a" * 24), caller=BEN))
    assert found == 404


def test_what_has_no_digest_is_compared_with_nothing() -> None:
    sent = keyed("a" * 24)
    assert ask(issued().shown(sent), issued(), recorded(keyed()))[0] == 200
    assert ask(issued().shown(keyed()), issued(), recorded(sent))[0] == 200


def test_a_sick_table_is_a_503_and_no_queued() -> None:
    class Sick(ModelTable):
        def get(self, message_id: str) -> Record | None:
            raise Unavailable("throttled")

    assert ask(issued().shown(message()), issued(), Sick())[0] == 503
