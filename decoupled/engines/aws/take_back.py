"""A stack that is made again takes back what an earlier one of its name left: the queues with what waits in them, the
table, the key, the schedules. By an import of CloudFormation's, which makes a stack of these alone; the deployment then
adds the rest to it.

    destroy ── what is kept, and the parameters ──▶ code bucket ──▶ deploy: import, then an update as always
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from decoupled.core.releases import PARAMETERS
from decoupled.engines.aws.client import AwsError, code, detail
from decoupled.engines.aws.code_bucket import CodeBucket
from decoupled.engines.aws.kept import GROUP, IDENTIFIERS, ROLE, Kept, looked_up, resources
from decoupled.engines.aws.stack import account_and_region, tool_client
from decoupled.engines.aws.stack_events import OnEvent, described, follow, parameters, seen_until_now, tries

ROLLED_BACK = "IMPORT_ROLLBACK_COMPLETE"
NOTHING = ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE")  # of which nothing has been made


@dataclass(frozen=True, slots=True)
class Left:
    """What a stack left that is gone: its parameters, but for secret ones and those that name its releases, and
    what was kept."""

    parameters: Mapping[str, str]
    kept: Sequence[Kept]
    release: str | None = None  # that accepted what waits


def remember(bucket: CodeBucket, stack: str) -> None:
    """Write down what deleting the stack would leave; if that is nothing, what is written there of an earlier one
    stays."""
    kept = [[each.logical, each.kind, each.name] for each in resources(stack)]
    has = parameters(described(stack))
    those = {name: value for name, value in has.items() if name not in PARAMETERS}
    if kept:
        bucket.remember(_record(stack), {"parameters": those, "kept": kept, "release": has.get("Release")})


def remember_in_its_bucket(stack: str) -> None:
    """The same, where its parameters say that the code is. Raises ValueError if that bucket is not ours any more."""
    bucket = parameters(described(stack)).get("CodeBucket")
    if bucket is not None:
        remember(CodeBucket(bucket, *account_and_region()), stack)


def is_taken(current: Mapping[str, Any] | None) -> bool:
    """Whether a stack without parameters of ours has what was to be taken back: an import made it, and what was to
    follow failed. One whose import was itself rolled back has nothing."""
    return current is not None and current["StackStatus"] != ROLLED_BACK


def left(bucket: CodeBucket, stack: str, taken: bool) -> Left | None:
    """What an earlier stack of that name left and is still there, as it is now; None if there is nothing. `taken`: an
    import has taken it all back, and what was to follow failed."""
    record = bucket.remembered(_record(stack))
    if record is None:
        return None
    found = [looked_up(Kept(*each)) for each in record["kept"] if each[1] in IDENTIFIERS and not taken]
    there = [each for each in found if each.properties is not None]
    return Left(record["parameters"], there, record.get("release")) if there or taken else None


def take_back(stack: str, kept: Sequence[Kept], on_event: OnEvent) -> None:
    """Make a stack of what is kept, if anything is. Raises ValueError if CloudFormation refuses; nothing has changed
    then."""
    if not kept:
        return
    on_event(f"== Take back what an earlier {stack} left")
    _clear(stack, on_event)
    refused = _imported(stack, kept, on_event)
    if refused is None:
        return
    strange = {each.kind for each in kept if each.kind in refused} if "not supported" in refused else set()
    if GROUP in strange:  # whose schedules go on by the role, which would be for the new group only
        strange.add(ROLE)
    if not strange or _imported(stack, [each for each in kept if each.kind not in strange], on_event) is not None:
        raise ValueError(f"what an earlier stack {stack} left is not taken back: {refused}; --anew leaves it alone")
    on_event(f"Note: {', '.join(sorted(strange))} cannot be taken back here, and is made anew")


def _clear(stack: str, on_event: OnEvent) -> None:
    """Delete the empty stack of an import that was rolled back. Raises ValueError where there is a stack meanwhile."""
    found = described(stack)
    status = "DELETE_COMPLETE" if found is None else found["StackStatus"]
    if found is not None and status == ROLLED_BACK:
        identity = found["StackId"]
        seen = seen_until_now(identity)
        tool_client("cloudformation").delete_stack(StackName=identity)
        status, _ = follow(identity, seen, on_event)
    if status not in NOTHING:
        raise ValueError(f"the stack {stack} is {status} by now: somebody else has made it; deploy again")


def _imported(stack: str, kept: Sequence[Kept], on_event: OnEvent) -> str | None:
    """Import them. Returns why not, if CloudFormation does not even begin."""
    cloudformation = tool_client("cloudformation")
    change = {"StackName": stack, "ChangeSetName": f"decoupled-{time.time_ns()}"}
    template = {"AWSTemplateFormatVersion": "2010-09-09", "Resources": {each.logical: _as_it_is(each) for each in kept}}
    importing = [
        {
            "LogicalResourceId": each.logical,
            "ResourceType": each.kind,
            "ResourceIdentifier": {IDENTIFIERS[each.kind]: each.name},
        }
        for each in kept
    ]
    try:
        identity = cloudformation.create_change_set(
            **change,
            ChangeSetType="IMPORT",
            TemplateBody=json.dumps(template),
            ResourcesToImport=importing,
            Capabilities=["CAPABILITY_IAM"],
        )["StackId"]
    except AwsError as error:
        if code(error) != "ValidationError":
            raise
        return detail(error)
    if (refused := _refused(change)) is not None:
        if (described(identity) or {}).get("StackStatus") == "REVIEW_IN_PROGRESS":  # with nothing in it, and ours
            cloudformation.delete_stack(StackName=identity)
            follow(identity, seen_until_now(identity), on_event)
        return refused
    seen = seen_until_now(identity)
    cloudformation.execute_change_set(**change)
    status, why = follow(identity, seen, on_event)
    if status != "IMPORT_COMPLETE":
        raise ValueError(f"what an earlier stack {stack} left could not be taken back ({status}; {why})")
    return None


def _as_it_is(kept: Kept) -> Mapping[str, Any]:
    """No property names it: a name in one template and none in the next would be a change that replaces."""
    return {
        "Type": kept.kind,
        "DeletionPolicy": "Retain",
        "UpdateReplacePolicy": "Retain",
        "Properties": dict(kept.properties or {}),
    }


def _refused(change: Mapping[str, str]) -> str | None:
    """Waits for the change set: why it cannot be executed, if so."""
    for _ in tries():
        answer = tool_client("cloudformation").describe_change_set(**change)
        if answer["Status"] == "FAILED" or (answer["ExecutionStatus"] == "UNAVAILABLE" and _is_ready(answer)):
            return str(answer.get("StatusReason", "it does not say why"))
        if _is_ready(answer):
            return None
    raise ValueError("CloudFormation did not prepare the import in time")


def _is_ready(answer: Mapping[str, Any]) -> bool:
    return bool(answer["Status"] == "CREATE_COMPLETE")


def _record(stack: str) -> str:
    return f"{stack}/stack.json"
