"""Calls of hosts, each a group of its own; some of them are sick."""

from msgspec import Struct

from decoupled.core.workload import Effects, Message, Unavailable, Workload


class Call(Struct, frozen=True, forbid_unknown_fields=True):
    host: str
    sick: bool = False


def process(call: Call, _message: Message) -> Effects:
    if call.sick:
        raise Unavailable(f"{call.host} does not answer")
    return Effects({})


WORKLOAD = Workload("hosts", Call, process, group=lambda call: call.host)
