"""A worker process: reads batches of messages from its socket, decides each, writes the decisions back. It writes
nothing else anywhere: what was decided is stored by the main process. Run as `python -m decoupled.embedded.worker`."""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import struct
import sys
import threading
import time

from decoupled.engine import Decision
from decoupled.workload import Message, Workloads, load
from functions.processor import decide

# A frame is its length, then a pickle: the two ends are one program, and Effects hold Decimals and nested data.
HEADER = struct.Struct("!I")


def main() -> None:
    """Arguments: the socket's number, the function timeout in seconds, the workloads."""
    fd, timeout_s, names = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3].split(",")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the main process drains and closes
    connection = socket.socket(fileno=fd)
    threading.Thread(target=_exit_with_parent, args=(fd,), daemon=True).start()
    workloads = load(names)
    with connection.makefile("rb", buffering=1 << 16) as frames:
        while header := frames.read(HEADER.size):
            (size,) = HEADER.unpack(header)
            messages: list[Message] = pickle.loads(frames.read(size))  # noqa: S301
            decisions = _decide_all(messages, workloads, timeout_s)
            reply = pickle.dumps(decisions, protocol=5)
            connection.sendall(HEADER.pack(len(reply)) + reply)


def _decide_all(messages: list[Message], workloads: Workloads, timeout_s: float) -> list[Decision]:
    deadline = time.monotonic() + timeout_s
    return [decide(message, workloads, deadline - time.monotonic()) for message in messages]


def _exit_with_parent(fd: int) -> None:
    """However the main process dies, its workers must not outlive it, even one that hangs in a workload."""
    hangup = select.poll()
    hangup.register(fd, 0)  # no events wanted: a hang-up is always told
    hangup.poll()
    os._exit(0)


if __name__ == "__main__":
    main()
