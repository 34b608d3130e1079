"""Steps of groups, each after the one before it, by a function that fails at random. `log` is a file that gets a line
each time that one is begun; effects are items, which SQLite numbers in the order in which they are stored."""

import os
import random
import signal
from pathlib import Path

from msgspec import Struct

from decoupled.core.workload import Effects, Message, Put, Rejected, Workload

FAILS, REJECTS, KILLS = 0.04, 0.01, 0.001


class Step(Struct, frozen=True, forbid_unknown_fields=True):
    group: str
    number: int
    log: str


def process(step: Step, _message: Message) -> Effects:
    with Path(step.log).open("ab", buffering=0) as log:
        log.write(f"{step.group} {step.number}\n".encode())  # whole, whoever else writes
    chance = random.random()
    if chance < KILLS:
        os.kill(os.getpid(), signal.SIGKILL)
    if chance < FAILS:
        raise RuntimeError("a bug that comes and goes")
    if chance > 1 - REJECTS:
        raise Rejected("against the rules")
    return Effects({}, [Put(f"steps/done/{step.group}.{step.number}", {}, if_absent="done before")])


IN_ORDER = "STEPS_IN_ANY_ORDER" not in os.environ
WORKLOAD = Workload("steps", Step, process, group=lambda step: step.group, ordered=IN_ORDER)
