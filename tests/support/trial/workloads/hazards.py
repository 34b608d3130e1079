"""Everything that a workload can do to the process that runs it, chosen by the entry. With `once`, only the first time:
the file of that name tells."""

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from decoupled.core.workload import Add, Effects, Message, NotYet, Rejected, Unavailable, Workload


class Hazard(Struct, frozen=True, forbid_unknown_fields=True):
    act: str = "well"
    seconds: float = 0.0
    once: str | None = None
    touch: str | None = None  # a file to make when processing begins
    spans: str | None = None  # a directory
    noted: str | None = None  # a directory that gets a file each time that this is processed


def process(hazard: Hazard, message: Message) -> Effects:
    if hazard.noted is not None:
        (Path(hazard.noted) / f"{message.id}-{time.monotonic_ns()}").touch()
    if hazard.touch is not None:
        Path(hazard.touch).touch()
    if hazard.once is None or not Path(hazard.once).exists():
        if hazard.once is not None:
            Path(hazard.once).touch()
        ACTS[hazard.act](hazard)
    return Effects({"act": hazard.act}, [Add("hazards/survived", {hazard.act: 1})])


def _span(hazard: Hazard) -> None:
    """Notes when processing began and ended, by the clock that all processes of a machine share."""
    assert hazard.spans is not None
    began = time.monotonic_ns()
    time.sleep(hazard.seconds)
    (Path(hazard.spans) / f"{os.getpid()}-{began}").write_text(f"{began} {time.monotonic_ns()}")


def _raise(_: Hazard) -> None:
    raise RuntimeError("the workload says no")


def _reject(_: Hazard) -> None:
    raise Rejected("against the rules")


def _unavailable(_: Hazard) -> None:
    raise Unavailable("the backend is ill", retry_after_s=0.1)


def _not_yet(hazard: Hazard) -> None:
    raise NotYet(hazard.seconds)


def _hang_in_python(_: Hazard) -> None:
    while True:
        pass


def _hang_in_c(_: Hazard) -> None:
    """Nothing that the worker itself could do interrupts this."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    ctypes.PyDLL(None).sleep(3600)  # with Python's lock held: no other thread of the process runs either


def _swallow(_: Hazard) -> None:
    while True:
        with contextlib.suppress(BaseException):  # a workload may be this bad
            time.sleep(3600)


def _print(_: Hazard) -> None:
    print("to standard output", flush=True)  # noqa: T201
    print("to standard error", file=sys.stderr, flush=True)  # noqa: T201
    os.write(1, b"x" * 100_000 + b"\n")


def _fork(hazard: Hazard) -> None:
    """A child that outlives the message, and holds what it inherited."""
    if os.fork() == 0:
        time.sleep(hazard.seconds)
        os._exit(0)


def _fork_and_return(_: Hazard) -> None:
    """Both processes go on as if they were the worker."""
    os.fork()


def _end_a_fork(_: Hazard) -> None:
    """As multiprocessing ends one."""
    ours, theirs = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(theirs, b".")
        time.sleep(20)
        os._exit(0)
    os.read(ours, 1)
    os.kill(pid, signal.SIGTERM)
    if os.waitpid(pid, 0)[1] != signal.SIGTERM:
        raise RuntimeError("it did not end")


def _fork_in_c(hazard: Hazard) -> None:
    """A child that Python does not know of."""
    if ctypes.PyDLL(None).fork() == 0:
        time.sleep(hazard.seconds)
        os._exit(0)
    _hang_in_python(hazard)


def _close_everything(_: Hazard) -> None:
    os.closerange(0, 256)


def _exhaust_memory(_: Hazard) -> None:
    raise MemoryError


def _leak(_: Hazard) -> None:
    """Memory that is written to, and never given back."""
    _leaked.append(bytearray(os.urandom(1 << 12)) * (8 << 8))


_leaked: list[bytearray] = []


def _allocate(_: Hazard) -> None:
    """Without end, but for the sake of the machine: not written to, and no more than 4 GiB."""
    _leaked.extend(bytearray(64 << 20) for _ in range(64))


def _garbage(_: Hazard) -> None:
    """Into the socket to the main process."""
    os.write(int(sys.argv[1]), b"\0\0\0\x08nonsense")


def _recurse(hazard: Hazard) -> None:
    _recurse(hazard)


ACTS: dict[str, Callable[[Hazard], object]] = {
    "well": lambda _: None,
    "slow": lambda hazard: time.sleep(hazard.seconds),
    "span": _span,
    "raise": _raise,
    "reject": _reject,
    "unavailable": _unavailable,
    "not yet": _not_yet,
    "sys_exit": lambda _: sys.exit(3),
    "os_exit": lambda _: os._exit(4),
    "kill": lambda _: signal.raise_signal(signal.SIGKILL),
    "segfault": lambda _: ctypes.string_at(0),
    "hang_in_python": _hang_in_python,
    "hang_in_c": _hang_in_c,
    "swallow": _swallow,
    "print": _print,
    "fork": _fork,
    "fork_and_return": _fork_and_return,
    "end_a_fork": _end_a_fork,
    "fork_in_c": _fork_in_c,
    "close_everything": _close_everything,
    "memory": _exhaust_memory,
    "leak": _leak,
    "allocate": _allocate,
    "garbage": _garbage,
    "recurse": _recurse,
    "kill_the_server": lambda _: os.kill(os.getppid(), signal.SIGKILL),
}

WORKLOAD = Workload("hazards", Hazard, process)
