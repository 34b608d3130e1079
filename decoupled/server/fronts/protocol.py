"""What goes between a front and the writer's process: frames of MessagePack over a socket. A front's first frame says
that it is ready. Pure.

    front ─ State: ready ─▶                 writer ─ LISTENER, with the socket that clients come to ─▶ front
    front ─ Sends (messages, by request) ─▶ writer ─ Told (which requests, and what became of them) ─▶ front
          ─ Watch (what may end), Unwatch ─▶       ─ Watched, and when it has, Ended ─▶
          ─ AskHealth ─▶                           ─ Health ─▶
          ─ State, once a second ─▶                ─ Leave ─▶
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from decoupled.core.metrics import Numbers
from decoupled.core.outcomes import Together
from decoupled.core.workload import Message
from decoupled.server.watches import Topic

LISTENER = b"L"  # before all frames


class Sends(msgspec.Struct, array_like=True, tag=0):
    """Requests, each with the number that the front knows it by, and its messages: on the queue, all or none. And the
    ids of those among them whose end the front wants to hear of."""

    requests: Sequence[tuple[int, Sequence[Message]]]
    watched: Sequence[str] = ()


class AskHealth(msgspec.Struct, array_like=True, tag=1):
    """What the writer's process knows of the server's health."""


class State(msgspec.Struct, array_like=True, tag=2):
    """A sign of life, with what is wrong in the front: details, and whether requests are refused because of them. And
    what it has counted since the last one."""

    troubles: list[tuple[str, bool]]
    numbers: Numbers | None = None


class Watch(msgspec.Struct, array_like=True, tag=3):
    """Tell the front, from now on, when this ends."""

    topic: Topic


class Unwatch(msgspec.Struct, array_like=True, tag=4):
    """Not any more."""

    topic: Topic


class Told(msgspec.Struct, array_like=True, tag=0):
    """The messages of these requests are on the disk; or why they are not, or what came of each."""

    numbers: list[int]
    outcome: Together = None


class Health(msgspec.Struct, array_like=True, tag=1):
    """The answer to AskHealth: an HTTP status, and a JSON text."""

    status: int
    body: str


class Leave(msgspec.Struct, array_like=True, tag=2):
    """Let no more clients in, and end when those that are there have their answers: at once, or in their own time."""

    at_once: bool


class Watched(msgspec.Struct, array_like=True, tag=3):
    """What ends of this from now on, the front will hear of; or why not."""

    topic: Topic
    refused: str | None = None


class Ended(msgspec.Struct, array_like=True, tag=4):
    """Something of these has ended, which is on the disk. Of an id, no more is told."""

    topics: Sequence[Topic]


_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
"""Any of these as a payload."""

_from_front = msgspec.msgpack.Decoder(Sends | AskHealth | State | Watch | Unwatch)
_from_writer = msgspec.msgpack.Decoder(Told | Health | Leave | Watched | Ended)
from_front = _from_front.decode
"""A payload of a front's. Raises msgspec.DecodeError."""
from_writer = _from_writer.decode
"""A payload of the writer's."""


def size_of(messages: Sequence[Message], each: int) -> int:
    """What messages count for, in bytes: their bodies and callbacks, and so much more for each."""
    return sum([len(message.body) + len(message.callback) + each for message in messages])
