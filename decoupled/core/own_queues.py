"""Which workloads of a stack have a queue of their own, and what CloudFormation calls it. Pure.

A stack has a queue for what has none of its own, and one beside it for each of these, so that a workload whose messages
wait keeps nobody else's waiting."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

NONE = "0"
"""Stands for no queue at all in the template's parameter: a loop over an empty list runs once, with an empty name, in
some readings. No workload's key begins with a digit."""

RESOURCE = "OwnQueue"
"""What the template calls such a queue, before its key; and so do the names that CloudFormation makes of it."""

MAX_QUEUES = 30  # of its own in a stack: each is some five resources of the 500 that a template may have
MAX_BYTES = 2_000  # that their names take of a function's environment, which AWS bounds to 4 KB with all else in it
MAX_NAME_CHARS = 80  # AWS: of a queue's name
_RANDOM_CHARS = 14  # that CloudFormation appends to the name of a queue, with the hyphen


def key(workload: str) -> str:
    """The workload's name as a part of a logical id, which has letters and digits only: the loop's own way to leave out
    the others (`&{Name}`) makes ids that nothing can refer to."""
    return workload.replace("_", "")


def is_key(text: str) -> bool:
    """Can it be such a part, or does it stand for none?"""
    return text == NONE or re.fullmatch("[a-z][a-z0-9]{0,63}", text) is not None


def keys(workloads: Collection[str]) -> dict[str, str]:
    """The workloads by their keys. Raises ValueError if two have the same."""
    found: dict[str, str] = {}
    for name in workloads:
        if (other := found.setdefault(key(name), name)) != name:
            raise ValueError(f"{other!r} and {name!r} differ in underscores only: their queues would have one name")
    return found


def planned(stack: str, workloads: Sequence[str], has: Sequence[str]) -> tuple[list[str], list[str]]:
    """The keys of the queues that a stack is to have, for workloads that keep no order; and the workloads that are to
    share one. It `has` some already, which stay: messages may wait there, and nothing would take them. Raises
    ValueError."""
    queues = [one for one in has if one not in ("", NONE)]
    sharing = []
    for one, name in keys(workloads).items():
        if one in queues:
            continue
        if len(queues) < MAX_QUEUES and _bytes(stack, [*queues, one]) <= MAX_BYTES:
            queues.append(one)
        else:
            sharing.append(name)
    return queues, sharing


def lacking(current: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The parameters with which a stack that has these gets the queues that those given ask for; none of what it has
    goes. Empty if it has them all."""
    has = [one for one in current.get("OwnQueues", NONE).split(",") if one not in ("", NONE)]
    new = [one for one in given.get("OwnQueues", NONE).split(",") if one not in ("", NONE, *has)]
    asked = {"OwnQueues": ",".join([*has, *new])} if new else {}
    ordered = given.get("OrderedWorkloads", "")
    return asked | ({"OrderedWorkloads": ordered} if ordered and not current.get("OrderedWorkloads") else {})


def _bytes(stack: str, queues: Sequence[str]) -> float:
    """What these take of a function's environment, where each stands with its name; without end if CloudFormation would
    have to cut a name, by whose beginning the roles know it."""
    names = [len(f"{stack}-{RESOURCE}{one}") + _RANDOM_CHARS for one in queues]
    if max(names, default=0) > MAX_NAME_CHARS:
        return float("inf")
    return sum(names) + sum(len(f"QUEUE{one}") for one in queues)
