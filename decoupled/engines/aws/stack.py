"""A deployed stack as the tools find it: by name, from its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from decoupled.core import limits, own_queues
from decoupled.core.workload import Unavailable
from decoupled.engines.aws.client import ATTEMPTS, AwsError, client, code, detail

TOOL_TIMEOUT_S = 10.0  # a person waits for the answer, not a function that is billed


def tool_client(
    service: str,
    read_timeout_s: float = TOOL_TIMEOUT_S,
    attempts: int = ATTEMPTS,
    calls: int = limits.AWS_CONCURRENCY,
) -> Any:
    """A client for a tool. Raises ValueError when there is no Region."""
    try:
        return client(service, read_timeout_s=read_timeout_s, attempts=attempts, calls=calls)
    except AwsError as error:
        raise ValueError(f"AWS cannot be called: {detail(error)}") from error


def account_and_region() -> tuple[str, str]:
    """Whose credentials these are, and for which Region."""
    sts = tool_client("sts")
    return str(sts.get_caller_identity()["Account"]), str(sts.meta.region_name)


def outputs(stack: str) -> Mapping[str, str]:
    """A stack's outputs. Raises ValueError if there is no such stack, Unavailable if AWS does not answer."""
    try:
        answer = tool_client("cloudformation").describe_stacks(StackName=stack)
    except AwsError as error:
        if code(error) == "ValidationError":
            raise ValueError(f"there is no stack {stack!r} here: {detail(error)}") from error
        raise Unavailable(detail(error)) from error
    found = {output["OutputKey"]: output["OutputValue"] for output in answer["Stacks"][0].get("Outputs", [])}
    missing = {"QueueUrl", "DeadLetterQueueUrl", "TableName"} - found.keys()
    if missing:
        raise ValueError(f"the stack {stack!r} has no output {', '.join(sorted(missing))}: it is not one of ours")
    return found


def queue_urls(found: Mapping[str, str]) -> list[str]:
    """Of the queues where accepted messages wait, by a stack's outputs: the shared one first."""
    others = [*own_queue_urls(found).values(), *filter(None, [found.get("OrderedQueueUrl")])]
    return [found["QueueUrl"], *others]


def own_queue_urls(found: Mapping[str, str]) -> dict[str, str]:
    """Of the queues that workloads have of their own, by their keys."""
    prefix = f"{own_queues.RESOURCE}Url"
    return {name.removeprefix(prefix): url for name, url in found.items() if name.startswith(prefix)}


def dead_letter_urls(found: Mapping[str, str]) -> list[str]:
    """Of the queues where dead letters are."""
    return [found[name] for name in ("DeadLetterQueueUrl", "OrderedDeadLetterQueueUrl") if name in found]
