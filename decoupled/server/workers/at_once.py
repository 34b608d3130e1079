"""What a worker process does that decides many messages at once: begins each as it comes, and writes every decision
back as soon as it is made. As a sign of life it says something again and again. A workload that blocks its event loop
for as long as the function timeout is interrupted; if this does not help, the main process ends the worker."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import cast

import uvloop

from decoupled.core import limits
from decoupled.core.frames import MAX_FRAME_BYTES, Frames, frame
from decoupled.core.outcomes import Decision
from decoupled.core.workload import Message, Workloads
from decoupled.pipeline.concurrently import Concurrently, interrupt_one
from decoupled.pipeline.processor import INTERRUPT_AGAIN_S
from decoupled.server import logs
from decoupled.server.workers.lifetime import Lifetime
from decoupled.server.workers.protocol import Leaving, pack_reply, unpack_messages
from decoupled.telemetry import process as telemetry


def serve(connection: socket.socket, workloads: Workloads, timeout_s: float, lifetime: Lifetime) -> None:
    """Until the main process hangs up."""
    signal.signal(signal.SIGALRM, interrupt_one)
    threading.stack_size(limits.THREAD_STACK_BYTES)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(connection, workloads, timeout_s, lifetime))


async def _serve(connection: socket.socket, workloads: Workloads, timeout_s: float, lifetime: Lifetime) -> None:
    loop = asyncio.get_running_loop()
    desk = _Desk(workloads, timeout_s, lifetime)
    await loop.create_connection(lambda: desk, sock=connection)
    while True:
        signal.setitimer(signal.ITIMER_REAL, timeout_s + limits.BEAT_S, INTERRUPT_AGAIN_S)
        desk.beat()
        await asyncio.sleep(limits.BEAT_S)


class _Desk(asyncio.Protocol):
    """The worker's end of the socket."""

    def __init__(self, workloads: Workloads, timeout_s: float, lifetime: Lifetime) -> None:
        self._timeout_s = timeout_s
        self._lifetime = lifetime
        self._loop = asyncio.get_running_loop()
        self._concurrently = Concurrently(workloads)
        self._received = Frames(MAX_FRAME_BYTES)
        self._begun = 0  # messages so far: the number of the next one
        self._decisions: list[Decision] = []  # to be written when all that is ready now has been seen to
        self._numbers: list[int] = []
        self._leaving: Leaving | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _error: Exception | None) -> None:
        """The main process is gone, or wants no more of us: nothing that still runs is waited for."""
        os._exit(0)

    def eof_received(self) -> bool:
        """The main process wants no more of us, and waits a moment for what we have to say of traces."""
        telemetry.stop()
        os._exit(0)

    def data_received(self, data: bytes) -> None:
        """Messages."""
        for received in self._received.feed(data):
            for message in unpack_messages(received):
                contextvars.copy_context().run(self._begin, message)

    def _begin(self, message: Message) -> None:
        all_told = logs.about(message)
        number, self._begun = self._begun, self._begun + 1
        self._concurrently.begin(message, self._timeout_s, partial(self._decided, number, all_told))

    def _decided(self, number: int, all_told: Callable[[], None], decision: Decision) -> None:
        all_told()
        if not self._numbers:
            self._loop.call_soon(self._write)
        self._numbers.append(number)
        self._decisions.append(decision)

    def _write(self) -> None:
        if self._leaving is None:
            self._leaving = self._lifetime.over(len(self._numbers))
        reply = pack_reply(self._decisions, self._leaving, self._numbers)
        self._decisions, self._numbers = [], []
        self._transport.write(frame(reply))

    def beat(self) -> None:
        """A sign of life, and a look at what does not end."""
        if self._leaving is None and (why := self._concurrently.stuck()) is not None:
            self._leaving = Leaving("stuck", why)
        self._write()
