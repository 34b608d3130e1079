"""Where text leaves the server's process: a bounded queue, and a thread that writes. Whoever writes to a pipe that
nobody reads waits for ever, and that must not be anyone whom a client or a message waits for.

    log, worker, traceback ─ put ─▶ queue ─▶ thread ─▶ standard error
                                └ full: dropped and counted; a line says so as soon as one can be written
"""

from __future__ import annotations

import asyncio
import atexit
import io
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

from decoupled.core import limits
from decoupled.server import logs
from decoupled.server.health import Trouble

PIECE_BYTES = 64 * limits.KIB  # written at once: what a pipe holds
NOTICE_EVERY_S = 1.0  # about what was dropped, at most


class Outlet:
    """Of one file descriptor. `notice` makes the line that says how many lines were dropped."""

    def __init__(self, fd: int, notice: Callable[[int], str] = lambda _: "") -> None:
        self.dropped = 0  # lines, since the process began
        self._fd = fd
        self._notice = notice
        self._change = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._bytes = 0  # queued, or being written
        self._untold = 0  # dropped lines that no notice has told of
        self._notice_at = 0.0
        self._torn = False  # a line was begun and cannot be ended
        self._idle = True
        self._thread: threading.Thread | None = None

    def put(self, text: bytes) -> None:
        """Write it soon. Neither waits nor raises, whatever is the matter with the reader."""
        with self._change:
            if self._bytes + len(text) > limits.MAX_LOG_BACKLOG_BYTES:
                self._drop(text)
                return
            self._queue.append(text)
            self._bytes += len(text)
            if self._thread is None:
                self._start()
            elif self._idle:
                self._change.notify()

    def flush(self, within_s: float) -> bool:
        """Wait until all is written, but no longer than that; whether it is."""
        with self._change:
            return self._change.wait_for(lambda: self._idle and not self._queue, within_s)

    def trouble(self) -> Trouble | None:
        """Lines are being dropped."""
        if not self._untold:
            return None
        return Trouble(f"{self.dropped:,} lines of the log were dropped: whoever reads standard error does not keep up")

    def _drop(self, text: bytes) -> None:
        lines = text.count(b"\n")
        self.dropped += lines
        self._untold += lines

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=f"outlet {self._fd}", daemon=True)
        try:
            thread.start()
            self._thread = thread
        except RuntimeError:  # no threads left: the next line tries again
            pass

    # --- the thread -----------------------------------------------------------

    def _run(self) -> None:
        while True:
            piece = self._next()
            written = self._write(piece)
            with self._change:
                self._bytes -= len(piece)
                self._drop(piece[written:])  # if anything: the pipe is broken, or the disk is full
            if written == len(piece):
                self._tell()

    def _next(self) -> bytes:
        """What to write next; nothing, from time to time, while there is something to tell."""
        with self._change:
            self._idle = True
            while not self._queue:
                self._change.notify_all()  # those who flush
                if not self._change.wait(NOTICE_EVERY_S if self._untold else None):
                    break
            self._idle = False
            parts, size = [], 0
            while self._queue and size < PIECE_BYTES:
                parts.append(self._queue.popleft())
                size += len(parts[-1])
            return b"".join(parts)

    def _tell(self) -> None:
        told = self._untold
        if told and time.monotonic() >= self._notice_at:
            self._notice_at = time.monotonic() + NOTICE_EVERY_S
            line = self._notice(told).encode()
            if self._write(line) == len(line):
                with self._change:
                    self._untold -= told

    def _write(self, text: bytes) -> int:
        """How much of it could be written."""
        begun = 0
        if self._torn and text:
            text, begun = b"\n" + text, 1
        written = 0
        while written < len(text):
            try:
                written += os.write(self._fd, memoryview(text)[written:])
            except BlockingIOError:  # whoever started us wants it like that
                writable = select.poll()
                writable.register(self._fd, select.POLLOUT)
                writable.poll()
            except OSError:
                break
        if written:
            self._torn = text[written - 1 : written] != b"\n"
        return max(written - begun, 0)


class Text(io.TextIOBase):
    """Stands for sys.stderr: what is written there leaves by the outlet."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Soon."""
        self._outlet.put(text.encode(self.encoding, self.errors))
        return len(text)


class Relay(asyncio.Protocol):
    """What a worker, and whatever it starts, writes to its outputs: whole lines of it leave by the outlet."""

    def __init__(self) -> None:
        self._begun = b""

    def data_received(self, data: bytes) -> None:
        """Keep the line that is not whole yet, unless it is too long for one."""
        whole, newline, begun = (self._begun + data).rpartition(b"\n")
        if len(begun) > limits.MAX_LOG_LINE_BYTES:
            whole, newline, begun = whole + newline + begun, b"\n", b""
        self._begun = begun
        if newline:
            standard_error.put(whole + newline)

    def connection_lost(self, _error: Exception | None) -> None:
        """Nobody writes there any more."""
        if self._begun:
            standard_error.put(self._begun + b"\n")


standard_error = Outlet(2, logs.dropped_lines)
_standard_output = Outlet(1)


def announce(line: str) -> None:
    """To standard output."""
    _standard_output.put(f"{line}\n".encode(errors="backslashreplace"))


def install() -> None:
    """From now on nothing in this process writes to standard error by itself. What is queued when it ends is written,
    if that can be done in LOG_FLUSH_S."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:  # closed when we were started: no client may get its number
        os.set_inheritable(fd, True)
    os.close(fd)
    sys.stderr = Text(standard_error)
    atexit.register(standard_error.flush, limits.LOG_FLUSH_S)
