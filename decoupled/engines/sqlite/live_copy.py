"""Copies the pages of a database's file while its owner goes on to write, without a lock and without a word to SQLite,
which begins a backup of its own anew whenever another connection writes.

    the file  ── page by page, from the first to the last ───────────▶ the copy
    the log   ── each checkpoint: what it has just put into the file ─▶ over it

A page that was copied before it changed is written once more, when the change is folded into the file; one that is
copied later has the change. So once all pages are copied, and the log is folded and taken a last time, the copy is what
the file is at that moment. This costs the owner one read of its log, from the kernel's memory, a checkpoint; all that
waits for a disk is in the copier's thread."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections import deque

from decoupled.core import limits, upkeep_limits
from decoupled.engines.sqlite.database import DataDirectoryError

_HEADER_BYTES = 100
_PAGES_AT = 28  # https://www.sqlite.org/fileformat2.html#the_database_header: how many pages there are
CHUNK_BYTES = limits.MIB


class BackupError(DataDirectoryError):
    """No backup was made, or none can be used, and why."""


class LiveCopy:
    """Implements Follower, in the thread of the file's owner; `run` is the copier's."""

    def __init__(self, target: int, page_bytes: int, cancelled: threading.Event) -> None:
        """`target`: descriptor of a new file."""
        self.bytes_done = 0
        self.bytes_in_all = 0
        self._target = target
        self._page_bytes = page_bytes
        self._frame = struct.Struct(f">II16x{page_bytes}s")  # https://www.sqlite.org/fileformat2.html#walformat
        self._cancelled = cancelled
        self._taken: deque[bytes] = deque()
        self._taken_bytes = 0
        self._taken_lock = threading.Lock()
        self._hurries = False
        self._whole = False
        self._why: str | None = None
        self._pages: int | None = None  # in the file, by the last transaction that was taken

    # --- the owner's thread -----------------------------------------------------

    def hurries(self) -> bool:
        return self._hurries

    def is_behind(self, log_bytes: int) -> bool:
        if self._taken_bytes < upkeep_limits.BACKUP_BEHIND_BYTES:
            return False
        if log_bytes > limits.WAL_LONG_BYTES:
            self.give_up("its place takes it more slowly than messages come")
        return self._why is None

    def take(self, frames: bytes, whole: bool) -> bool:
        with self._taken_lock:
            self._taken.append(frames)
            self._taken_bytes += len(frames)
        self._whole = self._hurries and whole
        return self._why is None and not self._whole

    def give_up(self, why: str) -> None:
        self._why = self._why or why

    # --- the copier's -----------------------------------------------------------

    def run(self, source: int) -> None:
        """`source`: what `WriteAheadLog.follow` has returned. Raises BackupError or OSError."""
        self.bytes_in_all = os.fstat(source).st_size
        while self.bytes_done < self.bytes_in_all:
            began = time.monotonic()
            self._copy_piece(source)
            os.fsync(self._target)
            took_s = time.monotonic() - began
            self._pause(max(took_s, upkeep_limits.BACKUP_PIECE_BYTES / upkeep_limits.BACKUP_BYTES_S - took_s))
        self._finish()
        os.ftruncate(self._target, self._count_pages() * self._page_bytes)

    def _copy_piece(self, source: int) -> None:
        until = self.bytes_done + upkeep_limits.BACKUP_PIECE_BYTES
        while self.bytes_done < until:
            self._apply()
            chunk = os.pread(source, CHUNK_BYTES, self.bytes_done)
            if not chunk:  # the end, or the file has become shorter
                self.bytes_done = self.bytes_in_all
                return
            _write(self._target, chunk, self.bytes_done)
            self.bytes_done += len(chunk)

    def _finish(self) -> None:
        """Everything that was accepted until now is in the copy, and a little more."""
        self._hurries = True
        until = time.monotonic() + upkeep_limits.BACKUP_FINISH_S
        while not self._whole:
            self._apply()
            self._pause(upkeep_limits.BACKUP_LOOK_S)
            if time.monotonic() > until:
                raise BackupError("the log was not folded whole in time: another process reads the database, or hangs")
        self._apply()

    def _pause(self, seconds: float) -> None:
        if self._cancelled.wait(seconds):
            raise BackupError("it was cancelled")
        if self._why is not None:
            raise BackupError(self._why)

    def _apply(self) -> None:
        """Write what was taken over what was copied: of each page what it was last."""
        while self._taken:
            frames = self._taken[0]
            last: dict[int, bytes] = {}
            for number, pages, page in self._frame.iter_unpack(frames):
                last[number] = page
                self._pages = pages or self._pages  # only the last one of a transaction says it
            for number in sorted(last):
                _write(self._target, last[number], (number - 1) * self._page_bytes)
            with self._taken_lock:
                self._taken.popleft()
                self._taken_bytes -= len(frames)

    def _count_pages(self) -> int:
        if self._pages is not None:
            return self._pages
        header = os.pread(self._target, _HEADER_BYTES, 0)
        return int.from_bytes(header[_PAGES_AT : _PAGES_AT + 4])


def _write(target: int, content: bytes, at: int) -> None:
    """All of it: a full disk may take a part."""
    view = memoryview(content)
    while view:
        written = os.pwrite(target, view, at)
        at += written
        view = view[written:]
