"""The main process's side of its worker processes: starts them, hands them batches, watches the function timeout, and
says what a dead one left undone. What that means for the messages is the poller's to decide."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from decoupled.core.outcomes import Decision, Delivery
from decoupled.server import outlet
from decoupled.server.workers.protocol import HEADER, pack_messages, unpack_reply

log = logging.getLogger("decoupled.workers")

MAX_WINDOW = 32  # batches that a worker may have ahead of it; 4 starved it while the main process served 256 clients
GRACE_S = 1.0  # beyond the function timeout, for the worker itself to interrupt what runs too long
LAST_WORDS_S = 1.0  # to read what a process wrote before it ended


@dataclass(slots=True)
class Batch:
    """Deliveries of one workload, decided together. `expected_s`: how long that should take."""

    workload: str
    deliveries: Sequence[Delivery]
    expected_s: float


class Worker(asyncio.Protocol):
    """One worker process. Batches are decided in the order given; `batches[0]` is the one being worked on."""

    def __init__(
        self,
        names: Sequence[str],
        function_timeout_s: float,
        on_decided: Callable[[Worker, Batch, list[Decision], float], None],
        on_lost: Callable[[Worker, list[Batch], str], None],
        root: Path | None = None,
        log_level: str = "INFO",
    ) -> None:
        self.names = names
        self.root = root
        self.log_level = log_level
        self.function_timeout_s = function_timeout_s
        self.on_decided = on_decided
        self.on_lost = on_lost
        self.batches: deque[Batch] = deque()
        self.expected_s = 0.0
        self.useful = False  # has decided something: if not, starting another at once would only spin
        self._buffer = bytearray()
        self._frames: list[bytes] = []
        self._head_started = 0.0
        self._cause: str | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    async def start(self) -> None:
        """Start the process. Returns at once; it takes batches while it is still importing."""
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603  our own module, and options that were checked
                [
                    sys.executable,
                    "-P",  # like the main process, it imports nothing from the directory that it was started in
                    "-m",
                    "decoupled.server.workers.process",
                    str(theirs.fileno()),
                    str(self.function_timeout_s),
                    json.dumps(
                        {"workloads": self.names, "root": self.root and str(self.root), "log_level": self.log_level}
                    ),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,  # read here, whatever becomes of it: nothing in there waits for our own reader
                stderr=subprocess.STDOUT,
                bufsize=0,
            )
        self._said, _ = await asyncio.get_running_loop().connect_read_pipe(outlet.Relay, self.process.stdout)
        self._transport, _ = await asyncio.get_running_loop().create_connection(lambda: self, sock=ours)

    def give(self, batch: Batch) -> None:
        """Hand over a batch."""
        frame = pack_messages([delivery.message for delivery in batch.deliveries])
        self._frames += (HEADER.pack(len(frame)), frame)
        self.batches.append(batch)
        self.expected_s += batch.expected_s
        if len(self.batches) == 1:
            self._watch_head()

    def flush(self) -> None:
        """Write what was given, in one system call."""
        if self._frames and self._transport is not None:
            self._transport.write(b"".join(self._frames))
            self._frames.clear()

    def data_received(self, data: bytes) -> None:
        """Decisions, a frame for each batch in turn."""
        self._buffer += data
        start = 0
        while len(self._buffer) - start >= HEADER.size:
            (size,) = HEADER.unpack_from(self._buffer, start)
            end = start + HEADER.size + size
            if len(self._buffer) < end:
                break
            decisions = unpack_reply(bytes(self._buffer[start + HEADER.size : end]))
            start = end
            self._decided(decisions)
        if start:
            del self._buffer[:start]

    def _decided(self, decisions: list[Decision]) -> None:
        batch = self.batches.popleft()
        self.expected_s = max(0.0, self.expected_s - batch.expected_s)
        self.useful = True
        took_s = time.monotonic() - self._head_started
        self._watch_head()
        self.on_decided(self, batch, decisions, took_s)

    def _watch_head(self) -> None:
        self._head_started = time.monotonic()
        if self._watchdog is None and self.batches:
            self._arm(self.function_timeout_s + GRACE_S)

    def _arm(self, seconds: float) -> None:
        self._watchdog = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        """One timer for many batches: it looks again when the batch now at the head would be over time."""
        self._watchdog = None
        if not self.batches:
            return
        over_s = time.monotonic() - self._head_started - self.function_timeout_s - GRACE_S
        if over_s >= 0:
            self.kill(f"it did not return within the function timeout of {self.function_timeout_s:g} s")
        else:
            self._arm(-over_s)

    def kill(self, cause: str) -> None:
        """End the process; what it had is reported lost for that cause."""
        self._cause = cause
        self.process.kill()
        if self._transport is not None:
            self._transport.abort()  # the socket does not hang up while a child of the workload's holds it too

    def connection_lost(self, _error: Exception | None) -> None:
        """The process ended, by itself or by us."""
        if self._watchdog is not None:
            self._watchdog.cancel()
        self.process.kill()  # it closed its socket: whatever else it does, it is no worker any more
        asyncio.get_running_loop().call_later(LAST_WORDS_S, self._said.close)  # a child of the workload's may hold it
        code = self.process.wait()
        cause = self._cause or (f"killed by signal {-code}" if code < 0 else f"exit status {code}")
        left, self.batches = list(self.batches), deque()
        self.expected_s = 0.0
        self.on_lost(self, left, cause)
