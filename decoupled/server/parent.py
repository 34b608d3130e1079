"""A child process's view of its parent, the writer's process: when that is asked to end, it asks its children; however
it ends, they end too."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import threading
from pathlib import Path

PR_SET_PDEATHSIG = 1  # Linux: the signal to get when the parent dies


def leave_to_parent(*signals: signal.Signals) -> None:
    """Ctrl-C, a terminal that is closed and some service managers reach all processes of a server at once; it is the
    parent that ends in order. What a workload starts or forks can be ended by them as ever."""
    # Unlike SIG_IGN, such a handler is not passed on to another program.
    as_ever = {number: signal.signal(number, lambda *_: None) for number in signals}

    def take_them_as_ever() -> None:
        for number, handler in as_ever.items():
            signal.signal(number, handler)

    os.register_at_fork(after_in_child=take_them_as_ever)


def end_with_parent(fd: int) -> None:
    """Of this socket, which leads to the parent: nobody else may hold it, and its hang-up ends the process. Even one
    that hangs in a workload must not outlive the parent."""
    keep_from_children(fd)
    if sys.platform == "linux":  # also while C code holds Python's lock, when no thread of ours runs
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_exit_at_hangup, args=(fd,), daemon=True).start()


def end_before_it(score: int) -> None:
    """When the machine's memory runs out all the same, it is a child that the kernel ends, and not the parent, which
    has everybody's messages. Of 1,000 that make the kernel end a process first."""
    with contextlib.suppress(OSError):  # only Linux has it, and a container may forbid it
        Path("/proc/self/oom_score_adj").write_text(f"{score}\n")


def keep_from_children(fd: int) -> None:
    """Of a socket: a process that a workload leaves behind must neither take messages or clients, nor keep the address,
    nor hide from the parent that this one ended. A socket hangs up only when nobody holds it."""
    os.set_inheritable(fd, False)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.register_at_fork(after_in_child=lambda: os.dup2(nothing, fd, inheritable=False))


def _exit_at_hangup(fd: int) -> None:
    hangup = select.poll()
    hangup.register(fd, 0)  # no events wanted: a hang-up is always told
    hangup.poll()
    os._exit(0)
