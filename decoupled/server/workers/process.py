"""A worker process: reads messages from its socket, decides each, writes the decisions back; batch after batch here,
many at once in `at_once.py`. It writes nothing else anywhere: the main process stores what was decided. Run as
`python -m decoupled.server.workers.process`."""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
from pathlib import Path

from decoupled.core.frames import HEADER, frame
from decoupled.core.outcomes import Decision
from decoupled.core.semconv import MESSAGING_SYSTEM_HERE
from decoupled.core.workload import Message, Workloads
from decoupled.pipeline.loading import load
from decoupled.pipeline.processor import BatchLimit, decide, decide_traced
from decoupled.server import logs
from decoupled.server.parent import end_before_it, end_with_parent, leave_to_parent
from decoupled.server.workers.lifetime import Lifetime, limit_message
from decoupled.server.workers.protocol import pack_ready, pack_reply, unpack_messages
from decoupled.telemetry import process as telemetry

OOM_SCORE = 500


def main() -> None:
    """Arguments: the socket's number, the function timeout in seconds, and as JSON what `pool.py` says beyond these."""
    fd, timeout_s, named = int(sys.argv[1]), float(sys.argv[2]), json.loads(sys.argv[3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # also for what a workload starts: Ctrl-C reaches the whole group
    leave_to_parent(signal.SIGHUP, signal.SIGTERM)
    connection = socket.socket(fileno=fd)
    end_with_parent(fd)
    logs.configure_logs(named["log_level"])
    sys.stdout = logs.Printed()
    end_before_it(OOM_SCORE)
    telemetry.start("worker", MESSAGING_SYSTEM_HERE, told=True)
    workloads = load(named["workloads"], named["root"] and Path(named["root"]))
    lifetime = Lifetime(named["memory_mb"], named["messages"])
    limit_message(named["memory_mb"])
    connection.sendall(frame(pack_ready(lifetime.first_mb)))
    if named["concurrent"]:
        from decoupled.server.workers import at_once  # an event loop, which the others do not need

        at_once.serve(connection, workloads, timeout_s, lifetime)
    else:
        _serve(connection, workloads, timeout_s, lifetime)
        telemetry.stop()


def _serve(connection: socket.socket, workloads: Workloads, timeout_s: float, lifetime: Lifetime) -> None:
    with connection.makefile("rb", buffering=1 << 16) as frames:
        while header := frames.read(HEADER.size):
            (size,) = HEADER.unpack(header)
            decisions = _decide_all(unpack_messages(frames.read(size)), workloads, timeout_s)
            leaving = lifetime.over(len(decisions))
            connection.sendall(frame(pack_reply(decisions, leaving)))
            if leaving is not None:
                break
        while frames.read(1 << 16):  # what was handed ahead goes to others; until the main process has heard, it comes
            pass


def _decide_all(messages: list[Message], workloads: Workloads, timeout_s: float) -> list[Decision]:
    deadline = time.monotonic() + timeout_s
    decisions = []
    with BatchLimit(timeout_s):
        for message in messages:
            logs.deciding = message
            alone = decide_traced if message.trace else decide
            decisions.append(alone(message, workloads, deadline - time.monotonic(), whole_s=timeout_s))
        logs.deciding = None
    return decisions


if __name__ == "__main__":
    main()
