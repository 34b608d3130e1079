"""What only the AWS engine can get wrong: the number of calls and their cost, and what each of AWS's errors means.
Faults are injected in front of, or after, a real call of moto's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError

from decoupled.core import limits
from decoupled.core.outcomes import Commit, Delivery, Failure, NotStored, Record, Reject, Stored
from decoupled.core.workload import Add, Message, Put, Unavailable, Write
from decoupled.engines.aws import client as aws
from decoupled.engines.aws.messages import SqsQueue
from decoupled.engines.aws.table import DynamoTable
from decoupled.pipeline.processor import TIME_RESERVED_S
from decoupled.pipeline.settlement import Policy, settle, settle_duplicate
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
    record_of,
    stored,
)
from tests.support.engines import AwsEngine

Fault = Callable[[Callable[..., Any], dict[str, Any]], Any]


class Faulty:
    """A client whose next calls meet the given faults, in order; then it is well."""

    def __init__(self, real: Any, *faults: Fault) -> None:
        self.real = real
        self.faults = list(faults)
        self.called: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**parameters: Any) -> Any:
            self.called.append(name)
            if self.faults:
                return self.faults.pop(0)(getattr(self.real, name), parameters)
            return getattr(self.real, name)(**parameters)

        return call


def refuses(code: str, status: int = 400, **extra: Any) -> Fault:
    """The service answers with an error, and has done nothing."""

    def fault(_call: Callable[..., Any], _parameters: dict[str, Any]) -> Any:
        metadata = {"HTTPStatusCode": status, "RetryAttempts": extra.pop("RetryAttempts", 0)}
        raise ClientError({"Error": {"Code": code, "Message": "?"}, "ResponseMetadata": metadata, **extra}, "Operation")

    return fault


def cancels(*reasons: str) -> Fault:
    """A transaction is cancelled, with a reason an action."""
    return refuses("TransactionCanceledException", CancellationReasons=[{"Code": reason} for reason in reasons])


def loses_the_answer(call: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    """The service did it, and the client never hears so."""
    call(**parameters)
    raise ReadTimeoutError(endpoint_url="http://dynamodb")


def unreachable(_call: Callable[..., Any], _parameters: dict[str, Any]) -> Any:
    """No connection comes about."""
    raise ConnectTimeoutError(endpoint_url="http://dynamodb")


THROTTLED = [
    refuses("ProvisionedThroughputExceededException"),
    refuses("ThrottlingException"),
    refuses("RequestLimitExceeded"),
    refuses("InternalServerError", 500),
    refuses("ServiceUnavailable", 503),
    refuses("ResourceNotFoundException"),
    refuses("AccessDeniedException"),
    refuses("ExpiredTokenException"),
    unreachable,
]


def with_faults(engine: AwsEngine, *faults: Fault) -> tuple[DynamoTable, Faulty, list[float]]:
    faulty = Faulty(engine.dynamodb, *faults)
    pauses: list[float] = []
    return DynamoTable(faulty, engine.table_name, pause=pauses.append, spread=lambda: 0.0), faulty, pauses


def operations(engine: AwsEngine) -> list[str]:
    return [operation for _, operation, _ in engine.calls]


# --- what it costs ------------------------------------------------------------


def test_an_order_costs_one_request_to_sqs_and_one_write_to_dynamodb(moto_engine: AwsEngine) -> None:
    sent = message()
    moto_engine.queue.send([sent])
    assert operations(moto_engine) == ["SendMessageBatch"]
    moto_engine.calls.clear()
    commit_one(moto_engine, sent, Commit('{"total": "79.80"}'))
    assert operations(moto_engine) == ["PutItem"]


def test_a_duplicate_costs_one_write_and_no_read(moto_engine: AwsEngine) -> None:
    sent = message()
    commit_one(moto_engine, sent, Commit("{}"))
    moto_engine.calls.clear()
    commit_one(moto_engine, sent, Commit("{}"))
    assert operations(moto_engine) == ["PutItem"]


def test_further_writes_make_one_transaction(moto_engine: AwsEngine) -> None:
    writes: list[Write] = [Put("a/b", {}, if_absent="taken"), Add("c/d", {"n": 1}, floor={"n": 0})]
    commit_one(moto_engine, message(), Commit("{}", writes))
    assert operations(moto_engine) == ["TransactWriteItems"]


def test_only_lowest_and_highest_cost_a_read(moto_engine: AwsEngine) -> None:
    commit_one(moto_engine, message(), Commit("{}", [Add("c/d", {"n": 1}, lowest={"low": 1})]))
    assert operations(moto_engine) == ["GetItem", "TransactWriteItems"]


def test_ten_messages_go_in_one_batch_call_and_eleven_in_two(moto_engine: AwsEngine) -> None:
    moto_engine.queue.send([message() for _ in range(10)])
    assert operations(moto_engine) == ["SendMessageBatch"]
    moto_engine.queue.send([message() for _ in range(11)])
    assert operations(moto_engine) == ["SendMessageBatch"] * 3


def test_a_batch_call_stays_within_one_mebibyte(moto_engine: AwsEngine) -> None:
    moto_engine.queue.send([message("x" * limits.MAX_ENTRY_BYTES) for _ in range(8)])
    assert sorted(len(call["Entries"]) for _, _, call in moto_engine.calls) == [2, 3, 3]


def test_the_slowest_call_fits_the_time_that_the_processor_keeps_in_reserve() -> None:
    assert aws.SLOWEST_CALL_S <= TIME_RESERVED_S


# --- what a message looks like on SQS -------------------------------------------


def raw_messages(engine: AwsEngine, url: str) -> list[dict[str, Any]]:
    answer = engine.sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"]
    )
    return list(answer["Messages"])


def test_the_body_is_the_entry_and_the_rest_stands_in_attributes(moto_engine: AwsEngine) -> None:
    sent = message('{"sku": "KB-104"}')
    moto_engine.queue.send([sent])
    (raw,) = raw_messages(moto_engine, moto_engine.queue_url)
    assert raw["Body"] == sent.body
    assert {name: value["StringValue"] for name, value in raw["MessageAttributes"].items()} == {
        "id": sent.id,
        "workload": "orders",
        "caller": sent.caller,
        "accepted_at": str(sent.accepted_at),
    }


def test_what_came_under_a_key_travels_with_its_digest(moto_engine: AwsEngine) -> None:
    sent = [message(digest="0f" * 12), message(digest="0f" * 12, due_at=moto_engine.queue._clock_ms() + 86_400_000)]
    moto_engine.queue.send(sent)
    moto_engine.fire()
    received = {receive_one(moto_engine).message for _ in sent}
    assert received == {msgspec.structs.replace(it, due_at=None) for it in sent}


def settle_as_processed(engine: AwsEngine, delivery: Delivery) -> None:
    settle([(delivery, Commit("{}"))], engine.queue, engine.table, Policy(max_attempts=5))


def test_of_two_entries_under_one_key_the_first_that_is_processed_counts_and_the_other_is_told_of(
    moto_engine: AwsEngine, caplog: pytest.LogCaptureFixture
) -> None:
    first = message('{"n": 1}', digest="1" * 24)
    other = message('{"n": 2}', id=first.id, digest="2" * 24)
    unknown = message('{"n": 2}', id=first.id)  # sent by an earlier version
    for again in (first, first, unknown):
        settle_as_processed(moto_engine, delivered(again))
    assert caplog.messages == []
    settle_as_processed(moto_engine, delivered(other))
    settle_duplicate(delivered(other, 2), moto_engine.queue, moto_engine.table, Policy(max_attempts=5))
    assert caplog.messages == ["same key, another entry: what was processed before it counts"] * 2
    assert record_of(moto_engine, first).digest == "1" * 24


def test_a_record_has_the_digest_of_the_entry_that_it_tells_of(moto_engine: AwsEngine) -> None:
    first = message('{"n": 1}', digest="1" * 24)
    other = message('{"n": 2}', id=first.id, digest="2" * 24)
    moto_engine.table.record_failure(delivered(first), FAILURE, NOW)
    settle([(delivered(other, 2), FAILURE)], moto_engine.queue, moto_engine.table, Policy(max_attempts=1))
    dead = record_of(moto_engine, first)
    assert (dead.status, dead.body, dead.digest) == ("dead", other.body, other.digest)
    settle_as_processed(moto_engine, delivered(first, 3))
    assert record_of(moto_engine, first).digest == first.digest


DIGEST = re.compile("orders:[0-9a-f]{40}")


@pytest.mark.parametrize(
    ("group", "tenant"),
    [
        ("", "orders:"),
        ("iam:1:AROA", "orders:iam:1:AROA"),
        ("x" * 121, "orders:" + "x" * 121),
        ("x" * 122, DIGEST),
        ("Zoë", DIGEST),
        ("with space", DIGEST),
        ("\ud800", "orders:?"),
    ],
)
def test_each_workloads_group_is_a_tenant_of_the_fair_queue(
    moto_engine: AwsEngine, group: str, tenant: str | re.Pattern[str]
) -> None:
    moto_engine.queue.send([message(group=group)])
    ((_, _, call),) = moto_engine.calls
    sent = call["Entries"][0]["MessageGroupId"]
    assert tenant.fullmatch(sent) if isinstance(tenant, re.Pattern) else sent == tenant
    received = receive_one(moto_engine).message
    assert f"orders:{received.group}" == sent
    moto_engine.queue.send([received])  # as a redrive does: it stays the same tenant
    assert moto_engine.calls[-1][2]["Entries"][0]["MessageGroupId"] == sent


def test_what_another_version_or_a_stranger_sent_has_no_group(moto_engine: AwsEngine) -> None:
    attributes = {"workload": {"DataType": "String", "StringValue": "orders"}}
    for group in ("iam:1:AROA", "orders"):
        moto_engine.sqs.send_message(
            QueueUrl=moto_engine.queue_url, MessageBody="{}", MessageGroupId=group, MessageAttributes=attributes
        )
        assert receive_one(moto_engine).message.group == ""
    for workload in ("w" * 300, "Zoë", ""):
        stranger = message(workload=workload, group="x")
        assert moto_engine.queue.send([stranger]) == [None]
        assert receive_one(moto_engine).message.workload == workload


def test_a_dead_letter_tells_its_story_in_its_attributes(moto_engine: AwsEngine) -> None:
    sent = message(digest="0f" * 12)  # which its record has: SQS takes ten
    moto_engine.queue.send_dead_letter(sent, dead_record(sent, error="no such sku: \x00\ufffe Zoë"))
    (raw,) = raw_messages(moto_engine, moto_engine.dead_letter_queue_url)
    assert raw["Body"] == sent.body
    assert {name: value["StringValue"] for name, value in raw["MessageAttributes"].items()} == {
        "id": sent.id,
        "workload": "orders",
        "caller": sent.caller,
        "accepted_at": str(sent.accepted_at),
        "error_type": "KeyError",
        "error": "no such sku: \ufffd\ufffd Zoë",
        "attempts": "5",
        "first_failed_at": "2023-11-14T22:13:20.123Z",
        "last_failed_at": "2023-11-14T22:13:20.127Z",
        "dead_at": "2023-11-14T22:13:20.128Z",
    }


def test_a_stranger_of_a_whole_mebibyte_can_be_buried(moto_engine: AwsEngine) -> None:
    stranger = message("x" * limits.MAX_SQS_BYTES, workload="", caller="")
    moto_engine.queue.send_dead_letter(stranger, dead_record(stranger))
    (raw,) = raw_messages(moto_engine, moto_engine.dead_letter_queue_url)
    assert raw["Body"] == stranger.body
    assert bury(moto_engine, dead_record(stranger))
    assert record_of(moto_engine, stranger).body is None  # over what an item takes; the dead-letter queue has it


# --- what a record looks like on DynamoDB ---------------------------------------


def raw_item(engine: AwsEngine, key: str) -> dict[str, Any]:
    item: dict[str, Any] = engine.dynamodb.get_item(TableName=engine.table_name, Key={"pk": {"S": key}})["Item"]
    return item


def test_a_record_is_readable_in_the_console(moto_engine: AwsEngine) -> None:
    sent = message()
    commit_one(moto_engine, sent, Commit('{"total": "79.80", "items": 2}', emits=[emitted(sent, 0)]))
    raw = raw_item(moto_engine, sent.id)
    assert raw["status"] == {"S": "processed"}
    assert raw["accepted_at"] == {"S": "2023-11-14T22:13:20.116Z"}
    assert raw["result"] == {"M": {"total": {"S": "79.80"}, "items": {"N": "2"}}}
    assert raw["emits"]["L"][0]["M"]["workload"] == {"S": "notifications"}
    assert {kind for attribute in raw.values() for kind in attribute} <= {"S", "N", "M", "L"}


def test_final_records_expire_and_others_do_not(moto_engine: AwsEngine) -> None:
    table = DynamoTable(moto_engine.dynamodb, moto_engine.table_name, record_ttl_days=30)
    kept, processed, rejected, dead = message(), message(), message(), message()
    table.commit([(processed, Commit("{}", [Put("a/b", {})])), (rejected, Reject("no"))], NOW)
    table.begin_attempt(delivered(kept))
    table.bury(Delivery(dead, "receipt", 1), dead_record(dead))
    expires_at = {"N": str(NOW // 1000 + 30 * 86_400)}
    keys = (processed.id, rejected.id, kept.id, dead.id, "a/b")
    assert [raw_item(moto_engine, key).get("expires_at") for key in keys] == [expires_at, expires_at, None, None, None]


def test_the_index_of_the_dead_lists_them_by_age_and_nothing_else(moto_engine: AwsEngine) -> None:
    letters = [message() for _ in range(3)]
    for age, letter in enumerate(letters):
        bury(moto_engine, dead_record(letter, finished_at=NOW - age * 1000))
    commit_one(moto_engine, message(), Commit("{}", [Put("a/b", {})]))
    commit_one(moto_engine, letters[1], Commit("{}"))  # redriven, and well
    answer = moto_engine.dynamodb.query(
        TableName=moto_engine.table_name,
        IndexName="dead",
        KeyConditionExpression="dead = :dead",
        ExpressionAttributeValues={":dead": {"S": "dead"}},
    )
    assert [item["pk"]["S"] for item in answer["Items"]] == [letters[2].id, letters[0].id]
    assert "body" not in answer["Items"][0]


# --- what DynamoDB's errors mean ------------------------------------------------


@pytest.mark.parametrize("fault", THROTTLED)
def test_a_sick_table_is_not_the_messages_fault(moto_engine: AwsEngine, fault: Fault) -> None:
    sent = message()
    outcome = commit_one(moto_engine, sent, Commit("{}"))
    table, _, _ = with_faults(moto_engine, fault)
    (outcome,) = table.commit([(message(), Commit("{}", [Put("a/b", {})]))], NOW)
    assert isinstance(outcome, NotStored)
    assert not outcome.refused
    calls: list[Callable[[DynamoTable], object]] = [
        lambda table: table.get(sent.id),
        lambda table: table.item("a/b"),
        lambda table: table.begin_attempt(delivered(sent)),
        lambda table: table.bury(Delivery(sent, "receipt", 1), dead_record(sent)),
    ]
    for call in calls:
        with pytest.raises(Unavailable):
            call(with_faults(moto_engine, fault)[0])


@pytest.mark.parametrize("writes", [[], [Add("c/d", {"n": 1}, highest={"high": 1})]])
def test_a_commit_whose_answer_was_lost_is_applied_once(moto_engine: AwsEngine, writes: list[Any]) -> None:
    sent = message()
    decision = Commit('{"n": 1}', writes, [emitted(sent, 0)])
    well: Fault = lambda call, parameters: call(**parameters)  # noqa: E731
    table, _, _ = with_faults(moto_engine, *([well] if writes else []), loses_the_answer)
    (lost,) = table.commit([(sent, decision)], NOW)
    assert isinstance(lost, NotStored)
    again = commit_one(moto_engine, sent, decision)
    assert again == Stored("processed", duplicate=True, emits=(emitted(sent, 0),))
    assert moto_engine.table.item("c/d") == ({"n": 1, "high": 1} if writes else None)


def test_a_collision_is_tried_again_with_growing_pauses(moto_engine: AwsEngine) -> None:
    table, faulty, pauses = with_faults(moto_engine, *[cancels("None", "TransactionConflict")] * 3)
    sent = message()
    assert stored(table.commit([(sent, Commit("{}", [Put("a/b", {})]))], NOW))
    assert len(faulty.called) == 4
    assert pauses == [limits.CONFLICT_PAUSE_S * factor for factor in (1, 2, 4)]


def test_collisions_without_end_go_back_to_the_queue(moto_engine: AwsEngine) -> None:
    table, faulty, pauses = with_faults(moto_engine, *[cancels("TransactionConflict", "None")] * 99)
    (outcome,) = table.commit([(message(), Commit("{}", [Put("a/b", {})]))], NOW)
    assert isinstance(outcome, NotStored)
    assert not outcome.refused
    assert len(faulty.called) == limits.CONFLICT_TRIES
    assert sum(pauses) < 1


def test_a_record_that_a_transaction_holds_is_tried_again(moto_engine: AwsEngine) -> None:
    sent = message()
    table, _, pauses = with_faults(moto_engine, *[refuses("TransactionConflictException")] * 2)
    assert stored(table.commit([(sent, Commit("{}"))], NOW)) == [Stored("processed", emits=[])]
    assert len(pauses) == 2
    table, _, _ = with_faults(moto_engine, *[refuses("TransactionConflictException")] * 99)
    (outcome,) = table.commit([(message(), Commit("{}"))], NOW)
    assert isinstance(outcome, NotStored)
    with pytest.raises(Unavailable):
        with_faults(moto_engine, *[refuses("TransactionConflictException")] * 99)[0].begin_attempt(delivered(sent))


def test_a_collision_hides_whether_an_earlier_write_would_fail(moto_engine: AwsEngine) -> None:
    commit_one(moto_engine, message(), Commit("{}", [Put("a/1", {}), Put("a/2", {})]))
    table, _, pauses = with_faults(
        moto_engine, cancels("None", "TransactionConflict", "ConditionalCheckFailed"), cancels("None", "None", "None")
    )
    writes = [Put("a/1", {}, if_absent="first"), Put("a/2", {}, if_absent="second")]
    (outcome,) = table.commit([(message(), Commit("{}", list(writes)))], NOW)
    assert isinstance(outcome, Stored)
    assert outcome.reason == "first"
    assert len(pauses) == 2


@pytest.mark.parametrize("reason", ["ThrottlingError", "ProvisionedThroughputExceeded", "AccessDenied"])
def test_a_throttled_transaction_is_not_hammered(moto_engine: AwsEngine, reason: str) -> None:
    table, faulty, _ = with_faults(moto_engine, cancels("None", reason))
    (outcome,) = table.commit([(message(), Commit("{}", [Put("a/b", {})]))], NOW)
    assert isinstance(outcome, NotStored)
    assert not outcome.refused
    assert len(faulty.called) == 1


def test_what_dynamodb_will_never_take_is_the_messages_fault(moto_engine: AwsEngine) -> None:
    for writes in ([], [Put("a/b", {})]):
        (outcome,) = with_faults(moto_engine, refuses("ValidationException"))[0].commit(
            [(message(), Commit("{}", list(writes)))], NOW
        )
        assert isinstance(outcome, NotStored)
        assert outcome.refused
    (outcome,) = with_faults(moto_engine, cancels("None", "ValidationError"))[0].commit(
        [(message(), Commit("{}", [Put("a/b", {})]))], NOW
    )
    assert isinstance(outcome, NotStored)
    assert outcome.refused


def test_an_extreme_that_changes_under_the_reader_is_read_again(moto_engine: AwsEngine) -> None:
    key = "readings/hours/d1"
    commit_one(moto_engine, message(), Commit("{}", [Add(key, {"n": 1}, lowest={"low": 5}, highest={"high": 5})]))

    def meanwhile(call: Callable[..., Any], parameters: dict[str, Any]) -> Any:
        answer = call(**parameters)
        commit_one(moto_engine, message(), Commit("{}", [Add(key, {"n": 1}, lowest={"low": 1}, highest={"high": 9})]))
        return answer

    table, faulty, _ = with_faults(moto_engine, meanwhile)
    decision = Commit("{}", [Add(key, {"n": 1}, lowest={"low": 3}, highest={"high": 7})])
    assert stored(table.commit([(message(), decision)], NOW))
    assert faulty.called == ["get_item", "transact_write_items", "transact_write_items"]
    assert moto_engine.table.item(key) == {"n": 3, "low": 1, "high": 9}


def test_one_sick_message_does_not_keep_the_others_from_being_stored(moto_engine: AwsEngine) -> None:
    table, _, _ = with_faults(moto_engine, refuses("ThrottlingException"))
    outcomes = table.commit([(message(), Commit("{}")) for _ in range(10)], NOW)
    assert sum(isinstance(outcome, NotStored) for outcome in outcomes) == 1
    assert len(stored(outcomes)) == 9


def test_messages_on_one_sick_item_do_not_wait_for_its_time_out_one_by_one(moto_engine: AwsEngine) -> None:
    table, faulty, _ = with_faults(moto_engine, unreachable)
    outcomes = table.commit([(message(), Commit("{}", [Add("a/b", {"n": 1})])) for _ in range(5)], NOW)
    assert not stored(outcomes)
    assert len(faulty.called) == 1


# --- what SQS's errors mean -----------------------------------------------------


def sending(engine: AwsEngine, *faults: Fault) -> SqsQueue:
    return SqsQueue(Faulty(engine.sqs, *faults), engine.queue_url, engine.dead_letter_queue_url)


def test_every_failed_entry_is_reported_at_its_place(moto_engine: AwsEngine) -> None:
    def in_part(_call: Callable[..., Any], _parameters: dict[str, Any]) -> Any:
        return {
            "Successful": [{"Id": "0"}, {"Id": "4"}],
            "Failed": [
                {"Id": "2", "SenderFault": True, "Code": "InvalidMessageContents", "Message": "bad character"},
                {"Id": "1", "SenderFault": False, "Code": "InternalError"},
                {"Id": "5", "SenderFault": True, "Code": "KmsThrottled"},
            ],
        }

    outcomes = sending(moto_engine, in_part).send([message() for _ in range(6)])
    assert [outcome and (outcome.transient, outcome.unknown) for outcome in outcomes] == [
        None,
        (True, False),
        (False, False),
        (True, True),  # not in the answer at all
        None,
        (True, False),
    ]


@pytest.mark.parametrize(
    ("fault", "unknown"),
    [
        (loses_the_answer, True),
        (unreachable, True),  # botocore tried twice; the first try may have got through
        (refuses("InternalFailure", 500), True),
        (refuses("ThrottlingException", RetryAttempts=1), True),
        (refuses("ThrottlingException"), False),
        (refuses("AccessDeniedException", 403), False),
        (refuses("AWS.SimpleQueueService.NonExistentQueue"), False),
    ],
)
def test_a_failed_send_says_whether_the_queue_may_hold_it(moto_engine: AwsEngine, fault: Fault, unknown: bool) -> None:
    (outcome,) = sending(moto_engine, fault).send([message()])
    assert outcome is not None
    assert (outcome.transient, outcome.unknown) == (True, unknown)


def test_one_failed_batch_call_fails_only_its_own_messages(moto_engine: AwsEngine) -> None:
    outcomes = sending(moto_engine, refuses("ThrottlingException")).send([message() for _ in range(30)])
    failed = [index for index, outcome in enumerate(outcomes) if outcome is not None]
    assert len(failed) == 10
    assert failed == list(range(failed[0], failed[0] + 10))


def test_a_backoff_that_cannot_be_set_does_not_fail_the_batch(
    moto_engine: AwsEngine, caplog: pytest.LogCaptureFixture
) -> None:
    moto_engine.queue.send([message()])
    delivery = receive_one(moto_engine)
    sending(moto_engine, unreachable).retry_later([(delivery, 5)])
    assert "backoff not set" in caplog.text


def test_a_dead_letter_that_sqs_does_not_take_stays_on_the_queue(moto_engine: AwsEngine) -> None:
    sent = message()
    with pytest.raises(Unavailable):
        sending(moto_engine, unreachable).send_dead_letter(sent, dead_record(sent))


def test_a_foreign_message_is_delivered_without_a_workload(moto_engine: AwsEngine) -> None:
    moto_engine.sqs.send_message(QueueUrl=moto_engine.queue_url, MessageBody="not ours")
    delivery = receive_one(moto_engine)
    assert (delivery.message.workload, delivery.message.body, delivery.message.caller) == ("", "not ours", "")
    assert 0 < len(delivery.message.id) <= limits.MAX_ID_CHARS
    assert delivery.message.accepted_at > 0


# --- a failure's story, through the table ---------------------------------------


def test_a_time_to_the_millisecond_survives(moto_engine: AwsEngine) -> None:
    for ms in (0, 1, 999, 1_000, 1_795_430_130_001, 253_402_300_799_999):
        record = moto_engine.table.record_failure(delivered(message()), Failure("failed", "E", "e"), ms)
        assert record.first_failed_at == ms


def test_records_are_json_for_the_tools(moto_engine: AwsEngine) -> None:
    sent: Message = message()
    bury(moto_engine, dead_record(sent))
    record: Record = record_of(moto_engine, sent)
    assert json.loads(msgspec.json.encode(record))["error_type"] == "KeyError"


def test_connection_errors_have_a_name(moto_engine: AwsEngine) -> None:
    def refused(_call: Callable[..., Any], _parameters: dict[str, Any]) -> Any:
        raise EndpointConnectionError(endpoint_url="http://sqs")

    (outcome,) = sending(moto_engine, refused).send([message()])
    assert outcome is not None
    assert "http://sqs" in outcome.detail
