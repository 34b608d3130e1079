"""The workload that `make bench-io` serves beside notifications: its entry says how long it takes, and what goes wrong.
BENCH_BUG in the environment is a bad deployment: whatever is processed raises the same error."""

import os
import time

from msgspec import Struct

from decoupled import Add, Effects, Emit, Message, Workload


class Probe(Struct, frozen=True, forbid_unknown_fields=True):
    who: str  # the group
    takes_ms: float = 0.0
    poison: bool = False
    counted: bool = False  # keep in an item how often this was applied
    again: bool = False  # emit the same anew, so that always as many wait


def process(probe: Probe, message: Message) -> Effects:
    if probe.takes_ms:
        time.sleep(probe.takes_ms / 1000)
    if probe.poison or "BENCH_BUG" in os.environ:
        raise KeyError("price")
    writes = [Add(f"probes/{message.id}", {"applied": 1})] if probe.counted else []
    return Effects({}, writes, [Emit("probe", probe)] if probe.again else [])


WORKLOAD = Workload("probe", Probe, process, group=lambda probe: probe.who, emits_to=("probe",))
