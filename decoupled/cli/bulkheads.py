"""What `decoupled deploy` adds to the parameters so that one workload's trouble is not another's, nor the front's: the
queues of their own, and the pace of each. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from decoupled.core import headroom, own_queues
from decoupled.core.headroom import Account
from decoupled.core.workload import Workloads


def defaults(template: str) -> dict[str, str]:
    """What the template's parameters are when nobody says otherwise."""
    section = re.split(r"^\S.*$", template.partition("\nParameters:\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(r"^  (\w+):\n(?:    .*\n)*?    Default: (.*)$", section, re.MULTILINE)
    return {name: value.strip('"') for name, value in found}


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
        yield f"{names} share a queue: the functions' environment has no room for more names of queues"


def _planned(stack: str, has: str | None, workloads: Workloads) -> tuple[list[str], list[str]]:
    own_queues.keys(workloads)  # two that have one key would have one queue, too, if one of them were ordered
    unordered = [name for name, workload in workloads.items() if not workload.ordered]
    return own_queues.planned(stack, unordered, (has or "").split(","))


def pace_parameters(values: Mapping[str, str], given: Mapping[str, str], new: bool, known: Account) -> dict[str, str]:
    """The concurrency of a new stack's queues, as the account has room; and the sum of all, if it is to be reserved."""
    chosen: dict[str, str] = {}
    if new and known.unreserved is not None:
        pace = str(headroom.chosen(values, known.unreserved))
        which = ("MaximumConcurrency", "OrderedConcurrency") if values["OrderedWorkloads"] else ("MaximumConcurrency",)
        chosen = {name: pace for name in which if name not in given}
    if values["ReserveConcurrency"] == "yes" and "ReservedProcessors" not in given:
        chosen["ReservedProcessors"] = str(headroom.processors({**values, **chosen}))
    return chosen


def reserved(values: Mapping[str, str]) -> int:
    """Executions that a stack with these parameters has reserved."""
    processors = int(values.get("ReservedProcessors", 0)) if values.get("ReserveConcurrency") == "yes" else 0
    return processors + int(values.get("ReceiverReserved", 0))
