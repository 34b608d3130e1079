"""What goes between the main process and a worker: frames of MessagePack over a socket, batches one way, decisions the
other. A worker's first frame says that it is ready. Pure."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Literal

import msgspec

from decoupled.core.outcomes import Commit, Decision, Failure, Reject
from decoupled.core.workload import Message


class Ready(msgspec.Struct, array_like=True):
    """The worker has imported its workloads, and has that much memory."""

    memory_mb: int


class Leaving(msgspec.Struct, array_like=True, frozen=True):
    """Why a worker decides nothing more, and makes way for a new one."""

    over: Literal["memory", "messages", "stuck"]
    detail: str


class Reply(msgspec.Struct, array_like=True):
    """Decisions in the order of the messages, or, from a worker that decides many at once, of those with these numbers:
    the first message that it was given is 0. Writes travel beside them as a pickle of {index: writes}: they may hold
    Decimals in nested data, and few messages have any. `leaving`: it begins nothing more."""

    decisions: list[Commit | Reject | Failure]
    writes: bytes = b""
    leaving: Leaving | None = None
    numbers: list[int] = []


def pack_ready(memory_mb: int) -> bytes:
    """The first frame, without its header."""
    return _encoder.encode(Ready(memory_mb))


def unpack_ready(frame: bytes | memoryview) -> int:
    """The other way round: how much memory it has, in MiB."""
    return _ready_decoder.decode(frame).memory_mb


def pack_reply(decisions: list[Decision], leaving: Leaving | None = None, numbers: Sequence[int] = ()) -> bytes:
    """A reply's frame, without its header."""
    writes = {
        i: decision.writes for i, decision in enumerate(decisions) if type(decision) is Commit and decision.writes
    }
    if not writes:
        return _encoder.encode(Reply(decisions, b"", leaving, list(numbers)))
    bare = [
        msgspec.structs.replace(decision, writes=[]) if i in writes else decision
        for i, decision in enumerate(decisions)
    ]
    return _encoder.encode(Reply(bare, pickle.dumps(writes), leaving, list(numbers)))


def unpack_reply(frame: bytes | memoryview) -> tuple[list[Decision], Leaving | None, list[int]]:
    """The other way round: the decisions, why they are the worker's last, if they are, and the messages' numbers."""
    reply = _reply_decoder.decode(frame)
    decisions: list[Decision] = list(reply.decisions)
    if reply.writes:
        for i, writes in pickle.loads(reply.writes).items():  # noqa: S301  from our own child process
            decisions[i] = msgspec.structs.replace(decisions[i], writes=writes)
    return decisions, reply.leaving, reply.numbers


_encoder = msgspec.msgpack.Encoder()
_ready_decoder = msgspec.msgpack.Decoder(Ready)
_reply_decoder = msgspec.msgpack.Decoder(Reply)
_messages_decoder = msgspec.msgpack.Decoder(list[Message])


def pack_messages(messages: Sequence[Message]) -> bytes:
    """A batch's frame, without its header."""
    return _encoder.encode(messages)


def unpack_messages(frame: bytes | memoryview) -> list[Message]:
    """The other way round."""
    return _messages_decoder.decode(frame)
