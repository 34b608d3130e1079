"""A stack as a side of a move, by its name: from its outputs, and what its processor is told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

from decoupled.core import upkeep_limits
from decoupled.core.workload import Unavailable, Workloads, listed
from decoupled.engines.aws.client import AwsError, detail
from decoupled.engines.aws.closing import QUIET_S, Closing, why_closed
from decoupled.engines.aws.dead_letters import AwsDeadLetters
from decoupled.engines.aws.moving_source import AwsSource
from decoupled.engines.aws.moving_target import AwsTarget
from decoupled.engines.aws.queues import queues
from decoupled.engines.aws.schedules import Schedules
from decoupled.engines.aws.stack import outputs, own_queue_urls, tool_client
from decoupled.engines.aws.stack_events import current


def target_of(stack: str, workloads: Workloads) -> tuple[AwsTarget, str]:
    """The side, and the URL of its API. Raises ValueError where the stack does not serve all of the workloads, or not
    as they are, or nothing any more, since it has been closed to move elsewhere; Unavailable."""
    found = outputs(stack)
    _refuse_lacking(stack, found, workloads)
    told = _told(found)
    ordered = set(found.get("OrderedWorkloads", "").split(",")) - {""}
    queue = queues(
        tool_client("sqs", calls=upkeep_limits.MOVE_CALLS),
        found["QueueUrl"],
        found["DeadLetterQueueUrl"],
        own_queue_urls(found),
        found.get("OrderedQueueUrl", ""),
        ordered,
        _schedules(told),
    )
    table = tool_client("dynamodb", calls=upkeep_limits.MOVE_CALLS)
    if (why := why_closed(table, found["TableName"])) is not None:
        raise ValueError(f"nothing can move to the stack {stack}, {why}")
    days = int(told.get("RECORD_TTL_DAYS", "0"))
    target = AwsTarget(
        *(f"the stack {stack}", table, found["TableName"], queue, ordered, listed(workloads), days),
        identity=str((current(stack) or {}).get("StackId", "")),
    )
    return target, found["Endpoint"]


def source_of(stack: str, quiet_s: float = QUIET_S, to: str = "") -> AwsSource:
    """The other way round, `to` there. Raises ValueError or Unavailable."""
    closing = Closing(stack, quiet_s)
    dead_letters = partial(AwsDeadLetters.of_outputs, closing.outputs)
    return AwsSource(f"the stack {stack}", closing, tool_client("dynamodb"), dead_letters, to)


def _refuse_lacking(stack: str, found: Mapping[str, str], workloads: Workloads) -> None:
    """What it does not serve would die there, each message for itself."""
    served = found.get("Workloads", "").split(",")
    if lacking := sorted(workloads.keys() - {*served}):
        raise ValueError(f"the stack {stack} does not serve {', '.join(lacking)}: deploy what is served here first")
    ordered = {name for name, workload in workloads.items() if workload.ordered}
    if differing := sorted(ordered ^ _known(found.get("OrderedWorkloads", "").split(","), workloads)):
        raise ValueError(f"of {', '.join(differing)} the stack {stack} keeps another order: deploy what is served here")


def _known(names: Collection[str], workloads: Workloads) -> set[str]:
    return {name for name in names if name in workloads}


def _told(found: Mapping[str, str]) -> Mapping[str, str]:
    try:
        answer = tool_client("lambda").get_function_configuration(FunctionName=found["ProcessorName"])
    except AwsError as error:
        raise Unavailable(f"its processor's settings: {detail(error)}") from error
    told: Mapping[str, str] = answer["Environment"]["Variables"]
    return told


def _schedules(told: Mapping[str, str]) -> Callable[[str], Schedules | None]:
    """As a processor makes them; with a tool's client."""

    def of(queue_url: str) -> Schedules | None:
        if not told.get("SCHEDULE_GROUP"):
            return None
        return Schedules(
            lambda: tool_client("scheduler"),
            told["SCHEDULE_GROUP"],
            queue_url,
            told["SCHEDULE_ROLE_ARN"],
            told["SCHEDULE_DEAD_LETTER_ARN"],
            told.get("SCHEDULE_KEY_ARN", ""),
        )

    return of
