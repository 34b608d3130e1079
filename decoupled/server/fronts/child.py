"""The writer's side of one front: hands its messages to the group commit, and tells it what became of them."""

from __future__ import annotations

import asyncio
import json
import math
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, Protocol, assert_never

from decoupled.core.frames import MAX_FRAME_BYTES
from decoupled.core.metrics import Numbers
from decoupled.core.outcomes import Together
from decoupled.server.child import ChildProcess
from decoupled.server.door import Sender
from decoupled.server.fronts.protocol import (
    LISTENER,
    AskHealth,
    Ended,
    Health,
    Leave,
    Sends,
    State,
    Told,
    Unwatch,
    Watch,
    Watched,
    encode,
    from_front,
)
from decoupled.server.watches import Topic, Watches


class Owner(Protocol):
    """Who is told what a front does."""

    sender: Sender
    watches: Watches

    def health(self) -> tuple[int, str]:
        """The server's, as an HTTP status and a JSON text."""
        ...

    def counted(self, numbers: Numbers | None) -> None:
        """This much, since it last told."""
        ...

    def lost(self, front: FrontProcess, cause: str) -> None:
        """It has ended."""
        ...


@dataclass(frozen=True, slots=True)
class Given:
    """What a front is started with."""

    listener: socket.socket
    seats: int  # a descriptor, handed to it
    seat: int
    more: dict[str, Any]  # plain: what `process.py` reads
    certificate: IO[bytes] | None = None  # handed to it, too


class FrontProcess(ChildProcess):
    """One process."""

    module = "decoupled.server.fronts.process"
    most_bytes = MAX_FRAME_BYTES

    def __init__(self, owner: Owner, given: Given, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.owner = owner
        self.seat = given.seat
        self.troubles: list[tuple[str, bool]] = []
        self.leave_by = math.inf  # by the loop's clock
        self.silent = 0  # looks of the crew since it last said something
        self._given = given
        self._loop = loop
        self._done: list[int] = []  # requests that are on the disk, and it has not heard so

    def leave(self, at_once: bool) -> None:
        """Ask it to end. One that has not got the listener yet has nothing to end."""
        if not self.ready:
            self.kill("it is not needed any more")
            return
        self.send(encode(Leave(at_once)))
        self.flush()

    # --- what it says ---------------------------------------------------------

    def _said(self, frame: memoryview) -> None:
        self.silent = 0
        match from_front(frame):
            case Sends(requests, watched):
                for message_id in watched:
                    self.owner.watches.expect(message_id, self)
                send = self.owner.sender.send
                for number, messages in requests:
                    send(messages, partial(self._sent, number))
            case State(troubles, numbers):
                self.troubles = troubles
                self.owner.counted(numbers)
            case AskHealth():
                self.send(encode(Health(*self.owner.health())))
                self.flush()
            case Watch(topic):
                self.owner.watches.watch(topic, self)
            case Unwatch(topic):
                self.owner.watches.unwatch(topic, self)
            case never:
                assert_never(never)

    def _sent(self, number: int, outcome: Together) -> None:
        """All that one transaction took is told in one frame."""
        if self.gone:
            return
        if outcome is not None:
            self.send(encode(Told([number], outcome)))
            self._loop.call_soon(self._tell)
            return
        if not self._done:
            self._loop.call_soon(self._tell)
        self._done.append(number)

    def watched(self, topic: Topic, refused: str | None) -> None:
        """Of Watcher."""
        if not self.gone:
            self.send(encode(Watched(topic, refused)))
            self.flush()

    def ended(self, topics: Sequence[Topic]) -> None:
        """Of Watcher."""
        if not self.gone:
            self.send(encode(Ended(topics)))
            self.flush()

    def _tell(self) -> None:
        if self._done:
            self.send(encode(Told(self._done)))
            self._done = []
        if not self.gone:
            self.flush()

    # --- its start and its end ------------------------------------------------

    def _arguments(self) -> list[str]:
        given = self._given
        certificate = None if given.certificate is None else given.certificate.fileno()
        return [json.dumps({"seats": given.seats, "seat": given.seat, "certificate": certificate, **given.more})]

    def _descriptors(self) -> Sequence[int]:
        given = self._given
        return (given.seats,) if given.certificate is None else (given.seats, given.certificate.fileno())

    def _begun(self, frame: memoryview) -> None:
        """Only now it gets the listener: it would keep the address from the next server, if this one were killed before
        the front knows how to end with it."""
        self._said(frame)
        socket.send_fds(self._socket, [LISTENER], [self._given.listener.fileno()])

    def _time_left_s(self) -> float | None:
        return None  # the crew looks at `silent`

    def _ended(self, cause: str) -> None:
        self.owner.watches.leave(self)
        self.owner.lost(self, cause)
