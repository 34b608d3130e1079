"""Each message takes as long as it says, asleep, so that the machine's speed hardly matters; and the backend is away
while the file is there that it names."""

import time
from pathlib import Path

from msgspec import Struct

from decoupled.core.workload import Effects, Message, Unavailable, Workload


class Nap(Struct, frozen=True, forbid_unknown_fields=True):
    seconds: float
    away: str


def process(nap: Nap, _message: Message) -> Effects:
    time.sleep(nap.seconds)
    if Path(nap.away).exists():
        raise Unavailable("the backend does not answer")
    return Effects({})


WORKLOAD = Workload("naps", Nap, process)
