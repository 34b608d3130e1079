"""The writer's side of a process beside it, a front or a worker: starts it, passes frames both ways, watches that it
goes on, and ends it. What is in the frames, and how long may pass, each kind says."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import ClassVar

from decoupled.core import limits
from decoupled.core.frames import HEADER, Frames
from decoupled.server import outlet

LAST_WORDS_S = 1.0  # to read what a process wrote before it ended
LOOK_AGAIN_S = 0.01  # whether a process has ended that was killed


class ChildProcess(asyncio.Protocol):
    """One process.

    start ──▶ imports ── first frame ──▶ ready ──▶ ended: killed, or by itself
                 └ gets frames, and reads none yet"""

    module: ClassVar[str]  # what it runs
    most_bytes: ClassVar[int]  # of a frame that it may send

    def __init__(self) -> None:
        self.started_at = time.monotonic()
        self.ready = False  # has imported its workloads
        self.gone = False  # has hung up, or was killed
        self._received = Frames(self.most_bytes)
        self._unsent: list[bytes] = []
        self._cause: str | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket  # under that

    @property
    def proven(self) -> bool:
        """It does not end as soon as it is there."""
        return self.ready and time.monotonic() - self.started_at >= limits.WORKER_PROVEN_S

    # --- of each kind ---------------------------------------------------------

    def _arguments(self) -> list[str]:
        """What it is told at its start, beside the number of its socket."""
        raise NotImplementedError

    def _descriptors(self) -> Sequence[int]:
        """That it gets beside its socket."""
        return ()

    def _begun(self, frame: memoryview) -> None:
        """Its first frame: it is ready. Whatever this raises, the frame was none."""
        raise NotImplementedError

    def _said(self, frame: memoryview) -> None:
        """A later one. Likewise."""
        raise NotImplementedError

    def _time_left_s(self) -> float | None:
        """Until it is taken for hung; None while there is nothing to wait for."""
        raise NotImplementedError

    def _hung(self) -> str:
        """What is then said of it."""
        return "it hangs"

    def _ended(self, cause: str) -> None:
        """It is there no more."""
        raise NotImplementedError

    # --- its start ------------------------------------------------------------

    async def start(self) -> None:
        """Start the process. Returns at once; it gets frames while it is still importing. Raises OSError."""
        ours, theirs = socket.socketpair()
        self._socket = ours
        try:
            with theirs:
                self.process = self._spawn(theirs.fileno())
        except BaseException:
            ours.close()
            raise
        loop = asyncio.get_running_loop()
        self._arm(limits.WORKER_START_S)
        try:
            self._output, _ = await loop.connect_read_pipe(outlet.Relay, self.process.stdout)
            self._transport, _ = await loop.create_connection(lambda: self, sock=ours)
        except BaseException:
            ours.close()
            self._unwatch()
            self.process.kill()
            raise

    def _spawn(self, fd: int) -> subprocess.Popen[bytes]:
        # Like the main process, it imports nothing from the directory that it was started in: -P.
        command = [sys.executable, "-P", "-m", self.module, str(fd), *self._arguments()]
        return subprocess.Popen(  # noqa: S603  our own module, and options that were checked
            command,
            pass_fds=[fd, *self._descriptors()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # read here, whatever becomes of it: nothing in there waits for our own reader
            stderr=subprocess.STDOUT,
            bufsize=0,
        )

    # --- what it is told, and says --------------------------------------------

    def send(self, payload: bytes) -> None:
        """Something to write at the next flush."""
        self._unsent += (HEADER.pack(len(payload)), payload)

    def flush(self) -> None:
        """Write what was given, in one system call. To one that is gone, and may not be missed yet, nothing is told."""
        if self._unsent and self._transport is not None and not self.gone:
            self._transport.write(b"".join(self._unsent))
            self._unsent.clear()

    def data_received(self, data: bytes) -> None:
        """A first frame that says it is ready, then others."""
        try:
            for frame in self._received.feed(data):
                if self.ready:
                    self._said(frame)
                else:
                    self._begun(frame)
                    self._is_ready()
                if self.gone:
                    return
        except Exception as error:  # noqa: BLE001  whatever a workload wrote into the socket
            self.kill(f"what it says cannot be read: {error}")

    def _is_ready(self) -> None:
        self.ready = True
        self._unwatch()
        self._watch()
        self._started()

    def _started(self) -> None:
        """It is ready."""

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
        if not self.ready:
            self.kill(f"it was not ready within {limits.WORKER_START_S:g} s")
        elif (left_s := self._time_left_s()) is not None and left_s <= 0:
            self.kill(self._hung())
        else:
            self._watch()

    # --- its end --------------------------------------------------------------

    def hang_up(self) -> None:
        """Nothing more for it to do: it may say what it has to, and end by itself."""
        if self._transport is not None and not self.gone:
            self._transport.write_eof()

    def kill(self, cause: str) -> None:
        """End the process, and say that it was for that cause."""
        self._cause = self._cause or cause
        self.gone = True
        self.process.kill()
        if self._transport is not None:
            self._transport.abort()  # the socket does not hang up while a child of the workload's holds it too

    def connection_lost(self, _error: Exception | None) -> None:
        """The process ended, by itself or by us."""
        self.gone = True
        self._unwatch()
        self.process.kill()  # it closed its socket: whatever else it does, it is of no use any more
        asyncio.get_running_loop().call_later(LAST_WORDS_S, self._output.close)  # a child of the workload's may hold it
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
        self._ended(self._cause or ended)
