"""What goes between the main process and a worker: frames of MessagePack over a socket, batches one way, decisions the
other. Pure."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Sequence

import msgspec

from decoupled.core.outcomes import Commit, Decision, Failure, Reject
from decoupled.core.workload import Message

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


def pack_messages(messages: Sequence[Message]) -> bytes:
    """A batch's frame, without its header."""
    return _encoder.encode(messages)


def unpack_messages(frame: bytes) -> list[Message]:
    """The other way round."""
    return _messages_decoder.decode(frame)
