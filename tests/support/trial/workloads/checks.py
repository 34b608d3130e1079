"""Everything that a validation can do to the process that it runs in, chosen by the entry. With `once`, only the first
time: the file of that name tells."""

import ctypes
import os
import signal
import time
from pathlib import Path

from msgspec import Struct

from decoupled.core.workload import Add, Effects, Message, Workload

RAISED = {error.__name__: error for error in (SystemExit, KeyboardInterrupt, GeneratorExit, BaseException)}


class Check(Struct, frozen=True, forbid_unknown_fields=True):
    act: str = "well"
    seconds: float = 0.0
    once: str | None = None
    padding: str = ""

    def __post_init__(self) -> None:
        if self.once is not None:
            if Path(self.once).exists():
                return
            Path(self.once).touch()
        if self.act in RAISED:
            raise RAISED[self.act]
        if self.act == "exit":
            os._exit(4)
        elif self.act == "segfault":
            ctypes.string_at(0)
        elif self.act == "slow":
            time.sleep(self.seconds)
        elif self.act == "hang_in_python":
            while True:
                pass
        elif self.act == "hang_in_c":
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            ctypes.PyDLL(None).sleep(3600)  # with Python's lock held: no other thread of the process runs either
        elif self.act == "fork" and os.fork() == 0:
            time.sleep(self.seconds)
            os._exit(0)


def process(check: Check, _message: Message) -> Effects:
    return Effects({"act": check.act}, [Add("checks/processed", {"times": 1})])


WORKLOAD = Workload("checks", Check, process)
