"""What CloudFormation says of a stack: how it is, and what happens until an operation has ended. Changes nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from decoupled.engines.aws.client import AwsError, code
from decoupled.engines.aws.stack import tool_client

POLL_S = 2.0
MAX_WAIT_S = 3_600.0  # for CloudFormation; the stack takes some two minutes
CANCELLED = "Resource creation cancelled"  # of what went on beside the resource that failed

HIDDEN = "****"  # what CloudFormation shows of a parameter that has NoEcho

OnEvent = Callable[[str], None]


def described(stack: str) -> Mapping[str, Any] | None:
    """The stack of that name or id as CloudFormation describes it, whatever its state; None if there is none."""
    try:
        found: Mapping[str, Any] = tool_client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    except AwsError as error:
        if code(error) == "ValidationError":
            return None
        raise
    return found


def current(stack: str) -> Mapping[str, Any] | None:
    """The stack, or None where nothing has been made of it."""
    found = described(stack)
    return None if found is None or found["StackStatus"] in ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE") else found


def parameters(stack: Mapping[str, Any] | None) -> dict[str, str]:
    """A stack's parameters as far as CloudFormation shows them."""
    shown = {p["ParameterKey"]: p.get("ParameterValue", HIDDEN) for p in (stack or {}).get("Parameters", [])}
    return {key: value for key, value in shown.items() if value != HIDDEN}


def resources(stack: str) -> list[Mapping[str, Any]]:
    """All that is in a stack, or was. DescribeStackResources would tell of the first hundred only, which a stack with
    ten queues of workloads' own exceeds."""
    pages = tool_client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack)
    return [each for page in pages for each in page["StackResourceSummaries"]]


def seen_until_now(stack: str) -> set[str]:
    """The ids of its newest events."""
    return {event["EventId"] for event in _events(stack)}


def follow(stack: str, seen: set[str], on_event: OnEvent) -> tuple[str, str]:
    """Tell what happens until the stack is at rest: its state then, and why the first resource failed, if one did."""
    why = ""
    for _ in tries():
        status = (described(stack) or {"StackStatus": "DELETE_COMPLETE"})["StackStatus"]
        for event in reversed(_events(stack)):
            if event["EventId"] not in seen:
                seen.add(event["EventId"])
                parts = [
                    event.get(name, "") for name in ("ResourceStatus", "LogicalResourceId", "ResourceStatusReason")
                ]
                if not why and parts[0].endswith("_FAILED") and CANCELLED not in parts[2]:
                    why = f"{parts[1]}: {parts[2]}"
                on_event("  ".join((f"{event['Timestamp']:%H:%M:%S}", *parts)).rstrip())
        if not status.endswith("_IN_PROGRESS") or status == "REVIEW_IN_PROGRESS":
            return status, why
    raise ValueError(f"{stack} has not come to rest in {MAX_WAIT_S:g} s")


def _events(stack: str) -> list[Mapping[str, Any]]:
    """The newest hundred or so, newest first: more do not happen between two looks."""
    try:
        answer = tool_client("cloudformation").describe_stack_events(StackName=stack)
    except AwsError as error:
        if code(error) == "ValidationError":  # it is gone, or was never there
            return []
        raise
    events: list[Mapping[str, Any]] = answer["StackEvents"]
    return events


def tries() -> Iterator[None]:
    """Again and again, for as long as CloudFormation may take."""
    deadline = time.monotonic() + MAX_WAIT_S
    while time.monotonic() < deadline:
        yield
        time.sleep(POLL_S if not os.environ.get("AWS_ENDPOINT_URL") else POLL_S / 4)
