"""Nothing goes on until a gate is open: then all that waits is processed. The function timeout bounds the wait."""

import time
from pathlib import Path

from msgspec import Struct

from decoupled.core.workload import Effects, Emit, Message, Workload


class Gate(Struct, frozen=True, forbid_unknown_fields=True):
    file: str  # is there when it is open
    others: int = 0  # that this emits at once, to wait there in its place


def process(gate: Gate, _message: Message) -> Effects:
    if gate.others:
        return Effects({}, emits=[Emit("gates", Gate(gate.file))] * gate.others)
    while not Path(gate.file).exists():
        time.sleep(0.01)
    return Effects({})


WORKLOAD = Workload("gates", Gate, process, emits_to=("gates",))
