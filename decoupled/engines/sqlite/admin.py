"""What a server does for tools on its own machine, at a socket in its data directory: changes of dead letters, in its
own transactions; and it says what only it knows. Who may connect, the file system says. Both ends stand here; a frame
is MessagePack.

    tool ─ Change (redrive, restore, edit, purge; letters) ──▶ server ─ Done (outcomes), or Refused ─▶ tool
         ─ Ask ─────────────────────────────────────────────▶        ─ Told (numbers and health) ───▶
         ─ Request (a name, and what that takes) ───────────▶        ─ Result, or Refused ──────────▶
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, TypeVar, cast

import msgspec

from decoupled.core import limits
from decoupled.core.dead_letters import DeadLetter, Outcome
from decoupled.core.frames import HEADER, Frames, frame
from decoupled.core.metrics import Numbers
from decoupled.core.workload import Unavailable
from decoupled.engines.protocols import DeadLetters

T = TypeVar("T")

log = logging.getLogger("decoupled.admin")

Run = Callable[[Callable[[], list[Outcome]]], "asyncio.Future[list[Outcome]]"]
"""Has something done in a transaction; what it returns is on the disk."""


Tell = Callable[[Sequence[DeadLetter], Sequence[Outcome]], None]
"""Told of changes that are on the disk, and what came of each."""

Look = Callable[[], tuple[Numbers, dict[str, Any]]]
"""Says what has been counted, and what GET /health says: plain data. Neither waits nor raises."""


Call = Callable[[msgspec.Raw], Any]
"""Something else that the server does for tools: takes what it decodes itself (ValueError: that is refused), and
returns plain data at once, or a future of it. What takes long is begun by one call, and asked about by others."""


class Change(msgspec.Struct, array_like=True, tag=0):
    """What is to be done."""

    change: Literal["redrive", "restore", "edit", "purge"]
    letters: Sequence[DeadLetter]


class Ask(msgspec.Struct, array_like=True, tag=1):
    """How the server is doing."""


class Request(msgspec.Struct, array_like=True, tag=2):
    """One of `Admin.calls`, by its name, and what it is given."""

    name: str
    given: msgspec.Raw


class Done(msgspec.Struct, array_like=True, tag=0):
    """What was done with each, in turn."""

    outcomes: list[Outcome]


class Refused(msgspec.Struct, array_like=True, tag=1):
    """Why it is not known that anything was."""

    detail: str


class Told(msgspec.Struct, array_like=True, tag=2):
    """How it is doing. `health`: as GET /health has it."""

    numbers: Numbers
    health: dict[str, Any]


class Result(msgspec.Struct, array_like=True, tag=3):
    """What a call has returned."""

    value: msgspec.Raw


_encode = msgspec.msgpack.encode
_request: msgspec.msgpack.Decoder[Change | Ask | Request] = msgspec.msgpack.Decoder(Change | Ask | Request)
_Answer = Done | Refused | Told | Result
_answer: msgspec.msgpack.Decoder[_Answer] = msgspec.msgpack.Decoder(_Answer)

# --- the server's end ---------------------------------------------------------


class Admin:
    """Serves tools."""

    def __init__(
        self, run: Run, dead_letters: DeadLetters, tell: Tell, look: Look, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.tell = tell
        self.look = look
        self.dead_letters = dead_letters
        self.run = run
        self.loop = loop
        self.calls: dict[str, Call] = {}
        self.tools = 0

    async def start(self, listener: socket.socket) -> asyncio.Server:
        """Let tools connect."""
        return await self.loop.create_unix_server(lambda: _Tool(self), sock=listener)


class _Tool(asyncio.Protocol):
    """A connection: one change after the other, within a bounded time."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._received = Frames(limits.MAX_CHANGE_BYTES)
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        self._transport = cast(asyncio.Transport, transport)
        self._admin.tools += 1
        if self._admin.tools > limits.MAX_TOOLS:
            self._refuse(f"{limits.MAX_TOOLS} tools are connected already")
        self._admin.loop.call_later(limits.ANSWER_S, self._transport.abort)

    def connection_lost(self, _error: Exception | None) -> None:
        """It has gone. What it asked for is done all the same."""
        self._admin.tools -= 1

    def data_received(self, data: bytes) -> None:
        """What it wants."""
        try:
            for payload in self._received.feed(data):
                wanted = _request.decode(payload)
                if isinstance(wanted, Ask):
                    self._say(Told(*self._admin.look()))
                elif isinstance(wanted, Request):
                    self._call(wanted)
                else:
                    self._change(wanted)
        except ValueError as error:  # frames, and what is in them
            self._refuse(f"it does not understand this tool ({error}); is it of the same version?")

    def _change(self, wanted: Change) -> None:
        if len(wanted.letters) > limits.TOOL_BATCH:
            self._refuse(f"these are {len(wanted.letters)} dead letters; {limits.TOOL_BATCH} are taken at once")
            return
        change = getattr(self._admin.dead_letters, wanted.change)
        self._admin.run(partial(change, wanted.letters)).add_done_callback(partial(self._tell, wanted.letters))

    def _call(self, wanted: Request) -> None:
        if (call := self._admin.calls.get(wanted.name)) is None:
            self._refuse(f"it cannot {wanted.name!r:.40}; is it of the same version?")
            return
        try:
            answer = call(wanted.given)
        except ValueError:  # it cannot be decoded
            raise
        except Exception as error:  # noqa: BLE001  the edge, as in `_tell`
            self._failed(error)
            return
        if isinstance(answer, asyncio.Future):
            answer.add_done_callback(self._returned)
        else:
            self._say(Result(msgspec.Raw(_encode(answer))))

    def _returned(self, done: asyncio.Future[Any]) -> None:
        if done.cancelled():
            self._refuse("it was given up")
        elif (error := done.exception()) is None:
            self._say(Result(msgspec.Raw(_encode(done.result()))))
        else:
            self._failed(error)

    def _tell(self, letters: Sequence[DeadLetter], done: asyncio.Future[list[Outcome]]) -> None:
        """The edge: whatever went wrong, the tool hears of it."""
        error = done.exception()
        if error is None:
            self._admin.tell(letters, done.result())
            self._say(Done(done.result()))
        else:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, Unavailable):
            self._refuse(f"the change could not be stored: {error}")
        else:
            log.error("what a tool asked for could not be done", exc_info=error)
            self._refuse("an internal error; its log has more")

    def _refuse(self, detail: str) -> None:
        self._say(Refused(detail))
        self._transport.close()

    def _say(self, answer: _Answer) -> None:
        if not self._transport.is_closing():  # else it did not wait for the answer
            self._transport.write(frame(_encode(answer)))


# --- a tool's end -------------------------------------------------------------


def ask(server: socket.socket, change: Change) -> list[Outcome]:
    """What the server did. Raises Unavailable with why it did not, and OSError when it does not answer."""
    answer = _exchange(server, change)
    if not isinstance(answer, Done):
        raise Unavailable("the server answers what it was not asked")
    return answer.outcomes


def ask_numbers(server: socket.socket) -> Told:
    """How it is doing. Raises Unavailable with why it does not say so, and OSError when it does not answer."""
    answer = _exchange(server, Ask())
    if not isinstance(answer, Told):
        raise Unavailable("the server answers what it was not asked")
    if not answer.numbers.fits():
        raise Unavailable("the server counts otherwise: it is of another version")
    return answer


def call(server: socket.socket, name: str, given: Any, of: type[T]) -> T:
    """What the server returns. Raises Unavailable with why it does not, and OSError when it does not answer."""
    answer = _exchange(server, Request(name, msgspec.Raw(_encode(given))))
    if not isinstance(answer, Result):
        raise Unavailable("the server answers what it was not asked")
    try:
        return msgspec.msgpack.decode(answer.value, type=of)
    except msgspec.DecodeError as error:
        raise Unavailable(f"the server's answer cannot be read: {error}; is it of the same version?") from error


def _exchange(server: socket.socket, request: Change | Ask | Request) -> Done | Told | Result:
    server.sendall(frame(_encode(request)))
    (size,) = HEADER.unpack(_receive(server, HEADER.size))
    if size > limits.MAX_CHANGE_BYTES:
        raise Unavailable("the server speaks another language: it is of another version")
    try:
        answer = _answer.decode(_receive(server, size))
    except msgspec.DecodeError as error:
        raise Unavailable(f"the server's answer cannot be read: {error}; is it of the same version?") from error
    if isinstance(answer, Refused):
        raise Unavailable(f"the server refuses: {answer.detail}")
    return answer


def _receive(server: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        if not (piece := server.recv(size - len(received))):
            raise ConnectionError("it has hung up")
        received += piece
    return bytes(received)
