"""The main process's side of any worker process: starts it, passes frames both ways, watches that it goes on, and ends
it. What is in the frames, and how long may pass, the two kinds of workers say: `pool.py` and `concurrent.py`."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from decoupled.core import limits
from decoupled.core.outcomes import Decision, Delivery
from decoupled.server import outlet
from decoupled.server.options import Options
from decoupled.server.workers.protocol import HEADER, Leaving, unpack_ready

GRACE_S = 1.0  # beyond the function timeout, for the worker itself to interrupt what runs too long
LAST_WORDS_S = 1.0  # to read what a process wrote before it ended
LOOK_AGAIN_S = 0.01  # whether a process has ended that was killed


@dataclass(slots=True)
class Batch:
    """Deliveries of one workload, decided together. `expected_s`: how long that should take."""

    workload: str
    deliveries: Sequence[Delivery]
    expected_s: float = 0.0


class Owner(Protocol):
    """Who is told what a worker does."""

    def started(self, worker: Any) -> None:
        """It is ready."""
        ...

    def decided(self, worker: Any, batch: Batch, decisions: list[Decision], took_s: float) -> None:
        """A batch came back."""
        ...

    def leaves(self, worker: Any) -> None:
        """It begins nothing more, and ends when it has decided what it has."""
        ...

    def lost(self, worker: Any, begun: Batch | None, untouched: list[Batch], cause: str) -> None:
        """It has ended. These did not come back: what it was at work on, of any workload, and what it had not begun."""
        ...


class WorkerProcess(asyncio.Protocol):
    """One process. Of its two kinds, each says what it does with a reply (`_reply`), how long it may stay silent
    (`_time_left_s`), and what it leaves undone (`_left`).

    start ──▶ imports ── first frame ──▶ ready ── decides ──▶ leaving: replaced by a new one
                 └ takes messages, and works on none yet"""

    concurrent: ClassVar[bool]  # whether it decides many messages at once

    def __init__(self, options: Options, owner: Owner) -> None:
        self.options = options
        self.owner = owner
        self.started_at = time.monotonic()
        self.ready = False  # has imported its workloads
        self.useful = False  # has decided something
        self.leaving: Leaving | None = None  # why it begins nothing more, by its own account
        self.gone = False  # has hung up, or was killed
        self.first_mb = 0  # of memory, before its first message
        self._buffer = bytearray()
        self._frames: list[bytes] = []
        self._cause: str | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def proven(self) -> bool:
        """It does not end as soon as it is there."""
        return self.useful or (self.ready and time.monotonic() - self.started_at >= limits.WORKER_PROVEN_S)

    # --- of each kind ---------------------------------------------------------

    def _reply(self, frame: bytes) -> None:
        """What a ready worker says. Whatever this raises, the frame was none."""
        raise NotImplementedError

    def _time_left_s(self) -> float | None:
        """Until it is taken for hung; None while there is nothing to wait for."""
        raise NotImplementedError

    def _left(self) -> tuple[Batch | None, list[Batch]]:
        """What it had begun, and what it had not, now that it has ended."""
        raise NotImplementedError

    # --- its start ------------------------------------------------------------

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
            "concurrent": self.concurrent,
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

    # --- what it is told, and says --------------------------------------------

    def send(self, frame: bytes) -> None:
        """Something to write at the next flush."""
        self._frames += (HEADER.pack(len(frame)), frame)

    def flush(self) -> None:
        """Write what was given, in one system call."""
        if self._frames and self._transport is not None:
            self._transport.write(b"".join(self._frames))
            self._frames.clear()

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
            if self.ready:
                self._reply(frame)
                return
            self.first_mb = unpack_ready(frame)
        except Exception as error:  # noqa: BLE001  whatever a workload wrote into the socket
            self.kill(f"its reply cannot be read: {error}")
            return
        self.ready = True
        self._unwatch()
        self._watch()
        self.owner.started(self)

    # --- how long it takes ----------------------------------------------------

    def _watch(self) -> None:
        if self._watchdog is None and (seconds := self._time_left_s()) is not None:
            self._arm(seconds)

    def _arm(self, seconds: float) -> None:
        self._watchdog = asyncio.get_running_loop().call_later(seconds, self._look)

    def _unwatch(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None

    def _look(self) -> None:
        """One timer for many messages: it looks again when the time would be over that counts by now."""
        self._watchdog = None
        timeout_s = self.options.function_timeout_s
        if not self.ready:
            self.kill(f"it was not ready within {limits.WORKER_START_S:g} s")
        elif (left_s := self._time_left_s()) is not None and left_s <= 0:
            self.kill(f"it did not return within the function timeout of {timeout_s:g} s")
        else:
            self._watch()

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
        self.owner.lost(self, *self._left(), self._cause or ended)
