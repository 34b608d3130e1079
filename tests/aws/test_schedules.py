"""What is due later than SQS can delay, on EventBridge Scheduler: what is asked of it, and what its errors mean."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError

from decoupled.core import limits, stack_limits
from decoupled.core.outcomes import NotSent
from decoupled.core.times import now_ms
from decoupled.engines.aws.messages import SqsQueue
from decoupled.engines.aws.queues import SqsQueues
from decoupled.engines.aws.schedules import Schedules
from decoupled.engines.aws.sqs_format import entry
from tests.support.contract import message, receive_one
from tests.support.engines import QUEUE_ARN, ROLE_ARN, AwsEngine, fifo_beside

AT = 1_795_000_020_001  # 2026-11-18T11:07:00.001Z
DAY_MS = 86_400_000


def with_scheduler(engine: AwsEngine, scheduler: Any) -> SqsQueue:
    """The engine's queue, with another scheduler."""
    schedules = Schedules(lambda: scheduler, engine.schedule_group, engine.queue_url, ROLE_ARN, QUEUE_ARN)
    return SqsQueue(engine.sqs, engine.queue_url, engine.dead_letter_queue_url, schedules)


class Sick:
    """A scheduler that answers with an error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def create_schedule(self, **_: Any) -> None:
        raise self.error


def refusal(code: str, status: int = 400) -> ClientError:
    metadata: Any = {"HTTPStatusCode": status, "RetryAttempts": 0}
    return ClientError({"Error": {"Code": code, "Message": "?"}, "ResponseMetadata": metadata}, "CreateSchedule")


def test_a_schedule_sends_once_what_the_receiver_would_have_sent(moto_engine: AwsEngine) -> None:
    sent = message(caller="jwt:x#Zo\u00eb")
    clock = lambda: AT - DAY_MS  # noqa: E731
    schedules = Schedules(
        lambda: moto_engine.scheduler, moto_engine.schedule_group, moto_engine.queue_url, ROLE_ARN, QUEUE_ARN, "key-arn"
    )
    queue = SqsQueue(moto_engine.sqs, moto_engine.queue_url, "", schedules, clock)
    assert queue.send([message(id=sent.id, caller=sent.caller, due_at=AT)]) == [None]
    ((_, operation, call),) = moto_engine.calls
    assert operation == "CreateSchedule"
    assert call.pop("ClientToken")  # botocore's own, for its retries
    assert json.loads(call["Target"].pop("Input")) == {**entry(sent), "QueueUrl": moto_engine.queue_url}
    assert call == {
        "Name": sent.id,
        "GroupName": moto_engine.schedule_group,
        "ScheduleExpression": "at(2026-11-18T11:08:00)",  # the next whole minute: never too early
        "ScheduleExpressionTimezone": "UTC",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "ActionAfterCompletion": "DELETE",
        "KmsKeyArn": "key-arn",
        "Target": {
            "Arn": "arn:aws:scheduler:::aws-sdk:sqs:sendMessage",
            "RoleArn": ROLE_ARN,
            "DeadLetterConfig": {"Arn": QUEUE_ARN},
        },
    }


def test_a_body_that_looks_like_the_scheduler_s_own_words_means_what_it_did(moto_engine: AwsEngine) -> None:
    body = '{"text": "<aws.scheduler.execution-id> \\"<aws.scheduler.scheduled-time>\\" <b>"}'
    moto_engine.queue.send([message(body, due_at=now_ms() + DAY_MS)])
    (schedule,) = moto_engine.scheduled()
    assert "<aws.scheduler." not in schedule["Target"]["Input"]
    sent = json.loads(schedule["Target"]["Input"])["MessageBody"]
    assert "<aws.scheduler." not in sent
    assert json.loads(sent) == json.loads(body)


def test_within_a_quarter_of_an_hour_sqs_delays_by_itself(moto_engine: AwsEngine) -> None:
    now = now_ms()
    moto_engine.queue.send([message(due_at=now + limits.MAX_DELAY_S * 1000 - 1), message(due_at=now + 1), message()])
    ((_, operation, call),) = moto_engine.calls
    assert operation == "SendMessageBatch"
    assert [it.get("DelaySeconds") for it in call["Entries"]] in ([900, 1, None], [900, 0, None], [900, None, None])


def test_sent_again_the_first_schedule_counts(moto_engine: AwsEngine) -> None:
    sent = message(due_at=now_ms() + DAY_MS)
    assert moto_engine.queue.send([sent]) == [None]
    (first,) = moto_engine.scheduled()
    assert moto_engine.queue.send([message(id=sent.id, due_at=now_ms() + 2 * DAY_MS)]) == [None]
    assert [it["ScheduleExpression"] for it in moto_engine.scheduled()] == [first["ScheduleExpression"]]


@pytest.mark.parametrize(
    ("error", "unknown"),
    [
        (refusal("ThrottlingException", 429), False),
        (refusal("ServiceQuotaExceededException", 402), False),
        (refusal("InternalServerException", 500), True),
        (ConnectTimeoutError(endpoint_url="http://scheduler"), True),
    ],
)
def test_what_is_not_scheduled_is_not_accepted(moto_engine: AwsEngine, error: Exception, unknown: bool) -> None:
    queue = with_scheduler(moto_engine, Sick(error))
    now, later = queue.send([message(), message(due_at=now_ms() + DAY_MS)])
    assert now is None
    assert isinstance(later, NotSent)
    assert (later.transient, later.unknown) == (True, unknown)


def test_without_schedules_nothing_can_be_due_that_late(moto_engine: AwsEngine) -> None:
    queue = SqsQueue(moto_engine.sqs, moto_engine.queue_url, "")
    (outcome,) = queue.send([message(due_at=now_ms() + DAY_MS)])
    assert outcome == NotSent("nothing here can be due later than 900 s", transient=False)


def test_an_entry_that_fits_no_schedule_is_refused(moto_engine: AwsEngine) -> None:
    (outcome,) = moto_engine.queue.send([message("x" * limits.MAX_ENTRY_BYTES, due_at=now_ms() + DAY_MS)])
    assert isinstance(outcome, NotSent)
    assert not outcome.transient
    assert moto_engine.scheduled() == []


# --- a queue that keeps an order ------------------------------------------------


def test_a_fifo_queue_which_delays_nothing_gets_whatever_is_due_later_from_a_schedule(moto_engine: AwsEngine) -> None:
    fifo = fifo_beside(moto_engine)
    pair = SqsQueues(moto_engine.queue, fifo=fifo.queue, ordered={"steps"})
    sent = message(workload="steps", group="g", due_at=now_ms() + 60_000)
    assert pair.send([sent, message(workload="steps", group="g")]) == [None, None]
    assert len(fifo.queue.receive(10, 0)) == 1
    (schedule,) = moto_engine.scheduled()
    call = json.loads(schedule["Target"]["Input"])
    assert (call["QueueUrl"].rpartition(".")[2], call["MessageDeduplicationId"]) == ("fifo", sent.id)
    assert "DelaySeconds" not in call
    moto_engine.sqs.send_message(**call)  # which SQS takes


def test_what_is_put_off_on_a_fifo_queue_keeps_its_place(moto_engine: AwsEngine) -> None:
    fifo = fifo_beside(moto_engine)
    pair = SqsQueues(moto_engine.queue, fifo=fifo.queue, ordered={"steps"})
    pair.send([message(workload="steps", group="g"), message(group="g")])
    ordered, other = fifo.queue.receive(1, 60)[0], receive_one(moto_engine)
    now = now_ms()
    assert pair.defer([(ordered, now + 30 * DAY_MS), (other, now + 30 * DAY_MS)], now) == [ordered]
    (hidden,) = [asked for _, operation, asked in moto_engine.calls if operation == "ChangeMessageVisibilityBatch"]
    assert hidden["Entries"][0]["VisibilityTimeout"] == stack_limits.MAX_HIDDEN_S
    assert len(moto_engine.scheduled()) == 1


# --- put off ------------------------------------------------------------------


def test_what_is_put_off_for_long_is_neither_on_the_queue_nor_in_flight(moto_engine: AwsEngine) -> None:
    moto_engine.queue.send([message(), message()])
    soon, late = moto_engine.queue.receive(2, 60)
    now = now_ms()
    due = [(soon, now + 60_000), (late, now + DAY_MS)]
    assert moto_engine.queue.defer(due, now) == [soon]
    assert moto_engine.queue.defer(due, now) == [soon]  # the process died before it could delete the other
    assert len(moto_engine.scheduled()) == 1
    moto_engine.queue.delete([late])
    moto_engine.fire()
    assert receive_one(moto_engine).message == late.message


def test_a_message_that_a_schedule_brought_may_be_put_off_before_that_schedule_is_gone(moto_engine: AwsEngine) -> None:
    sent, now = message(due_at=now_ms() + DAY_MS), now_ms()
    moto_engine.queue.send([sent])
    (first,) = moto_engine.scheduled()
    moto_engine.sqs.send_message(**json.loads(first["Target"]["Input"]))
    delivery = receive_one(moto_engine)
    assert moto_engine.queue.defer([(delivery, now + 2 * DAY_MS)], now) == []
    assert len(moto_engine.scheduled()) == 2


@pytest.mark.parametrize(
    ("error", "longest_s"),
    [
        (refusal("ThrottlingException", 429), int(limits.BACKOFF_CAP_S)),
        (None, stack_limits.MAX_HIDDEN_S),
    ],
)
def test_what_cannot_be_scheduled_comes_back_sooner_and_is_asked_again(
    moto_engine: AwsEngine, error: Exception | None, longest_s: int
) -> None:
    body = "x" * limits.MAX_ENTRY_BYTES if error is None else "{}"  # too large for a schedule
    moto_engine.queue.send([message(body)])
    delivery, now = receive_one(moto_engine), now_ms()
    queue = with_scheduler(moto_engine, moto_engine.scheduler if error is None else Sick(error))
    assert queue.defer([(delivery, now + 30 * DAY_MS)], now) == [delivery]
    _, operation, call = moto_engine.calls[-1]
    assert operation == "ChangeMessageVisibilityBatch"
    assert call["Entries"][0]["VisibilityTimeout"] == longest_s
