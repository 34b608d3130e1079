"""How a stack is closed and opened again, as its resources are told; and that two who do it at once are told apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ProxyConnectionError, ReadTimeoutError

from decoupled.core.workload import Unavailable
from decoupled.engines.aws import closing, stack_events
from decoupled.engines.aws.client import code
from decoupled.engines.aws.closing import Closing, asked, told_of
from tests.support.engines import AwsEngine

NOW_MS = 1_795_000_020_001  # 2026-11-18T11:07:00.001Z


class Scheduler:
    """What EventBridge Scheduler has, as far as it is asked."""

    def __init__(self, **at: str) -> None:
        self.schedules = {name: self._made(name, time, "ENABLED") for name, time in at.items()}
        self.gone: set[str] = set()

    def _made(self, name: str, time: str, state: str) -> dict[str, Any]:
        return {"Name": name, "GroupName": "later", "ScheduleExpression": f"at({time})", "State": state, "Target": {}}

    def list_schedules(self, **_: Any) -> Mapping[str, Any]:
        return {"Schedules": [{"Name": name, "State": it["State"]} for name, it in self.schedules.items()]}

    def get_schedule(self, GroupName: str, Name: str) -> Mapping[str, Any]:  # noqa: N803  as AWS has them
        return self.schedules[Name]

    def update_schedule(self, **request: Any) -> None:
        if request["Name"] in self.gone:
            raise refused("ResourceNotFoundException")
        self.schedules[request["Name"]] = request


class Lambda:
    """The receiver's executions; the stack has no mappings here."""

    def __init__(self) -> None:
        self.executions: list[int | None] = []

    def put_function_concurrency(self, FunctionName: str, ReservedConcurrentExecutions: int) -> None:  # noqa: N803
        self.executions.append(ReservedConcurrentExecutions)

    def delete_function_concurrency(self, FunctionName: str) -> None:  # noqa: N803
        self.executions.append(None)


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "?"}}, "?")


def closing_of(engine: AwsEngine, monkeypatch: pytest.MonkeyPatch, scheduler: Scheduler | None = None) -> Closing:
    found = {"TableName": engine.table_name, "QueueUrl": engine.queue_url, "DeadLetterQueueUrl": "none"}
    monkeypatch.setattr(closing, "outputs", lambda _stack: found)
    named = [("Receiver", "AWS::Lambda::Function"), ("Schedules", "AWS::Scheduler::ScheduleGroup")]
    resources = [{"LogicalResourceId": it, "PhysicalResourceId": it, "ResourceType": kind} for it, kind in named]
    monkeypatch.setattr(stack_events, "resources", lambda _stack: resources)
    monkeypatch.setattr(stack_events, "current", lambda _stack: {})
    clients = {
        "sqs": engine.sqs,
        "dynamodb": engine.dynamodb,
        "lambda": Lambda(),
        "scheduler": scheduler or Scheduler(),
    }
    return Closing("boxes", 0.0, clients.__getitem__, clock_ms=lambda: NOW_MS)


def test_of_two_who_change_it_at_once_one_is_told(moto_engine: AwsEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    one = closing_of(moto_engine, monkeypatch)
    one.tell("stopped", "here")
    monkeypatch.setattr(one, "told", iter([("stopped", "here"), ("open", "")]).__next__)
    moto_engine.dynamodb.delete_item(TableName=one.table, Key={"pk": {"S": closing.KEY}})  # by another, in between
    with pytest.raises(ValueError, match="somebody else opens or closes it"):
        one.tell("moved", "here")
    assert told_of(moto_engine.dynamodb, one.table) == ("open", "")


def test_what_was_opened_meanwhile_has_not_moved(moto_engine: AwsEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    one = closing_of(moto_engine, monkeypatch)
    with pytest.raises(ValueError, match="somebody has opened it"):
        one.tell("moved", "here")
    one.tell("stopped", "here")
    one.tell("stopped", "here")
    with pytest.raises(ValueError, match="to move to here, and not to there"):
        one.tell("stopped", "there")
    one.tell("moved", "here")
    with pytest.raises(ValueError, match="for good"):
        one.tell("open", "here")


def test_nothing_is_deployed_to_a_stack_that_is_closed(moto_engine: AwsEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    one = closing_of(moto_engine, monkeypatch)
    monkeypatch.setattr(closing, "tool_client", lambda _service: moto_engine.dynamodb)
    described = {"Outputs": [{"OutputKey": "TableName", "OutputValue": one.table}]}
    for found in (described, None, {}):
        closing.refuse_closed("boxes", found)
    one.tell("stopped", "here")
    with pytest.raises(ValueError, match="nothing is deployed to boxes, it is closed: its messages move to here"):
        closing.refuse_closed("boxes", described)

    def denied(**_: Any) -> None:
        raise refused("AccessDeniedException")

    monkeypatch.setattr(moto_engine.dynamodb, "get_item", denied)
    closing.refuse_closed("boxes", described)


def test_what_came_due_while_a_stack_was_closed_is_sent_when_it_is_open_again(
    moto_engine: AwsEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = {"over": "2026-11-18T11:06:00", "now": "2026-11-18T11:08:00", "then": "2026-11-19T00:00:00"}
    scheduler = Scheduler(**later)
    one = closing_of(moto_engine, monkeypatch, scheduler)
    assert one.left() == 1
    assert {it["State"] for it in scheduler.schedules.values()} == {"DISABLED"}
    scheduler.schedules["over"]["ScheduleExpression"] = "at(2026-11-18T11:06:00)"
    scheduler.gone = {"now"}  # it has sent at the moment at which it was to be changed
    one.open()
    told = {name: (it["State"], it["ScheduleExpression"]) for name, it in scheduler.schedules.items()}
    assert told["over"] == ("ENABLED", "at(2026-11-18T11:09:00)")
    assert told["then"] == ("ENABLED", "at(2026-11-19T00:00:00)")


@pytest.mark.parametrize(
    "error",
    [
        *map(refused, ["ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"]),
        *map(refused, ["TooManyRequestsException", "InternalServerError", "ServiceUnavailable"]),
        EndpointConnectionError(endpoint_url="?"),
        ProxyConnectionError(proxy_url="?"),
        ReadTimeoutError(endpoint_url="?"),
    ],
    ids=code,
)
def test_what_may_be_over_in_a_moment_is_waited_for(error: Exception) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(Unavailable):
        asked(fail)


@pytest.mark.parametrize("name", ["AccessDeniedException", "ValidationException", "ExpiredTokenException"])
def test_what_a_person_has_to_see_to_is_not(name: str) -> None:
    def fail() -> None:
        raise refused(name)

    with pytest.raises(ValueError, match=name):
        asked(fail)
