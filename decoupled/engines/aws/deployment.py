"""Makes, changes and deletes a stack by CloudFormation. Asks and prints nothing: what happens goes to the caller."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from decoupled.core import own_queues, stack_limits
from decoupled.engines.aws.stack import tool_client
from decoupled.engines.aws.stack_events import (
    OnEvent,
    current,
    described,
    follow,
    parameters,
    resources,
    seen_until_now,
    tries,
)
from decoupled.engines.aws.stack_states import MOVES, Move


def deploy(
    stack: str,
    template_url: str,
    names: set[str],
    given: Mapping[str, str],
    on_event: OnEvent,
    rollback_configuration: Mapping[str, Any],
    tags: Mapping[str, str] | None = None,
) -> Mapping[str, str]:
    """Create or change the stack by a change set; `names` are the template's parameters, and those not given keep what
    they were. So do the tags, which CloudFormation puts on all that it makes. Returns the outputs. Raises ValueError if
    it fails; CloudFormation then goes back to what was, as it does when an alarm of `rollback_configuration` sounds."""
    cloudformation, before = tool_client("cloudformation"), current(stack)
    kept = {parameter["ParameterKey"] for parameter in (before or {}).get("Parameters", [])} & names - given.keys()
    change = {"StackName": stack, "ChangeSetName": f"decoupled-{time.time_ns()}"}
    cloudformation.create_change_set(
        **change,
        ChangeSetType="CREATE" if before is None else "UPDATE",
        TemplateURL=template_url,
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],  # the second for AWS::LanguageExtensions
        RollbackConfiguration=rollback_configuration,
        Parameters=[
            *({"ParameterKey": name, "ParameterValue": value} for name, value in given.items()),
            *({"ParameterKey": name, "UsePreviousValue": True} for name in sorted(kept)),
        ],
        **_tagged(before, tags or {}),
    )
    seen = seen_until_now(stack)
    if _ready(change):
        cloudformation.execute_change_set(**change)
        _ended_well(stack, *follow(stack, seen, on_event))
    else:
        on_event("nothing to change")
    return outputs(stack)


def _tagged(before: Mapping[str, Any] | None, tags: Mapping[str, str]) -> dict[str, Any]:
    """Those that the stack has with these; CloudFormation keeps what it has where it is told none."""
    has = {tag["Key"]: tag["Value"] for tag in (before or {}).get("Tags", [])}
    return {"Tags": [{"Key": key, "Value": value} for key, value in {**has, **tags}.items()]} if tags else {}


def outputs(stack: str) -> Mapping[str, str]:
    """A stack's outputs; none where there is no stack, or it was never made whole."""
    return {output["OutputKey"]: output["OutputValue"] for output in (current(stack) or {}).get("Outputs", [])}


def _ready(change: Mapping[str, str]) -> bool:
    """Waits for the change set. False if it changes nothing."""
    cloudformation = tool_client("cloudformation")
    for _ in tries():
        answer = cloudformation.describe_change_set(**change)
        if answer["Status"] == "CREATE_COMPLETE":
            return True
        if answer["Status"] == "FAILED":
            reason = answer.get("StatusReason", "")
            cloudformation.delete_change_set(**change)
            if "didn't contain changes" in reason or "No updates" in reason:
                return False
            raise ValueError(f"CloudFormation refuses the change: {reason}")
    raise ValueError("CloudFormation did not prepare the change in time")


def _ended_well(stack: str, status: str, why: str) -> None:
    if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        return
    after = "CloudFormation went back to what was"
    if MOVES.get(status) is Move.CLEAR:
        after = "nothing of it is left. Mend that, and type the same again"
    raise ValueError(f"the deployment of {stack} failed ({status}): {why or 'its events say why'}\n{after}")


def setting(stack: str, function: str, name: str) -> str:
    """A variable of the environment of a stack's function; "" without."""
    resource = tool_client("cloudformation").describe_stack_resource(StackName=stack, LogicalResourceId=function)
    function_name = resource["StackResourceDetail"]["PhysicalResourceId"]
    answer = tool_client("lambda").get_function_configuration(FunctionName=function_name)
    return str(answer.get("Environment", {}).get("Variables", {}).get(name, ""))


def versions(stack: str, release: str) -> Mapping[str, str]:
    """What a release runs: the ARN of its version of each function, by the function's name in the template."""
    parts = ((*each["LogicalResourceId"].partition("Version"), each) for each in resources(stack))
    return {
        kind: each["PhysicalResourceId"]
        for kind, version, named, each in parts
        if version and named == release and each["ResourceStatus"] != "DELETE_COMPLETE"
    }


def untaken(stack: str, release: str) -> list[str]:
    """Of which workloads a release's receiver would send to queues that nothing takes from in the stack as it is."""
    receiver = versions(stack, release).get("Receiver")
    if receiver is None:
        return []
    answer = tool_client("lambda").get_function_configuration(FunctionName=receiver)
    variables, has = answer.get("Environment", {}).get("Variables", {}), parameters(current(stack))
    sends = {found[1] for name, value in variables.items() if value and (found := _OWN.fullmatch(name))}
    ordered = variables.get("ORDERED_WORKLOADS", "") if variables.get("ORDERED_QUEUE_URL") else ""
    own = sorted(sends - {*has.get("OwnQueues", "").split(",")})
    return own if has.get("OrderedWorkloads") or not ordered else [*own, ordered]


_OWN = re.compile("QUEUE([a-z0-9]+)")


def mend_emulators_mappings(stack: str) -> None:
    """MiniStack 1.5 keeps the parameters' numbers as text, and its poller stops at that; and when a mapping's function
    is changed for its alias, it goes on with the function. CloudFormation makes numbers, and Lambda changes it."""
    values = parameters(current(stack))
    shared = "MaximumConcurrency" if values["OwnQueues"] == own_queues.NONE else "SharedConcurrency"
    concurrency = {"Mapping": shared, "OrderedMapping": "OrderedConcurrency"}
    found = resources(stack)
    alias = next(one["PhysicalResourceId"] for one in found if one["LogicalResourceId"] == "ProcessorAlias")
    for resource in found:
        if resource["ResourceType"] == "AWS::Lambda::EventSourceMapping":
            parameter = concurrency.get(resource["LogicalResourceId"], "MaximumConcurrency")
            tool_client("lambda").update_event_source_mapping(
                UUID=resource["PhysicalResourceId"],
                FunctionName=alias,
                ScalingConfig={"MaximumConcurrency": int(values[parameter])},
            )


def depth(queue_url: str) -> tuple[int, int]:
    """How many messages wait in a queue, and how many are in flight."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = tool_client("sqs").get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
    return int(answer[names[0]]), int(answer[names[1]])


def expiring(queue_url: str) -> int:
    """How many messages of a queue may be older than what the template lets it keep them, and would be deleted by that:
    none if it keeps them no longer by now, or is younger itself."""
    names = ["MessageRetentionPeriod", "CreatedTimestamp"]
    answer = tool_client("sqs").get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
    kept_s = stack_limits.QUEUE_KEEPS_S
    is_young = time.time() - float(answer["CreatedTimestamp"]) < kept_s
    return 0 if is_young or int(answer["MessageRetentionPeriod"]) <= kept_s else sum(depth(queue_url))


def destroy(stack: str, on_event: OnEvent) -> None:
    """Delete the stack, and wait until it is gone."""
    identity = str((described(stack) or {"StackId": stack})["StackId"])
    seen = seen_until_now(identity)
    tool_client("cloudformation").delete_stack(StackName=identity)
    status, why = follow(identity, seen, on_event)
    if status != "DELETE_COMPLETE":
        raise ValueError(f"{stack} could not be deleted ({status}): {why or 'its events say why'}")
