"""What `decoupled deploy` adds to the parameters so that one workload's trouble is not another's: the queues of their
own. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from decoupled.core import own_queues
from decoupled.core.workload import Workloads


def queue_parameters(stack: str, has: str | None, workloads: Workloads, given: Mapping[str, str]) -> dict[str, str]:
    """The parameter that names the workloads with a queue of their own, beside those that the stack `has`. Raises
    ValueError."""
    if "OwnQueues" not in given:
        return {"OwnQueues": ",".join(_planned(stack, has, workloads)[0]) or own_queues.NONE}
    if wrong := [one for one in given["OwnQueues"].split(",") if not own_queues.is_key(one)]:
        raise ValueError(f"OwnQueues={wrong[0]}: names of workloads without underscores, or {own_queues.NONE} for none")
    return {}


def queue_notes(stack: str, has: str | None, workloads: Workloads, given: Mapping[str, str]) -> Iterator[str]:
    """Which workloads share a queue though they need not by their kind."""
    sharing = [] if "OwnQueues" in given else _planned(stack, has, workloads)[1]
    if sharing:
        names = ", ".join(map(repr, sharing))
        yield f"Note: {names} share a queue: the functions' environment has no room for more names of queues"


def _planned(stack: str, has: str | None, workloads: Workloads) -> tuple[list[str], list[str]]:
    own_queues.keys(workloads)  # two that have one key would have one queue, too, if one of them were ordered
    unordered = [name for name, workload in workloads.items() if not workload.ordered]
    return own_queues.planned(stack, unordered, (has or "").split(","))
