"""The record of what was done to a data directory, in order: what `disk.c` wrote down, and between it what clients were
told. Only what is before a 202 in the record can be what that 202 stands on."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

MAX_BYTES = 1 << 28  # of a record that is read into memory

_HEAD = struct.Struct("=Ii2Q2I")  # struct event of disk.c


class Kind(IntEnum):
    """What happened. The last two are what clients saw: a 202, and a record that was processed."""

    MADE = 1
    WROTE = 2
    CUT = 3
    SYNCED = 4
    REMOVED = 5
    RENAMED = 6
    ACCEPTED = 7
    PROCESSED = 8


@dataclass(frozen=True, slots=True)
class Event:
    """`name` is within the data directory, "." itself, ".." the one above. `error` is that of a sync which failed."""

    kind: Kind
    error: int
    inode: int
    offset: int
    name: str
    data: bytes

    @property
    def told(self) -> Any:
        """What clients were told: of ACCEPTED account and amount by id, of PROCESSED an id."""
        return json.loads(self.data)


class Record:
    """A file that servers and clients append to, each event in one write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def tell(self, kind: Kind, told: Any) -> None:
        """A client was just told this."""
        data = json.dumps(told).encode()
        whole = _HEAD.pack(kind, 0, 0, 0, 0, len(data)) + data
        assert os.write(self._file, whole) == len(whole), "the record has no space"

    def close(self) -> None:
        """No client is told anything any more."""
        os.close(self._file)


def events(path: Path) -> Iterator[Event]:
    """All of a record. One that ends within an event is refused: it was cut off."""
    assert path.stat().st_size <= MAX_BYTES, f"{path} is too long to be replayed"
    with path.open("rb") as file:
        while head := file.read(_HEAD.size):
            kind, error, inode, offset, name_bytes, data_bytes = _HEAD.unpack(head)
            rest = file.read(name_bytes + data_bytes)
            assert len(rest) == name_bytes + data_bytes, f"{path} breaks off"
            yield Event(Kind(kind), error, inode, offset, os.fsdecode(rest[:name_bytes]), rest[name_bytes:])
