"""The processor's answer to Lambda, row by row of what the event source mapping makes of an answer with
ReportBatchItemFailures. `mapping` below is that table; every answer of `handle` must mean to it what it meant to us."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from decoupled.core import limits
from decoupled.core.outcomes import Commit, Delivery, NotStored, Reject, Stored
from decoupled.core.workload import Message, Unavailable
from decoupled.engines.aws.messages import SqsQueue
from tests.support.batches import EVERYTHING, come_back, entry, event, mapping
from tests.support.contract import commit_one, message, record_of, result_of
from tests.support.engines import AwsEngine


@pytest.mark.parametrize(
    ("answer", "comes_back"),
    [
        (None, set()),
        ({}, set()),
        ({"batchItemFailures": None}, set()),
        ({"batchItemFailures": []}, set()),
        ({"batchItemFailures": [{"itemIdentifier": "m1"}]}, {"m1"}),
        ({"batchItemFailures": [{"itemIdentifier": ""}]}, EVERYTHING),
        ({"batchItemFailures": [{"itemIdentifier": None}]}, EVERYTHING),
        ({"batchItemFailures": [{"itemIdentifer": "m1"}]}, EVERYTHING),
        ({"batchItemFailures": [{"itemIdentifier": "unknown"}]}, EVERYTHING),
        ("not an object", EVERYTHING),
    ],
)
def test_the_rows_of_the_table(answer: Any, comes_back: set[str] | str) -> None:
    assert mapping(answer, ["m1", "m2"]) == comes_back


def test_a_good_batch_fails_nothing(moto_engine: AwsEngine) -> None:
    sent = [entry(do) for do in ("one", "two", "write")]
    moto_engine.queue.send(sent)
    assert come_back(moto_engine, event(moto_engine)) == []
    assert [record_of(moto_engine, one).status for one in sent] == ["processed"] * 3


def test_only_what_failed_comes_back(moto_engine: AwsEngine) -> None:
    sent = [entry(do) for do in ("one", "fail", "reject", "wait", "nonsense", "too large", "write")]
    moto_engine.queue.send(sent)
    assert come_back(moto_engine, event(moto_engine)) == ["fail", "nonsense", "too large", "wait"]
    records = [moto_engine.table.get(one.id) for one in sent]
    assert [record and (record.status, record.attempts) for record in records] == [
        ("processed", 0),
        ("queued", 1),
        ("rejected", 0),
        None,  # an unavailable backend is not the message's fault
        ("queued", 1),
        ("queued", 1),
        ("processed", 0),
    ]


def test_what_does_not_decode_comes_back_for_a_newer_version_and_what_a_stranger_sent_is_dead(
    moto_engine: AwsEngine,
) -> None:
    sent = [message('{"do": 1}'), entry("one")]
    moto_engine.queue.send(sent)
    moto_engine.sqs.send_message(QueueUrl=moto_engine.queue_url, MessageBody="a stranger's")
    assert [str(do) for do in come_back(moto_engine, event(moto_engine))] == ["1"]
    assert [letter.body for letter in moto_engine.dead_letters() or []] == ["a stranger's"]
    assert (record_of(moto_engine, sent[0]).status, record_of(moto_engine, sent[1]).status) == ("queued", "processed")


def test_a_message_that_keeps_failing_is_buried_alone(moto_engine: AwsEngine) -> None:
    poison, good = entry("fail"), entry("one")
    moto_engine.queue.send([poison, good])
    happened = event(moto_engine)
    assert come_back(moto_engine, happened) == ["fail"]
    for receive_count in (2, 3):
        for record in happened["Records"]:
            record["attributes"]["ApproximateReceiveCount"] = str(receive_count)
        assert come_back(moto_engine, happened) == (["fail"] if receive_count < 3 else [])
    record = record_of(moto_engine, poison)
    assert (record.status, record.attempts, record.error_type, record.body) == ("dead", 3, "KeyError", poison.body)
    assert [letter.id for letter in moto_engine.dead_letters() or []] == [poison.id]
    assert record_of(moto_engine, good).status == "processed"


def test_an_outage_of_any_length_buries_nothing(moto_engine: AwsEngine) -> None:
    sent = [entry("wait"), entry("one")]
    moto_engine.queue.send(sent)
    happened = event(moto_engine)
    for receive_count in (1, 2, 3, 50, 999):
        for record in happened["Records"]:
            record["attributes"]["ApproximateReceiveCount"] = str(receive_count)
        assert come_back(moto_engine, happened) == ["wait"]
    assert moto_engine.dead_letters() == []
    assert record_of(moto_engine, sent[0]).attempts == 0


def test_a_duplicate_does_not_come_back(moto_engine: AwsEngine) -> None:
    sent = entry("one")
    commit_one(moto_engine, sent, Commit('{"first": true}'))
    moto_engine.queue.send([sent])
    for receive_count in (1, 2):
        happened = event(moto_engine, receive_count)
        assert come_back(moto_engine, happened) == []
        moto_engine.queue.retry_later(
            [(Delivery(sent, record["receiptHandle"], 1), 0) for record in happened["Records"]]
        )
    assert result_of(record_of(moto_engine, sent)) == {"first": True}


def test_what_there_was_no_time_for_comes_back_unharmed(moto_engine: AwsEngine) -> None:
    moto_engine.queue.send([entry("one"), entry("two")])
    remaining = iter([30.0])  # when the batch began; then almost nothing is left
    assert come_back(moto_engine, event(moto_engine), remaining_s=lambda: next(remaining, 1.0)) == ["one", "two"]


class SickTable:
    """A table that is down: every method says so."""

    def commit(self, decided: Sequence[tuple[Message, Commit | Reject]], now_ms: int) -> list[Stored | NotStored]:
        return [NotStored("down")] * len(decided)

    def __getattr__(self, name: str) -> Any:
        def down(*_: Any, **__: Any) -> Any:
            raise Unavailable("down")

        return down


@pytest.mark.parametrize("receive_count", [1, 2])
def test_a_sick_table_gives_everything_back_by_name(moto_engine: AwsEngine, receive_count: int) -> None:
    moto_engine.queue.send([entry("one"), entry("fail")])
    happened = event(moto_engine, receive_count)
    assert come_back(moto_engine, happened, table=SickTable()) == ["fail", "one"]
    assert moto_engine.dead_letters() == []


def test_emits_that_could_not_be_sent_bring_the_message_back(moto_engine: AwsEngine) -> None:
    sent = entry("one")
    moto_engine.queue.send([sent])
    happened = event(moto_engine)
    commit_one(moto_engine, sent, Commit("{}", emits=[entry("later")]))

    deaf = SqsQueue(_Unreachable(), moto_engine.queue_url, moto_engine.dead_letter_queue_url)
    assert come_back(moto_engine, happened, queue=deaf) == ["one"]
    assert come_back(moto_engine, happened) == []
    assert [json.loads(record["body"])["do"] for record in event(moto_engine)["Records"]] == ["later"]


class _Unreachable:
    def __getattr__(self, name: str) -> Any:
        def call(**_: Any) -> Any:
            raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")

        return call


def test_backoff_hides_what_failed_for_longer_each_time(moto_engine: AwsEngine) -> None:
    moto_engine.queue.send([entry("wait")])
    happened = event(moto_engine)
    waits = []
    for receive_count in (1, 5, 8, 20):
        happened["Records"][0]["attributes"]["ApproximateReceiveCount"] = str(receive_count)
        moto_engine.calls.clear()
        come_back(moto_engine, happened)
        ((_, _, call),) = [call for call in moto_engine.calls if call[1] == "ChangeMessageVisibilityBatch"]
        waits.append(call["Entries"][0]["VisibilityTimeout"])
    assert waits[0] == 7  # what the backend asked for
    assert waits == sorted(waits)
    assert limits.BACKOFF_CAP_S / 2 <= waits[-1] <= limits.BACKOFF_CAP_S
