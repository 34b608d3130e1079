"""A workload that fails, so that there is a dead letter."""

from msgspec import Struct

from decoupled import Effects, Message, Workload


class Box(Struct):
    size: int


def process(box: Box, message: Message) -> Effects:
    return Effects({"share": 100 // box.size})


WORKLOAD = Workload("boxes", Box, process)
