"""What goes between the main process and a worker: frames of MessagePack over a socket, batches one way, decisions the
other. A worker's first frame says that it is ready. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from decimal import Decimal
from typing import Any, Literal

import msgspec

from decoupled.core.outcomes import Commit, Decision, Failure, Reject
from decoupled.core.workload import EffectsError, Message, Write
from decoupled.pipeline import blame


class Ready(msgspec.Struct, array_like=True):
    """The worker has imported its workloads, and has that much memory."""

    memory_mb: int


class Leaving(msgspec.Struct, array_like=True, frozen=True):
    """Why a worker decides nothing more, and makes way for a new one."""

    over: Literal["memory", "messages", "stuck"]
    detail: str


class Reply(msgspec.Struct, array_like=True):
    """Decisions in the order of the messages, or, from a worker that decides many at once, of those with these numbers:
    the first message that it was given is 0. Writes travel beside them by the places of their decisions, as JSON: they
    may hold Decimals in nested data, which MessagePack has not. `leaving`: it begins nothing more."""

    decisions: list[Commit | Reject | Failure]
    writes: dict[int, bytes] = {}
    leaving: Leaving | None = None
    numbers: list[int] = []


def pack_ready(memory_mb: int) -> bytes:
    """The first frame, without its header."""
    return _encoder.encode(Ready(memory_mb))


def unpack_ready(frame: bytes | memoryview) -> int:
    """The other way round: how much memory it has, in MiB."""
    return _ready_decoder.decode(frame).memory_mb


def pack_reply(decisions: Sequence[Decision], leaving: Leaving | None = None, numbers: Sequence[int] = ()) -> bytes:
    """A reply's frame, without its header. Writes that nobody could read are their message's own failure."""
    writes: dict[int, bytes] = {}
    bare = list(decisions)
    for place, decision in enumerate(decisions):
        if type(decision) is Commit and decision.writes:
            try:
                writes[place] = _pack_writes(decision.writes)
                bare[place] = msgspec.structs.replace(decision, writes=[])
            except Exception as error:  # noqa: BLE001  whatever a workload's own classes raise
                bare[place] = blame.raised(EffectsError(f"writes are not what they should be: {blame.text(error)}"))
    return _encoder.encode(Reply(bare, writes, leaving, list(numbers)))


def _pack_writes(writes: Sequence[Write]) -> bytes:
    packed = _writes_encoder.encode(writes)
    _writes_decoder.decode(packed)  # nothing that a workload put into them is to end the worker that sends it
    return packed


def _plain(value: Any) -> Any:
    """What a value is a kind of whose class is the workload's own."""
    match value:
        case str():
            return str.__str__(value)
        case int():
            return int(value)
        case Decimal():
            return Decimal(value)
        case Mapping():
            return dict(value)
        case Sequence() | Set():
            return list(value)
    raise TypeError(f"writes hold plain data, not {type(value).__name__}")


def unpack_reply(frame: bytes | memoryview) -> tuple[list[Decision], Leaving | None, list[int]]:
    """The other way round: the decisions, why they are the worker's last, if they are, and the messages' numbers."""
    reply = _reply_decoder.decode(frame)
    decisions: list[Decision] = reply.decisions
    for place, writes in reply.writes.items():
        decisions[place] = msgspec.structs.replace(decisions[place], writes=_writes_decoder.decode(writes))
    return decisions, reply.leaving, reply.numbers


_encoder = msgspec.msgpack.Encoder()
_ready_decoder = msgspec.msgpack.Decoder(Ready)
_reply_decoder = msgspec.msgpack.Decoder(Reply)
_writes_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=_plain)
_writes_decoder = msgspec.json.Decoder(list[Write], float_hook=Decimal)
_messages_decoder = msgspec.msgpack.Decoder(list[Message])


def pack_messages(messages: Sequence[Message]) -> bytes:
    """A batch's frame, without its header."""
    return _encoder.encode(messages)


def unpack_messages(frame: bytes | memoryview) -> list[Message]:
    """The other way round."""
    return _messages_decoder.decode(frame)
