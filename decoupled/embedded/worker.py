"""A worker process: reads batches of messages from its socket, decides each, writes the decisions back. It writes
nothing else anywhere: what was decided is stored by the main process. Run as `python -m decoupled.embedded.worker`."""

from __future__ import annotations

import ctypes
import os
import pickle
import select
import signal
import socket
import struct
import sys
import threading
import time

import msgspec

from decoupled.engine import Commit, Decision, Failure, Reject
from decoupled.workload import Message, Workloads, load
from functions.processor import decide

HEADER = struct.Struct("!I")  # a frame is its length, then MessagePack


class Reply(msgspec.Struct, array_like=True):
    """Decisions in the order of the messages. Writes travel beside them as a pickle of {index: writes}: they may hold
    Decimals in nested data, and few messages have any."""

    decisions: list[Commit | Reject | Failure]
    writes: bytes = b""


def pack_reply(decisions: list[Decision]) -> bytes:
    """A reply's frame, without its header."""
    writes = {
        i: decision.writes for i, decision in enumerate(decisions) if type(decision) is Commit and decision.writes
    }
    if not writes:
        return _encoder.encode(Reply(decisions))
    bare = [
        msgspec.structs.replace(decision, writes=[]) if i in writes else decision
        for i, decision in enumerate(decisions)
    ]
    return _encoder.encode(Reply(bare, pickle.dumps(writes)))


def unpack_reply(frame: bytes | memoryview) -> list[Decision]:
    """The other way round."""
    reply = _reply_decoder.decode(frame)
    decisions: list[Decision] = list(reply.decisions)
    if reply.writes:
        for i, writes in pickle.loads(reply.writes).items():  # noqa: S301  from our own child process
            decisions[i] = msgspec.structs.replace(decisions[i], writes=writes)
    return decisions


_encoder = msgspec.msgpack.Encoder()
_reply_decoder = msgspec.msgpack.Decoder(Reply)
_messages_decoder = msgspec.msgpack.Decoder(list[Message])

PR_SET_PDEATHSIG = 1  # Linux: the signal to get when the parent dies


def main() -> None:
    """Arguments: the socket's number, the function timeout in seconds, the workloads."""
    fd, timeout_s, names = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3].split(",")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the main process drains and closes
    connection = socket.socket(fileno=fd)
    _keep_from_children(fd)
    _end_with_parent(fd)
    workloads = load(names)
    with connection.makefile("rb", buffering=1 << 16) as frames:
        while header := frames.read(HEADER.size):
            (size,) = HEADER.unpack(header)
            reply = pack_reply(_decide_all(_messages_decoder.decode(frames.read(size)), workloads, timeout_s))
            connection.sendall(HEADER.pack(len(reply)) + reply)


def _decide_all(messages: list[Message], workloads: Workloads, timeout_s: float) -> list[Decision]:
    deadline = time.monotonic() + timeout_s
    return [decide(message, workloads, deadline - time.monotonic(), whole_s=timeout_s) for message in messages]


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
