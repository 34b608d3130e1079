"""Signed ids and Prefer: wait on a deployed stack, over HTTP, with its processors stopped and going. The tests of this
file run in order and share one stack."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from decoupled.core.signed_ids import record_id
from decoupled.engines.aws import deployment
from tests.support.contract import wait_for
from tests.support.deployed import Stack, deployed


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with deployed(tmp_path_factory.mktemp("deployed")) as made:
        yield made


@pytest.fixture(scope="module")
def stopped(stack: Stack) -> Iterator[Stack]:
    stack.process(False)
    yield stack
    stack.process(True)


def key_of(stack: str) -> str:
    return deployment.setting(stack, "Receiver", "ID_KEYS")


def test_right_after_its_202_a_message_is_queued_and_never_a_404(stopped: Stack) -> None:
    accepted = stopped.post(1)
    assert accepted.status_code == 202
    shown = accepted.json()["id"]
    assert accepted.headers["location"] == accepted.json()["status_url"] == f"/boxes/{shown}"
    found, record = stopped.ask(shown)
    assert (found, record["status"], record["id"]) == (200, "queued", shown)
    assert record["accepted_at"]
    shown = stopped.post(2, idempotency_key="two").json()["id"]
    assert stopped.ask(shown) == (200, {"id": shown, "workload": "boxes", "status": "queued"})


def test_a_forged_id_is_a_404(stopped: Stack) -> None:
    shown = stopped.post(1).json()["id"]
    assert stopped.ask(shown)[0] == 200
    for place in range(len(shown)):
        letter = "0" if shown[place] != "0" else "1"
        assert stopped.ask(f"{shown[:place]}{letter}{shown[place + 1 :]}")[0] == 404
    assert stopped.ask(record_id(shown))[0] == 404


def test_each_entry_of_a_batch_is_queued(stopped: Stack) -> None:
    accepted = stopped.client.post("/boxes", json=[{"weight": 1}, {"weight": 2}]).json()["accepted"]
    assert [stopped.ask(it["id"])[1]["status"] for it in accepted] == ["queued", "queued"]


def test_what_is_due_later_says_when(stopped: Stack) -> None:
    shown = stopped.post(1, delay="3600").json()["id"]
    record = stopped.ask(shown)[1]
    assert (record["status"], record["due_at"] > record["accepted_at"]) == ("queued", True)


def test_who_waits_in_vain_gets_the_202_all_the_same(stopped: Stack) -> None:
    accepted = stopped.post(1, prefer="wait=1")
    assert (accepted.status_code, accepted.headers["preference-applied"]) == (202, "wait=1")
    shown = accepted.json()["id"]
    assert stopped.ask(shown, prefer="wait=1")[1]["status"] == "queued"


def test_a_deployment_keeps_the_key_and_a_rotation_keeps_the_one_before(stopped: Stack) -> None:
    before, key = stopped.post(1, idempotency_key="kept").json()["id"], key_of("boxes")
    assert "== boxes" in stopped.deploy("LogRetentionDays=60")
    assert key_of("boxes") == key
    assert stopped.post(1, idempotency_key="kept").json()["id"] == before
    assert "== boxes" in stopped.deploy("--rotate-id-key")
    assert key_of("boxes").split(",")[1:] == [key]
    after = stopped.post(1, idempotency_key="kept").json()["id"]
    assert after != before
    assert record_id(after) == record_id(before)
    assert [stopped.ask(shown)[1]["status"] for shown in (before, after)] == ["queued", "queued"]
    assert "== boxes" in stopped.deploy("--rotate-id-key")
    assert len(key_of("boxes").split(",")) == 2
    assert stopped.ask(after)[0] == 200
    assert stopped.ask(before)[0] == 404  # its key is gone, and it has no record yet


def test_a_key_that_is_none_is_refused_before_anything_is_built(stack: Stack) -> None:
    assert "key 1 of ID_KEYS" in stack.deploy("IdKeys=secret")
    assert "leave IdKeys out" in stack.deploy("--rotate-id-key", "IdKeys=secret")


def test_of_two_entries_under_one_key_the_first_processed_has_the_record_and_the_other_is_told(stack: Stack) -> None:
    stack.process(False)
    ids = {weight: stack.post(weight, idempotency_key="once").json()["id"] for weight in (1, 2)}
    assert len({record_id(shown) for shown in ids.values()}) == 1
    assert [stack.ask(shown)[1]["status"] for shown in ids.values()] == ["queued", "queued"]
    stack.process(True)
    found = wait_for(
        lambda: {weight: stack.ask(shown) for weight, shown in ids.items()},
        until=lambda found: all(body["status"] != "queued" for _, body in found.values()),
        seconds=60,
    )
    ((first, record),) = [(weight, body) for weight, (status, body) in found.items() if status == 200]
    other = 3 - first
    assert (record["id"], record["status"], record["result"]) == (ids[first], "processed", {"weight": first})
    assert stack.ask(record_id(ids[first]))[1]["status"] == "processed"
    assert found[other][0] == 422
    assert stack.post(other, idempotency_key="once", prefer="wait=9").status_code == 422
    assert stack.post(first, idempotency_key="once", prefer="wait=9").json() == record


def test_who_waits_gets_the_record(stack: Stack) -> None:
    answer = stack.post(7, prefer="wait=15")
    assert answer.status_code == 200
    assert answer.json()["result"] == {"weight": 7}
    assert answer.headers["preference-applied"].startswith("wait=")
    assert answer.headers["location"] == f"/boxes/{answer.json()['id']}"
    assert stack.ask(answer.json()["id"])[1] == answer.json()


def test_a_tool_takes_a_dead_letter_s_id_as_its_client_has_it(stack: Stack) -> None:
    shown = stack.post(13).json()["id"]
    wait_for(lambda: stack.ask(shown)[1], until=lambda it: it["status"] == "dead", seconds=60)
    for known in (shown, record_id(shown)):
        letter = json.loads(stack.run("dead", "show", "--stack", "boxes", known))
        assert (letter["id"], letter["error_type"]) == (record_id(shown), "KeyError")
    assert "1 redriven" in stack.run("dead", "redrive", "--stack", "boxes", shown)
