"""A worker process: reads messages from its socket, decides each, writes the decisions back; batch after batch here,
many at once in `at_once.py`. It writes nothing else anywhere: the main process stores what was decided. Run as
`python -m decoupled.server.workers.process`."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from decoupled.core.outcomes import Decision
from decoupled.core.workload import Message, Workloads
from decoupled.pipeline.loading import load
from decoupled.pipeline.processor import decide
from decoupled.server import logs
from decoupled.server.workers.lifetime import Lifetime, end_before_others, limit_message
from decoupled.server.workers.protocol import HEADER, pack_ready, pack_reply, unpack_messages

PR_SET_PDEATHSIG = 1  # Linux: the signal to get when the parent dies


def main() -> None:
    """Arguments: the socket's number, the function timeout in seconds, and as JSON what `pool.py` says beyond these."""
    fd, timeout_s, named = int(sys.argv[1]), float(sys.argv[2]), json.loads(sys.argv[3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the main process drains and closes
    connection = socket.socket(fileno=fd)
    _keep_from_children(fd)
    _end_with_parent(fd)
    logs.configure_logs(named["log_level"])
    sys.stdout = logs.Printed()
    end_before_others()
    workloads = load(named["workloads"], named["root"] and Path(named["root"]))
    lifetime = Lifetime(named["memory_mb"], named["messages"])
    limit_message(named["memory_mb"])
    _send(connection, pack_ready(lifetime.first_mb))
    if named["concurrent"]:
        from decoupled.server.workers import at_once  # an event loop, which the others do not need

        at_once.serve(connection, workloads, timeout_s, lifetime)
    else:
        _serve(connection, workloads, timeout_s, lifetime)


def _serve(connection: socket.socket, workloads: Workloads, timeout_s: float, lifetime: Lifetime) -> None:
    with connection.makefile("rb", buffering=1 << 16) as frames:
        while header := frames.read(HEADER.size):
            (size,) = HEADER.unpack(header)
            decisions = _decide_all(unpack_messages(frames.read(size)), workloads, timeout_s)
            leaving = lifetime.over(len(decisions))
            _send(connection, pack_reply(decisions, leaving))
            if leaving is not None:
                break
        while frames.read(1 << 16):  # what was handed ahead goes to others; until the main process has heard, it comes
            pass


def _send(connection: socket.socket, frame: bytes) -> None:
    connection.sendall(HEADER.pack(len(frame)) + frame)


def _decide_all(messages: list[Message], workloads: Workloads, timeout_s: float) -> list[Decision]:
    deadline = time.monotonic() + timeout_s
    decisions = []
    for message in messages:
        logs.deciding = message
        decisions.append(decide(message, workloads, deadline - time.monotonic(), whole_s=timeout_s))
    logs.deciding = None
    return decisions


def _keep_from_children(fd: int) -> None:
    """A process that a workload leaves behind must neither take messages nor hide from the main process that this one
    ended: the socket hangs up only when nobody holds it."""
    os.set_inheritable(fd, False)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.register_at_fork(after_in_child=lambda: os.dup2(nothing, fd, inheritable=False))


def _end_with_parent(fd: int) -> None:
    """However the main process dies, its workers must not outlive it, even one that hangs in a workload."""
    if sys.platform == "linux":  # also while C code holds Python's lock, when no thread of ours runs
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_exit_at_hangup, args=(fd,), daemon=True).start()


def _exit_at_hangup(fd: int) -> None:
    hangup = select.poll()
    hangup.register(fd, 0)  # no events wanted: a hang-up is always told
    hangup.poll()
    os._exit(0)


if __name__ == "__main__":
    main()
