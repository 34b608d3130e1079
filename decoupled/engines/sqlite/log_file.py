"""The file of SQLite's write-ahead log, as bytes: which log it is, and how far it goes. Reads only, without a word to
SQLite, which puts no locks on this file: https://www.sqlite.org/fileformat2.html#the_write_ahead_log"""

from __future__ import annotations

import os
from pathlib import Path

from decoupled.core.replicas import Place

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
_PAGE_BYTES_AT = 8
_SALTS_OF_LOG, _SALTS_OF_FRAME, _SALTS_BYTES = 16, 8, 8


def salts(file: int) -> bytes:
    """By which a log differs from the one before it, which is written over from the file's start. Raises OSError."""
    return os.pread(file, _SALTS_BYTES, _SALTS_OF_LOG)


def has_frame(file: int, at: int) -> bool:
    """Whether what is there belongs to this log, and not to an earlier one. Raises OSError."""
    found = os.pread(file, _SALTS_BYTES, at + _SALTS_OF_FRAME)
    return len(found) == _SALTS_BYTES and found == salts(file)


def end(file: int, frame_bytes: int) -> int:
    """Where the log ends in its file, which an earlier one may have made longer: a few reads. What a transaction has
    written that was undone counts until it is written over. Raises OSError."""
    first, last = 0, max(0, os.fstat(file).st_size - HEADER_BYTES) // frame_bytes  # frames
    while first < last:
        middle = (first + last) // 2
        if has_frame(file, HEADER_BYTES + middle * frame_bytes):
            first = middle + 1
        else:
            last = middle
    return HEADER_BYTES + first * frame_bytes


def place(database: Path) -> Place:
    """Where the log of a database ends, beside whoever writes it. Raises OSError."""
    file = os.open(f"{database}-wal", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return whole(file)
    finally:
        os.close(file)


def whole(file: int) -> Place:
    """The end of what is in it. Raises OSError."""
    head = os.pread(file, HEADER_BYTES, 0)
    if len(head) < HEADER_BYTES:  # none has been begun
        return Place(b"", HEADER_BYTES)
    page_bytes = int.from_bytes(head[_PAGE_BYTES_AT : _PAGE_BYTES_AT + 4])
    return Place(head[_SALTS_OF_LOG : _SALTS_OF_LOG + _SALTS_BYTES], end(file, FRAME_HEADER_BYTES + page_bytes))
