"""How a stack is closed, so that nothing comes in, goes on or comes due in it, and opened again. What it has is left as
it is.

    close     the receiver gets no executions: API Gateway answers 503
    drained   the queues are empty, and have been for a while ─▶ schedules are disabled ─▶ nothing takes from the queues
    open      the other way round

All three are settings of the stack's own resources that CloudFormation does not look at again until it changes them. It
stands in the table that the stack is closed, under a key that no workload's item has."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from decoupled.core import limits
from decoupled.core.moving import State
from decoupled.core.times import now_ms
from decoupled.core.workload import Unavailable
from decoupled.engines.aws import stack_events
from decoupled.engines.aws.client import AwsError, code, detail
from decoupled.engines.aws.schedules import at, minute
from decoupled.engines.aws.stack import outputs, queue_urls, tool_client

OURS = "-/"
"""Begins the keys of items that are no workload's."""
KEY = f"{OURS}move"
_DEPTHS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")
_SOON_MINUTES = 2  # from the minute that it is: so the time has not come when EventBridge is told
QUIET_S = 60.0  # AWS: after which what SQS says of an empty queue is true
Clients = Callable[[str], Any]


class Closing:
    """That of a stack. `quiet_s`: for how long its queues have to have been empty."""

    def __init__(
        self,
        stack: str,
        quiet_s: float = QUIET_S,
        clients: Clients = tool_client,
        monotonic: Callable[[], float] = time.monotonic,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        """Raises ValueError or Unavailable."""
        self._clock_ms = clock_ms
        self.outputs = outputs(stack)
        self.table = self.outputs["TableName"]
        resources = stack_events.resources(stack)
        self._named = {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in resources}
        kind = "AWS::Lambda::EventSourceMapping"
        self._mappings = [each["PhysicalResourceId"] for each in resources if each["ResourceType"] == kind]
        described = stack_events.current(stack)
        self.identity = str((described or {}).get("StackId", ""))
        self._reserved = int(stack_events.parameters(described).get("ReceiverReserved", "0"))
        self._lambda, self._sqs, self._dynamodb = clients("lambda"), clients("sqs"), clients("dynamodb")
        self.scheduler = clients("scheduler")
        self.group = self._named.get("Schedules", "")
        self._quiet_s = quiet_s
        self._monotonic = monotonic
        self._quiet_since: float | None = None

    def told(self) -> tuple[State, str]:
        """Its state, and where it has gone."""
        return told_of(self._dynamodb, self.table)

    def tell(self, state: State, to: str) -> None:
        """Raises ValueError where it has moved for good, to somewhere else, or somebody else changes it now."""
        was, before = self.told()
        if was != "open" and before != to:
            raise ValueError(f"it has been closed to move to {before}, and not to {to}")
        if was == state:
            return
        if was == "moved":
            raise ValueError(f"it has given over to {before}, for good")
        if was == "open" and state == "moved":
            raise ValueError("somebody has opened it again, and it has accepted others since")
        try:
            self._write(was, state, to)
        except _Changed as error:
            if self.told() != (state, to if state != "open" else ""):  # else it was written, and not heard of
                raise ValueError("somebody else opens or closes it at this moment: look what became of that") from error

    def _write(self, was: State, state: State, to: str) -> None:
        """Only if it is as it was."""
        request: dict[str, Any] = {"TableName": self.table, "ConditionExpression": "attribute_not_exists(pk)"}
        if was != "open":
            request["ConditionExpression"] = "#state = :was"
            request["ExpressionAttributeNames"] = {"#state": "state"}
            request["ExpressionAttributeValues"] = {":was": {"S": was}}
        if state == "open":
            asked(self._dynamodb.delete_item, **request, Key={"pk": {"S": KEY}})
        else:
            item = {"pk": {"S": KEY}, "state": {"S": state}, "to": {"S": to}}
            asked(self._dynamodb.put_item, **request, Item=item)

    def close(self) -> None:
        """Nothing comes in any more; what a receiver has begun, it ends."""
        asked(
            self._lambda.put_function_concurrency, FunctionName=self._named["Receiver"], ReservedConcurrentExecutions=0
        )

    def left(self) -> int:
        """How many messages are on its way yet; 0 once it is drained and nothing moves in it."""
        self.close()
        waiting = sum(self._depth(url) for url in queue_urls(self.outputs))
        if waiting:
            self._quiet_since = None
            self._take(True)
            return waiting
        if self._quiet_since is None:
            self._quiet_since = self._monotonic()
        if self._monotonic() - self._quiet_since < self._quiet_s:
            return 1
        if self._schedule("ENABLED", "DISABLED"):
            self._quiet_since = None  # one of them may have sent at this moment
            return 1
        return self._take(False)

    def open(self) -> None:
        """As it was deployed."""
        self._schedule("DISABLED", "ENABLED")
        self._take(True)
        name = self._named["Receiver"]
        if self._reserved:
            asked(self._lambda.put_function_concurrency, FunctionName=name, ReservedConcurrentExecutions=self._reserved)
        else:
            asked(self._lambda.delete_function_concurrency, FunctionName=name)

    def schedules(self) -> Iterator[Mapping[str, Any]]:
        """What is due later, as a list has it."""
        request: dict[str, Any] = {"GroupName": self.group, "MaxResults": 100}
        while self.group:
            page = asked(self.scheduler.list_schedules, **request)
            yield from page["Schedules"]
            if not page.get("NextToken"):
                return
            request["NextToken"] = page["NextToken"]

    def schedule(self, name: str) -> Mapping[str, Any] | None:
        """One of them, with what it sends; None if it has sent it."""
        try:
            found: Mapping[str, Any] = asked(self.scheduler.get_schedule, GroupName=self.group, Name=name)
        except Gone:
            return None
        return found

    def _schedule(self, of: str, to: str) -> int:
        """Have those of one state have another. How many they were."""
        names = [each["Name"] for each in self.schedules() if each["State"] == of]
        for name in names:
            if (found := self.schedule(name)) is not None:
                kept = {each: found[each] for each in _OF_A_SCHEDULE if each in found}
                kept["ScheduleExpression"] = self._to_come(kept["ScheduleExpression"])
                with contextlib.suppress(Gone):  # it has sent, just now
                    asked(self.scheduler.update_schedule, **kept, State=to)
        return len(names)

    def _to_come(self, expression: str) -> str:
        """Its time; soon, where that is over: EventBridge sends nothing for a time that passed while it was disabled,
        nor needs to take such a time."""
        soonest = (self._clock_ms() // 60_000 + _SOON_MINUTES) * 60_000
        return expression if at(expression) >= soonest else f"at({minute(soonest)})"

    def _take(self, going: bool) -> int:
        """Have messages taken from the queues, or not. How many mappings are not so yet."""
        not_yet = 0
        for mapping in self._mappings:
            state = asked(self._lambda.get_event_source_mapping, UUID=mapping)["State"]
            if state != ("Enabled" if going else "Disabled"):
                not_yet += 1
                if state in ("Enabled", "Disabled"):  # else it is being changed
                    asked(self._lambda.update_event_source_mapping, UUID=mapping, Enabled=going)
        return not_yet

    def _depth(self, url: str) -> int:
        answer = asked(self._sqs.get_queue_attributes, QueueUrl=url, AttributeNames=list(_DEPTHS))
        return sum(int(answer["Attributes"][name]) for name in _DEPTHS)


def told_of(dynamodb: Any, table: str) -> tuple[State, str]:
    """Of a stack that has this table: its state, and where it has gone."""
    answer = asked(dynamodb.get_item, TableName=table, Key={"pk": {"S": KEY}}, ConsistentRead=True)
    item = answer.get("Item")
    return ("open", "") if item is None else (item["state"]["S"], item["to"]["S"])


def why_closed(dynamodb: Any, table: str) -> str | None:
    """Why nothing is to be changed in the stack that has this table, nor sent to it; None if it is open."""
    state, to = told_of(dynamodb, table)
    if state == "open":
        return None
    return f"it is closed: its messages {'have moved' if state == 'moved' else 'move'} to {to}"


def refuse_closed(stack: str, found: Mapping[str, Any] | None) -> None:
    """For who would deploy to it, which may open it again; who may not read its table, deploys as ever. Raises
    ValueError or Unavailable."""
    told = {it["OutputKey"]: it["OutputValue"] for it in (found or {}).get("Outputs", [])}
    why = None
    if table := told.get("TableName"):
        with contextlib.suppress(_Denied, Gone):
            why = why_closed(tool_client("dynamodb"), table)
    if why is not None:
        raise ValueError(f"nothing is deployed to {stack}, {why}: back out of that, or destroy it first")


class Gone(ValueError):  # noqa: N818  an answer
    """There is no such thing any more."""


class _Denied(ValueError):  # noqa: N818  likewise
    """Whoever asks may not."""


class _Changed(ValueError):  # noqa: N818  likewise
    """It is not as it was."""


_OF_A_SCHEDULE = (
    *("Name", "GroupName", "ScheduleExpression", "ScheduleExpressionTimezone", "FlexibleTimeWindow"),
    *("ActionAfterCompletion", "Target", "KmsKeyArn", "Description", "StartDate", "EndDate"),
)
_LATER = (
    *("Throttl", "ThroughputExceeded", "LimitExceeded", "TooManyRequests", "Unavailable", "Internal", "ResourceInUse"),
    *("ConflictException", "Timeout", "ConnectionError", "ConnectionClosed", "HTTPClientError"),
)


def asked(call: Callable[..., Any], **request: Any) -> Any:
    """What AWS answers. Raises Unavailable for what may be over in a moment, else ValueError."""
    try:
        return call(**request)
    except AwsError as error:
        name = code(error)
        if name == "ResourceNotFoundException":
            raise Gone(detail(error)) from error
        if name == "ConditionalCheckFailedException":
            raise _Changed(detail(error)) from error
        if name.startswith("AccessDenied"):
            raise _Denied(f"AWS refuses: {detail(error)}") from error
        if any(part in name for part in _LATER):
            raise Unavailable(detail(error), limits.SPIKE_PAUSE_S) from error
        raise ValueError(f"AWS refuses: {detail(error)}") from error
