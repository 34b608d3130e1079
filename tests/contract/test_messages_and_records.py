"""What every engine promises (decoupled/engine.py), on each of them: the queue, and the records of messages. What
workloads write is in test_engine_contract_writes.py."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from decoupled.core import limits
from decoupled.core.outcomes import Commit, Failure, NotSent, Record, Reject, Stored
from decoupled.core.workload import Message, Put
from decoupled.pipeline.settlement import Policy, settle
from tests.support.contract import (
    FAILURE,
    NOW,
    bury,
    commit_one,
    dead_record,
    delivered,
    emitted,
    message,
    receive_one,
    received_ids,
    record_of,
    result_of,
    stored,
)
from tests.support.engines import Engine

# --- whose key it was --------------------------------------------------------------


@pytest.mark.parametrize("decision", [Commit("{}"), Commit("{}", [Put("a/b", {})]), Reject("no")], ids=str)
def test_a_record_keeps_the_digest_of_its_entry(engine: Engine, decision: Commit | Reject) -> None:
    sent = message(digest="0f" * 12)
    commit_one(engine, sent, decision)
    assert record_of(engine, sent).digest == "0f" * 12
    commit_one(engine, without := message(), decision)
    assert record_of(engine, without).digest == ""


def test_a_record_keeps_the_digest_of_its_entry_from_the_first_attempt_to_its_death_and_after_it(
    engine: Engine,
) -> None:
    sent = message(digest="0f" * 12)
    assert engine.table.begin_attempt(delivered(sent)).digest == "0f" * 12
    assert engine.table.record_failure(delivered(sent, 2), FAILURE, NOW).digest == "0f" * 12
    settle([(delivered(sent, 3), FAILURE)], engine.queue, engine.table, Policy(max_attempts=1))
    assert (record_of(engine, sent).status, record_of(engine, sent).digest) == ("dead", "0f" * 12)
    commit_one(engine, sent, Commit("{}"))
    assert (record_of(engine, sent).status, record_of(engine, sent).digest) == ("processed", "0f" * 12)


# --- the queue ----------------------------------------------------------------


def test_a_sent_message_is_delivered_as_it_was_sent(engine: Engine) -> None:
    sent = message('{"name": "Ana Ruíz 🛒 \\u0000", "price": 0.10}')
    assert engine.queue.send([sent]) == [None]
    delivery = receive_one(engine)
    assert delivery.message == sent
    assert delivery.receive_count == 1


def test_a_message_keeps_its_group(engine: Engine) -> None:
    sent = [message(group=group) for group in ("", "shop.example", "iam:1:AROA")]
    engine.queue.send(sent)
    received = [receive_one(engine).message for _ in sent]
    assert sorted(received, key=lambda one: one.id) == sent


def test_a_message_from_nobody_is_delivered_without_a_caller(engine: Engine) -> None:
    sent = message(caller="")
    engine.queue.send([sent])
    assert receive_one(engine).message == sent


@pytest.mark.parametrize("caller", ["jwt:https://issuer.example#" + "x" * 300, "jwt:#Zoë with spaces"])
def test_a_caller_may_have_any_name(engine: Engine, caller: str) -> None:
    sent = message(caller=caller)
    assert engine.queue.send([sent]) == [None]
    assert receive_one(engine).message == sent


def test_the_largest_entries_arrive_whole(engine: Engine) -> None:
    sent = [message("é" * (limits.MAX_ENTRY_BYTES // 2), caller="c" * 100) for _ in range(12)]
    assert engine.queue.send(sent) == [None] * 12
    assert received_ids(engine) == sorted(one.id for one in sent)


def test_a_large_send_is_answered_message_by_message(engine: Engine) -> None:
    sent = [message() for _ in range(123)]
    assert engine.queue.send(sent) == [None] * 123
    assert received_ids(engine) == sorted(one.id for one in sent)


def test_sending_nothing_is_fine(engine: Engine) -> None:
    assert engine.queue.send([]) == []


def test_a_receive_hands_out_no_more_than_asked_for(engine: Engine) -> None:
    engine.queue.send([message() for _ in range(5)])
    assert len(engine.queue.receive(3, 60)) == 3
    assert len(engine.queue.receive(10, 60)) == 2
    assert engine.queue.receive(10, 60) == []


def test_a_message_comes_back_after_its_visibility_timeout_and_is_counted(engine: Engine) -> None:
    engine.queue.send([message()])
    first = receive_one(engine, visibility_timeout_s=1)
    assert engine.queue.receive(1, 60) == []
    second = receive_one(engine)
    assert (first.receive_count, second.receive_count) == (1, 2)
    assert second.message == first.message
    assert second.receipt != first.receipt


def test_a_message_given_back_is_delivered_again_at_once(engine: Engine) -> None:
    engine.queue.send([message()])
    engine.queue.retry_later([(receive_one(engine), 0)])
    assert receive_one(engine).receive_count == 2


def test_a_message_that_waits_longer_stays_away(engine: Engine) -> None:
    engine.queue.send([message(), message()])
    soon, late = engine.queue.receive(2, 60)
    engine.queue.retry_later([(soon, 0), (late, limits.MAX_VISIBILITY_TIMEOUT_S * 2)])
    assert receive_one(engine).message == soon.message
    assert engine.queue.receive(2, 60) == []


def test_a_finished_message_never_comes_back(engine: Engine) -> None:
    engine.queue.send([message() for _ in range(3)])
    deliveries = engine.queue.receive(10, 1)
    for delivery in deliveries[:2]:
        commit_one(engine, delivery.message, Commit('{"n": 1}'))
    engine.queue.delete(deliveries[:2])
    assert receive_one(engine).message == deliveries[2].message
    assert engine.queue.receive(10, 60) == []


def test_deleting_twice_changes_nothing(engine: Engine) -> None:
    engine.queue.send([message()])
    delivery = receive_one(engine)
    engine.queue.delete([delivery])
    engine.queue.delete([delivery])
    assert engine.queue.receive(1, 60) == []


def test_a_lapsed_receipt_gives_nothing_back(engine: Engine) -> None:
    engine.queue.send([message()])
    lapsed = receive_one(engine)
    engine.queue.retry_later([(lapsed, 0)])
    current = receive_one(engine)
    engine.queue.delete([current])
    engine.queue.retry_later([(lapsed, 0)])
    assert engine.queue.receive(1, 60) == []


def test_a_lapsed_receipt_deletes_nothing(engine: Engine) -> None:
    if engine.name == "moto":
        pytest.skip("moto takes any receipt it ever gave; SQS promises neither")
    engine.queue.send([message()])
    lapsed = receive_one(engine)
    engine.queue.retry_later([(lapsed, 0)])
    current = receive_one(engine, visibility_timeout_s=1)
    engine.queue.delete([lapsed])
    assert receive_one(engine).message == current.message


# --- final records ------------------------------------------------------------


def test_a_processed_message_has_its_result_on_record(engine: Engine) -> None:
    sent = message()
    assert commit_one(engine, sent, Commit('{"total": "79.80", "lines": [{"sku": "KB"}], "note": null}')) == Stored(
        "processed"
    )
    record = record_of(engine, sent)
    assert result_of(record) == {"total": "79.80", "lines": [{"sku": "KB"}], "note": None}
    assert msgspec.structs.replace(record, result=None) == Record(
        id=sent.id,
        workload="orders",
        status="processed",
        accepted_at=sent.accepted_at,
        caller=sent.caller,
        finished_at=NOW,
    )


def test_a_rejected_message_has_its_reason_on_record(engine: Engine) -> None:
    sent = message()
    assert commit_one(engine, sent, Reject("the shop is closed")) == Stored("rejected", "the shop is closed")
    record = record_of(engine, sent)
    assert (record.status, record.reason, record.result) == ("rejected", "the shop is closed", None)
    assert record.finished_at == NOW


def test_a_result_keeps_its_numbers_exactly(engine: Engine) -> None:
    sent = message()
    digits = "-12345678901234567890.123456789012345678"
    commit_one(
        engine, sent, Commit(f'{{"large": {digits}, "sum": 0.30000000000000004, "int": {10**37 + 1}, "one": 1.0}}')
    )
    result = result_of(record_of(engine, sent))
    assert result == {
        "large": Decimal(digits),
        "sum": Decimal("0.30000000000000004"),
        "int": 10**37 + 1,
        "one": 1,
    }


def test_text_of_any_language_survives(engine: Engine) -> None:
    sent = message(caller="Zoë")
    commit_one(engine, sent, Commit('{"naïve": "日本語 🛒 \\u0000\\u001f"}'))
    assert result_of(record_of(engine, sent)) == {"naïve": "日本語 🛒 \x00\x1f"}


def test_a_second_delivery_changes_nothing_and_is_told_so(engine: Engine) -> None:
    sent = message()
    commit_one(engine, sent, Commit('{"first": true}'))
    for again in (Commit('{"first": false}'), Reject("no")):
        outcome = commit_one(engine, sent, again, NOW + 1)
        assert isinstance(outcome, Stored)
        assert (outcome.status, outcome.duplicate, outcome.reason) == ("processed", True, None)
    assert result_of(record_of(engine, sent)) == {"first": True}
    assert record_of(engine, sent).finished_at == NOW


def test_a_rejection_is_final_too(engine: Engine) -> None:
    sent = message()
    commit_one(engine, sent, Reject("no stock"))
    outcome = commit_one(engine, sent, Commit("{}"))
    assert isinstance(outcome, Stored)
    assert (outcome.status, outcome.duplicate, outcome.reason) == ("rejected", True, "no stock")


def test_one_commit_answers_for_each_message_in_order(engine: Engine) -> None:
    sent = [message() for _ in range(10)]
    decided = [(one, Reject(f"no {i}") if i % 3 == 0 else Commit(f'{{"n": {i}}}')) for i, one in enumerate(sent)]
    outcomes = engine.table.commit(decided, NOW)
    assert [outcome.reason for outcome in stored(outcomes)] == [f"no {i}" if i % 3 == 0 else None for i in range(10)]
    assert [result_of(record_of(engine, one)) for one in sent] == [None if i % 3 == 0 else {"n": i} for i in range(10)]


def test_one_message_twice_in_one_commit_is_stored_once(engine: Engine) -> None:
    sent, other = message(), message()
    decided = [(sent, Commit('{"n": 1}')), (other, Commit("{}")), (sent, Commit('{"n": 2}'))]
    outcomes = stored(engine.table.commit(decided, NOW))
    assert [outcome.duplicate for outcome in outcomes] == [False, False, True]
    assert result_of(record_of(engine, sent)) == {"n": 1}


@pytest.mark.parametrize("count", [2, 7, 40])
def test_one_that_has_ended_before_leaves_the_others_of_its_commit_alone(engine: Engine, count: int) -> None:
    sent = [message() for _ in range(count)]
    ended = count // 2
    commit_one(engine, sent[ended], Reject("no stock"))
    outcomes = stored(engine.table.commit([(one, Commit(f'{{"n": {i}}}')) for i, one in enumerate(sent)], NOW))
    assert [outcome.duplicate for outcome in outcomes] == [i == ended for i in range(count)]
    results = [result_of(record_of(engine, one)) for one in sent]
    assert results == [None if i == ended else {"n": i} for i in range(count)]


def test_an_unknown_id_has_no_record(engine: Engine) -> None:
    assert engine.table.get("nothing") is None
    assert engine.table.get("") is None
    assert engine.table.get("x" * 3_000) is None
    assert engine.table.get("orders/shops/dublin") is None


# --- emits ----------------------------------------------------------------------


def emitting(engine: Engine, sent: Message, decision: Commit) -> list[str]:
    """What the queue holds once what a commit hands back is sent: some engines send it in the same transaction."""
    outcome = commit_one(engine, sent, decision)
    assert isinstance(outcome, Stored)
    engine.queue.send(outcome.emits)
    return received_ids(engine)


def test_what_a_message_emits_is_sent(engine: Engine) -> None:
    sent = message()
    emits = [emitted(sent, 0), emitted(sent, 1)]
    assert emitting(engine, sent, Commit("{}", emits=emits)) == sorted(one.id for one in emits)


def test_a_second_delivery_sends_what_the_first_did_not_live_to_send(engine: Engine) -> None:
    sent = message(caller="")
    emits = [emitted(sent, 0), emitted(sent, 1)]
    commit_one(engine, sent, Commit("{}", emits=emits))
    assert emitting(engine, sent, Commit("{}")) == sorted(one.id for one in emits)


def test_what_is_emitted_arrives_as_it_was_emitted(engine: Engine) -> None:
    sent = message()
    emit = msgspec.structs.replace(emitted(sent, 0), group="shop.example")
    commit_one(engine, sent, Commit("{}", emits=[emit]))
    stored = engine.table.stored(sent.id)  # as a delivery finds it that comes after a crash
    assert stored is not None
    engine.queue.send(stored.emits)
    assert receive_one(engine).message == emit


# --- attempts and dead records --------------------------------------------------


def test_attempts_are_counted_with_the_first_and_the_last_failure(engine: Engine) -> None:
    sent = message()
    first = engine.table.record_failure(delivered(sent), FAILURE, NOW)
    second = engine.table.record_failure(delivered(sent, 2), Failure("failed", "OSError", "Zoë's disk"), NOW + 60_000)
    assert (first.attempts, first.error_type, first.first_failed_at, first.last_failed_at) == (1, "KeyError", NOW, NOW)
    assert second == record_of(engine, sent)
    assert second == Record(
        id=sent.id,
        workload=sent.workload,
        status="queued",
        accepted_at=sent.accepted_at,
        caller=sent.caller,
        attempts=2,
        error_type="OSError",
        error="Zoë's disk",
        first_failed_at=NOW,
        last_failed_at=NOW + 60_000,
    )


def test_an_attempt_counted_at_its_start_is_noted_or_taken_back(engine: Engine) -> None:
    sent = message()
    begun = engine.table.begin_attempt(delivered(sent))
    assert (begun.attempts, begun.status, begun.error_type, begun.first_failed_at) == (1, "queued", None, None)
    noted = engine.table.record_failure(delivered(sent), FAILURE, NOW + 1, begun=True)
    assert (noted.attempts, noted.error, noted.first_failed_at) == (1, "'sku'", NOW + 1)
    assert engine.table.begin_attempt(delivered(sent, 2)).attempts == 2
    engine.table.undo_attempt(delivered(sent, 2))
    taken_back = record_of(engine, sent)
    assert (taken_back.attempts, taken_back.error_type, taken_back.last_failed_at) == (1, "KeyError", NOW + 1)


def test_what_is_asked_for_again_because_its_answer_was_lost_counts_once(engine: Engine) -> None:
    sent = message()
    for _ in range(3):
        assert engine.table.begin_attempt(delivered(sent, 2)).attempts == 1
    for _ in range(3):
        assert engine.table.record_failure(delivered(sent, 2), FAILURE, NOW, begun=True).attempts == 1
    for _ in range(3):
        assert engine.table.record_failure(delivered(sent, 3), FAILURE, NOW).attempts == 2
    assert engine.table.begin_attempt(delivered(sent, 4)).attempts == 3
    for _ in range(3):
        engine.table.undo_attempt(delivered(sent, 4))
        assert record_of(engine, sent).attempts == 2


def test_what_arrives_after_its_delivery_was_taken_back_counts_nothing(engine: Engine) -> None:
    sent = message()
    engine.table.begin_attempt(delivered(sent, 2))
    engine.table.undo_attempt(delivered(sent, 2))
    assert engine.table.begin_attempt(delivered(sent, 2)).attempts == 0
    assert engine.table.begin_attempt(delivered(sent, 5)).attempts == 1
    assert engine.table.begin_attempt(delivered(sent, 4)).attempts == 1  # a processor that lost its message
    assert engine.table.record_failure(delivered(sent, 4), FAILURE, NOW).attempts == 1
    engine.table.undo_attempt(delivered(sent, 4))
    assert record_of(engine, sent).attempts == 1


def test_taking_back_what_never_began_changes_nothing(engine: Engine) -> None:
    sent = message()
    engine.table.undo_attempt(delivered(sent, 2))
    assert engine.table.begin_attempt(delivered(sent, 2)).attempts == 1


def test_a_message_that_failed_before_can_still_be_processed(engine: Engine) -> None:
    sent = message()
    engine.table.record_failure(delivered(sent), FAILURE, NOW)
    assert commit_one(engine, sent, Commit('{"n": 1}')) == Stored("processed")
    assert (record_of(engine, sent).status, result_of(record_of(engine, sent))) == ("processed", {"n": 1})


@pytest.mark.parametrize("decision", [Commit('{"n": 1}'), Reject("no")])
def test_counting_an_attempt_leaves_a_final_record_alone(engine: Engine, decision: Commit | Reject) -> None:
    sent = message()
    commit_one(engine, sent, decision)
    before = record_of(engine, sent)
    assert engine.table.record_failure(delivered(sent), FAILURE, NOW + 1) == before
    assert record_of(engine, sent) == before


def test_an_error_that_is_not_valid_unicode_is_recorded_all_the_same(engine: Engine) -> None:
    if engine.name == "embedded":
        pytest.skip("the embedded engine takes such a text as it is")
    sent = message()
    counted = engine.table.record_failure(delivered(sent), Failure("failed", "ValueError", "half a pair: \ud800"), NOW)
    assert counted.error == "half a pair: ?"


def test_a_dead_record_keeps_the_whole_story_and_the_body(engine: Engine) -> None:
    sent = message('{"large": "' + "x" * (limits.MAX_ENTRY_BYTES - 100) + '"}')
    engine.table.record_failure(delivered(sent), FAILURE, NOW)
    dead = dead_record(sent, error="e" * limits.MAX_ERROR_CHARS)
    assert bury(engine, dead)
    assert bury(engine, dead)
    assert record_of(engine, sent) == dead


def test_a_dead_record_of_a_stranger_has_no_workload_and_no_caller(engine: Engine) -> None:
    dead = dead_record(message(), workload="", caller="", attempts=1, accepted_at=0)
    assert bury(engine, dead)
    assert engine.table.get(dead.id) == dead


def test_a_final_record_cannot_be_marked_dead(engine: Engine) -> None:
    sent = message()
    commit_one(engine, sent, Commit('{"n": 1}'))
    assert not bury(engine, dead_record(sent))
    assert record_of(engine, sent).status == "processed"


def test_a_dead_message_that_is_redriven_has_its_effect_once(engine: Engine) -> None:
    sent = message()
    bury(engine, dead_record(sent))
    assert engine.table.begin_attempt(delivered(sent)).status == "dead"
    outcome = commit_one(engine, sent, Commit('{"n": 1}'))
    assert outcome in (Stored("processed"), Stored("processed", late=True))  # which engines need not know
    record = record_of(engine, sent)
    assert (record.status, result_of(record), record.body) == ("processed", {"n": 1}, None)


def test_a_buried_message_is_a_dead_letter_with_its_body(engine: Engine) -> None:
    sent = message()
    engine.queue.send([sent])
    delivery = receive_one(engine)
    assert engine.table.bury(delivery, dead_record(sent))
    assert engine.table.bury(delivery, dead_record(sent))
    engine.queue.delete([delivery])
    assert engine.queue.receive(1, 60) == []
    if (letters := engine.dead_letters()) is not None:
        assert {letter.id: letter for letter in letters} == {sent.id: sent}


def test_nothing_is_sent_in_part_without_saying_so(engine: Engine) -> None:
    outcomes = engine.queue.send([message(), message("")])  # SQS takes no empty body, and the receiver sends none
    if outcomes != [None, None]:
        assert any(isinstance(outcome, NotSent) for outcome in outcomes)
        assert len(received_ids(engine)) == outcomes.count(None)


@pytest.mark.parametrize("decision", [Commit("{}"), Reject("no"), FAILURE])
def test_nothing_ends_before_it_was_accepted_though_the_clock_was_set_back(
    engine: Engine, decision: Commit | Reject | Failure
) -> None:
    sent = message()
    engine.queue.send([sent])
    policy = Policy(max_attempts=1, now_ms=lambda: sent.accepted_at - 3_600_000)
    settle([(receive_one(engine), decision)], engine.queue, engine.table, policy)
    assert record_of(engine, sent).finished_at == sent.accepted_at
