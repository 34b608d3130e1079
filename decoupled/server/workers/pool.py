"""The main process's side of a worker process: starts it, hands it batches, watches the function timeout, and says what
a dead one left undone. How many there are is the crew's affair, and what becomes of the messages the poller's."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from decoupled.core import limits
from decoupled.core.outcomes import Decision, Delivery
from decoupled.server import outlet
from decoupled.server.options import Options
from decoupled.server.workers.protocol import HEADER, Leaving, pack_messages, unpack_ready, unpack_reply

log = logging.getLogger("decoupled.workers")

MAX_WINDOW = 32  # batches that a worker may have ahead of it; 4 starved it while the main process served 256 clients
GRACE_S = 1.0  # beyond the function timeout, for the worker itself to interrupt what runs too long
LAST_WORDS_S = 1.0  # to read what a process wrote before it ended
LOOK_AGAIN_S = 0.01  # whether a process has ended that was killed


@dataclass(slots=True)
class Batch:
    """Deliveries of one workload, decided together. `expected_s`: how long that should take."""

    workload: str
    deliveries: Sequence[Delivery]
    expected_s: float


class Owner(Protocol):
    """Who is told what a worker does."""

    def decided(self, worker: Worker, batch: Batch, decisions: list[Decision], took_s: float) -> None:
        """A batch came back."""
        ...

    def lost(self, worker: Worker, left: list[Batch], cause: str) -> None:
        """It has ended, and these did not come back. It was at work on the first of them if it was `at_work`."""
        ...


class Worker(asyncio.Protocol):
    """One worker process. Batches are decided in the order given; `batches[0]` is the one being worked on.

    start ──▶ imports ── first frame ──▶ ready ── decides batches ──▶ leaving: replaced by a new one
                 └ takes batches, and works on none yet"""

    def __init__(self, options: Options, owner: Owner) -> None:
        self.options = options
        self.owner = owner
        self.batches: deque[Batch] = deque()
        self.expected_s = 0.0
        self.started_at = time.monotonic()
        self.ready = False  # has imported its workloads
        self.useful = False  # has decided something
        self.leaving: Leaving | None = None  # why it decides nothing more, by its own account
        self.gone = False  # has hung up, or was killed
        self.first_mb = 0  # of memory, before its first message
        self._buffer = bytearray()
        self._frames: list[bytes] = []
        self._head_started = 0.0
        self._cause: str | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def at_work(self) -> bool:
        """Whether the batch at the head may have been begun."""
        return self.ready and self.leaving is None

    @property
    def proven(self) -> bool:
        """It does not end as soon as it is there."""
        return self.useful or (self.ready and time.monotonic() - self.started_at >= limits.WORKER_PROVEN_S)

    async def start(self) -> None:
        """Start the process. Returns at once; it takes batches while it is still importing. Raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self.process = self._spawn(theirs.fileno())
        except BaseException:
            ours.close()
            raise
        loop = asyncio.get_running_loop()
        self._arm(limits.WORKER_START_S)
        try:
            self._said, _ = await loop.connect_read_pipe(outlet.Relay, self.process.stdout)
            self._transport, _ = await loop.create_connection(lambda: self, sock=ours)
        except BaseException:
            ours.close()
            self._unwatch()
            self.process.kill()
            raise

    def _spawn(self, fd: int) -> subprocess.Popen[bytes]:
        options = self.options
        more = {
            "workloads": options.workloads,
            "root": options.root and str(options.root),
            "log_level": options.log_level,
            "memory_mb": options.worker_memory_mb,
            "messages": options.worker_messages,
        }
        # Like the main process, it imports nothing from the directory that it was started in: -P.
        command = [sys.executable, "-P", "-m", "decoupled.server.workers.process", str(fd)]
        return subprocess.Popen(  # noqa: S603  our own module, and options that were checked
            [*command, str(options.function_timeout_s), json.dumps(more)],
            pass_fds=[fd],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # read here, whatever becomes of it: nothing in there waits for our own reader
            stderr=subprocess.STDOUT,
            bufsize=0,
        )

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

    # --- what it says ---------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """That it is ready, then decisions, a frame for each batch in turn."""
        self._buffer += data
        start = 0
        while len(self._buffer) - start >= HEADER.size:
            (size,) = HEADER.unpack_from(self._buffer, start)
            if size > limits.MAX_REPLY_BYTES:
                self.kill(f"its reply cannot be read: {size} bytes")
                return
            end = start + HEADER.size + size
            if len(self._buffer) < end:
                break
            self._take(bytes(self._buffer[start + HEADER.size : end]))
            if self.gone:
                return
            start = end
        if start:
            del self._buffer[:start]

    def _take(self, frame: bytes) -> None:
        try:
            if not self.ready:
                self.first_mb = unpack_ready(frame)
                self._is_ready()
                return
            decisions, leaving = unpack_reply(frame)
        except Exception as error:  # noqa: BLE001  whatever a workload wrote into the socket
            self.kill(f"its reply cannot be read: {error}")
            return
        if not self.batches or len(decisions) != len(self.batches[0].deliveries):
            self.kill("its reply cannot be read: it answers what it was not asked")
            return
        self.leaving = leaving
        self._decided(decisions)
        if leaving is not None:
            self.kill(leaving.detail)

    def _is_ready(self) -> None:
        self.ready = True
        self._unwatch()
        self._watch_head()

    def _decided(self, decisions: list[Decision]) -> None:
        batch = self.batches.popleft()
        self.expected_s = max(0.0, self.expected_s - batch.expected_s)
        self.useful = True
        took_s = time.monotonic() - self._head_started
        self._watch_head()
        self.owner.decided(self, batch, decisions, took_s)

    # --- how long it takes ----------------------------------------------------

    def _watch_head(self) -> None:
        self._head_started = time.monotonic()
        if self._watchdog is None and self.batches:
            self._arm(self.options.function_timeout_s + GRACE_S)

    def _arm(self, seconds: float) -> None:
        self._watchdog = asyncio.get_running_loop().call_later(seconds, self._look)

    def _unwatch(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None

    def _look(self) -> None:
        """One timer for many batches: it looks again when the batch now at the head would be over time."""
        self._watchdog = None
        timeout_s = self.options.function_timeout_s
        if not self.ready:
            self.kill(f"it was not ready within {limits.WORKER_START_S:g} s")
        elif self.batches:
            over_s = time.monotonic() - self._head_started - timeout_s - GRACE_S
            if over_s >= 0:
                self.kill(f"it did not return within the function timeout of {timeout_s:g} s")
            else:
                self._arm(-over_s)

    # --- its end --------------------------------------------------------------

    def kill(self, cause: str) -> None:
        """End the process; what it had is reported lost for that cause."""
        self._cause = self._cause or cause
        self.gone = True
        self.process.kill()
        if self._transport is not None:
            self._transport.abort()  # the socket does not hang up while a child of the workload's holds it too

    def connection_lost(self, _error: Exception | None) -> None:
        """The process ended, by itself or by us."""
        self.gone = True
        self._unwatch()
        self.process.kill()  # it closed its socket: whatever else it does, it is no worker any more
        asyncio.get_running_loop().call_later(LAST_WORDS_S, self._said.close)  # a child of the workload's may hold it
        self._report(time.monotonic() + limits.WORKER_END_S)

    def _report(self, until_s: float) -> None:
        """When the kernel has ended it: the memory of a large process takes a moment, in which others are served."""
        code = self.process.poll()
        if code is None and time.monotonic() < until_s:
            asyncio.get_running_loop().call_later(LOOK_AGAIN_S, self._report, until_s)
            return
        ended = (
            "it cannot be ended" if code is None else f"killed by signal {-code}" if code < 0 else f"exit status {code}"
        )
        left, self.batches = list(self.batches), deque()
        self.expected_s = 0.0
        self.owner.lost(self, left, self._cause or ended)
