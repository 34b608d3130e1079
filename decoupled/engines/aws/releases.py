"""The releases of a stack on AWS: the alarms that are watched while traffic shifts, by CloudFormation and from here,
and what is kept of each release beside its code. Asks nothing and prints nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from decoupled.engines.aws.client import AwsError, code
from decoupled.engines.aws.code_bucket import CodeBucket
from decoupled.engines.aws.stack import tool_client

WATCHED = ("ServerErrorsAlarm", "ProcessorErrorsAlarm", "FailuresAlarm")
"""Of the template's alarms, those that a bad release sets off. CloudFormation takes five at most."""

LAMBDAS = ("Processor", "Status", "Receiver")


@dataclass(frozen=True, slots=True)
class Alarm:
    """One of those as CloudWatch has it now."""

    name: str  # as in the template
    arn: str
    sounds: bool


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a release, in the bucket of the code."""

    release: str
    template: str  # its key in that bucket
    code: str
    returned: bool = False  # to it from a later one, whose parameters the stack still has
    schemas: Mapping[str, Any] = {}  # of its workloads: see pipeline/compatible.py


def alarms(stack: str) -> list[Alarm]:
    """Those watched that the stack has."""
    cloudformation, names = tool_client("cloudformation"), {}
    for logical in WATCHED:
        try:
            found = cloudformation.describe_stack_resource(StackName=stack, LogicalResourceId=logical)
        except AwsError as error:
            if code(error) != "ValidationError":
                raise
            continue  # a stack of another time has no such alarm
        names[found["StackResourceDetail"]["PhysicalResourceId"]] = logical
    if not names:
        return []
    answer = tool_client("cloudwatch").describe_alarms(AlarmNames=list(names))["MetricAlarms"]
    return [Alarm(names[a["AlarmName"]], a["AlarmArn"], a["StateValue"] == "ALARM") for a in answer]


def rollback_configuration(watched: Sequence[Alarm], watch_s: float) -> dict[str, Any]:
    """Has CloudFormation watch these alarms during a change and for whole minutes after it, and take the change back if
    one sounds, whether we are still there or not. It keeps what it was told last, so that nothing is told too."""
    return {
        "RollbackTriggers": [{"Arn": alarm.arn, "Type": "AWS::CloudWatch::Alarm"} for alarm in watched],
        "MonitoringTimeInMinutes": int(watch_s // 60) if watched else 0,
    }


def watched_s(stack: Mapping[str, Any]) -> float:
    """How long CloudFormation itself has watched after the last change: an emulator does not."""
    return 60.0 * int(stack.get("RollbackConfiguration", {}).get("MonitoringTimeInMinutes", 0))


def as_emulated(template: bytes, named: Mapping[str, str]) -> bytes:
    """MiniStack 1.5 knows names that parameters make in Fn::ForEach only, so that here they are made beforehand."""
    text = template.decode()
    for name in ("ReleaseBefore", "Release"):
        text = re.sub(rf'"({"|".join(LAMBDAS)})Version\$\{{{name}\}}"', rf'"\g<1>Version{named[name]}"', text)
    return text.encode()


def record_key(stack: str, release: str) -> str:
    """Where a release's record is."""
    return f"{stack}/releases/{release}.json"


def recorded(bucket: CodeBucket, stack: str, release: str) -> Recorded | None:
    """What is kept of a release; None where that is gone, or was never there."""
    found = bucket.read(record_key(stack, release))
    return None if found is None else msgspec.json.decode(found, type=Recorded)


def returned(bucket: CodeBucket, stack: str, release: str) -> dict[str, bytes]:
    """A release's record, by key, once one has gone back to it."""
    kept = recorded(bucket, stack, release) or Recorded(release=release, template="", code="")
    return {record_key(stack, release): msgspec.json.encode(msgspec.structs.replace(kept, returned=True))}
