"""Sorts more than there is memory for, by keys: pieces of it, each sorted, go to temporary files, and are merged."""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterator
from typing import IO

import msgspec

from decoupled.core import upkeep_limits
from decoupled.core.frames import HEADER, frame

Entry = tuple[str, bytes]
"""A key, and what is kept of it."""


class Spool:
    """Filled once, then read once. Its files have no names, and go with it."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._bytes = 0
        self._files: list[IO[bytes]] = []

    def add(self, key: str, what: bytes) -> None:
        """One more. Raises OSError where there is no room on the disk, or too much of it all."""
        self._entries.append((key, what))
        self._bytes += len(key) + len(what) + upkeep_limits.SPOOL_ENTRY_BYTES
        if self._bytes > upkeep_limits.SPOOL_BYTES:
            self._write()

    def _write(self) -> None:
        if len(self._files) == upkeep_limits.SPOOL_FILES:
            raise OSError("there is more to sort than can be")
        file = tempfile.TemporaryFile(prefix="decoupled-")  # noqa: SIM115  it lives as long as the spool
        self._files.append(file)
        for entry in sorted(self._entries):
            file.write(frame(msgspec.msgpack.encode(entry)))
        self._entries, self._bytes = [], 0

    def sorted(self) -> Iterator[Entry]:
        """All of it, by keys."""
        return heapq.merge(sorted(self._entries), *map(_read, self._files))

    def close(self) -> None:
        """Let go of it."""
        for file in self._files:
            file.close()


def _read(file: IO[bytes]) -> Iterator[Entry]:
    file.seek(0)
    while header := file.read(HEADER.size):
        yield _entry.decode(file.read(HEADER.unpack(header)[0]))


_entry: msgspec.msgpack.Decoder[Entry] = msgspec.msgpack.Decoder(Entry)
