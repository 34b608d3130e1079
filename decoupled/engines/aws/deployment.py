"""Makes, changes and deletes a stack by CloudFormation, and puts the code where it finds it. Asks nothing and prints
nothing: what happens goes to the caller."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from decoupled.core import own_queues
from decoupled.engines.aws.client import AwsError, code, detail
from decoupled.engines.aws.stack import tool_client

POLL_S = 2.0
MAX_WAIT_S = 3_600.0  # for CloudFormation; the stack takes some two minutes
UPLOAD_TIMEOUT_S = 60.0


def account_and_region() -> tuple[str, str]:
    """Whose credentials these are, and for which Region."""
    sts = tool_client("sts")
    return str(sts.get_caller_identity()["Account"]), str(sts.meta.region_name)


def upload(bucket: str, region: str, files: Mapping[str, bytes]) -> str:
    """Store files by key, in a bucket that is made, closed to the public, if there is none. Returns its URL."""
    s3 = tool_client("s3", UPLOAD_TIMEOUT_S)
    try:
        s3.head_bucket(Bucket=bucket)
    except AwsError as error:
        if code(error) not in ("404", "NoSuchBucket"):
            raise
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        s3.create_bucket(Bucket=bucket, **where)
        blocked = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=dict.fromkeys(blocked, True))
    for key, body in files.items():
        s3.put_object(Bucket=bucket, Key=key, Body=body)
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or f"https://s3.{region}.amazonaws.com"
    return f"{endpoint.rstrip('/')}/{bucket}"


def current(stack: str) -> Mapping[str, Any] | None:
    """The stack as CloudFormation describes it, or None."""
    try:
        found: Mapping[str, Any] = tool_client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    except AwsError as error:
        if code(error) == "ValidationError":
            return None
        raise
    return None if found["StackStatus"] in ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE") else found


def parameters(stack: Mapping[str, Any] | None) -> dict[str, str]:
    """The parameters of a stack, as CloudFormation describes it; what is secret of them is stars there."""
    found = [] if stack is None else stack.get("Parameters", [])
    return {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in found}


def template_key(stack: str, template: bytes) -> str:
    """Where a template is in the bucket, by its content."""
    return f"{stack}/{hashlib.sha256(template).hexdigest()[:32]}.yaml"


def deploy(
    stack: str,
    template_url: str,
    names: set[str],
    given: Mapping[str, str],
    on_event: Callable[[str], None],
    rollback_configuration: Mapping[str, Any],
) -> Mapping[str, str]:
    """Create or change the stack by a change set; `names` are the template's parameters, and those not given keep what
    they were. Returns the outputs. Raises ValueError if it fails; CloudFormation then goes back to what was, as it does
    when an alarm of `rollback_configuration` sounds."""
    cloudformation, before = tool_client("cloudformation"), current(stack)
    if before is not None and before["StackStatus"] == "ROLLBACK_COMPLETE":
        raise ValueError(f"the stack {stack} was never made whole (ROLLBACK_COMPLETE): destroy it first")
    kept = {parameter["ParameterKey"] for parameter in (before or {}).get("Parameters", [])} & names - given.keys()
    change = {"StackName": stack, "ChangeSetName": f"decoupled-{int(time.time())}"}
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
    )
    seen = set() if before is None else {event["EventId"] for event in _events(stack)}
    if _ready(change):
        cloudformation.execute_change_set(**change)
        _follow(stack, seen, on_event)
    else:
        on_event("nothing to change")
    return {output["OutputKey"]: output["OutputValue"] for output in (current(stack) or {}).get("Outputs", [])}


def setting(stack: str, function: str, name: str) -> str:
    """A variable of the environment of a stack's function; "" without."""
    resource = tool_client("cloudformation").describe_stack_resource(StackName=stack, LogicalResourceId=function)
    function_name = resource["StackResourceDetail"]["PhysicalResourceId"]
    answer = tool_client("lambda").get_function_configuration(FunctionName=function_name)
    return str(answer.get("Environment", {}).get("Variables", {}).get(name, ""))


def _ready(change: Mapping[str, str]) -> bool:
    """Waits for the change set. False if it changes nothing."""
    cloudformation = tool_client("cloudformation")
    for _ in _tries():
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


def _follow(stack: str, seen: set[str], on_event: Callable[[str], None]) -> None:
    for _ in _tries():
        status = (current(stack) or {"StackStatus": "DELETE_COMPLETE"})["StackStatus"]
        for event in reversed(_events(stack)):
            if event["EventId"] not in seen:
                seen.add(event["EventId"])
                parts = (
                    event.get(name, "") for name in ("ResourceStatus", "LogicalResourceId", "ResourceStatusReason")
                )
                on_event("  ".join((f"{event['Timestamp']:%H:%M:%S}", *parts)).rstrip())
        if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            return
        if status.endswith(("_COMPLETE", "_FAILED")):
            raise ValueError(f"the deployment of {stack} failed ({status}); CloudFormation went back to what was")
    raise ValueError(f"the deployment of {stack} has not ended in {MAX_WAIT_S:g} s")


def _events(stack: str) -> list[Mapping[str, Any]]:
    """The newest hundred or so, newest first: more do not happen between two looks."""
    events: list[Mapping[str, Any]] = tool_client("cloudformation").describe_stack_events(StackName=stack)[
        "StackEvents"
    ]
    return events


def _tries() -> Iterator[None]:
    deadline = time.monotonic() + MAX_WAIT_S
    while time.monotonic() < deadline:
        yield
        time.sleep(POLL_S if not os.environ.get("AWS_ENDPOINT_URL") else POLL_S / 4)


def mend_emulators_mappings(stack: str) -> None:
    """MiniStack 1.5 keeps the parameters' numbers as text, and its poller stops at that; and when a mapping's function
    is changed for its alias, it goes on with the function. CloudFormation makes numbers, and Lambda changes it."""
    values = parameters(current(stack))
    shared = "MaximumConcurrency" if values["OwnQueues"] == own_queues.NONE else "SharedConcurrency"
    concurrency = {"Mapping": shared, "OrderedMapping": "OrderedConcurrency"}
    found = tool_client("cloudformation").describe_stack_resources(StackName=stack)["StackResources"]
    alias = next(one["PhysicalResourceId"] for one in found if one["LogicalResourceId"] == "ProcessorAlias")
    for resource in found:
        if resource["ResourceType"] == "AWS::Lambda::EventSourceMapping":
            parameter = concurrency.get(resource["LogicalResourceId"], "MaximumConcurrency")
            tool_client("lambda").update_event_source_mapping(
                UUID=resource["PhysicalResourceId"],
                FunctionName=alias,
                ScalingConfig={"MaximumConcurrency": int(values[parameter])},
            )


def kept(stack: str) -> Mapping[str, list[str]]:
    """What deleting the stack leaves: the names of its queues, schedule groups, tables and keys."""
    found = tool_client("cloudformation").describe_stack_resources(StackName=stack)["StackResources"]
    kinds = {
        "queue": "AWS::SQS::Queue",
        "later": "AWS::Scheduler::ScheduleGroup",
        "table": "AWS::DynamoDB::Table",
        "key": "AWS::KMS::Key",
    }
    return {kind: [r["PhysicalResourceId"] for r in found if r["ResourceType"] == name] for kind, name in kinds.items()}


def depth(queue_url: str) -> tuple[int, int]:
    """How many messages wait in a queue, and how many are in flight."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = tool_client("sqs").get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
    return int(answer[names[0]]), int(answer[names[1]])


def destroy(stack: str) -> None:
    """Delete the stack, and wait until it is gone."""
    identity = (current(stack) or {"StackId": stack})["StackId"]
    tool_client("cloudformation").delete_stack(StackName=stack)
    for _ in _tries():
        status = (current(identity) or {"StackStatus": "DELETE_COMPLETE"})["StackStatus"]
        if status == "DELETE_COMPLETE":
            return
        if status == "DELETE_FAILED":
            raise ValueError(f"{stack} could not be deleted: its events say why")


def told(error: Exception) -> str | None:
    """One line on an error of AWS's; None for any other."""
    return f"AWS refuses: {detail(error)}" if isinstance(error, AwsError) else None
