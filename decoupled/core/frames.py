"""Frames: what processes of one server say to each other, over a socket. A frame is its length, then MessagePack; what
is in it, the two ends say: `workers/protocol.py`, `fronts/protocol.py`. Pure."""

from __future__ import annotations

import struct

HEADER = struct.Struct("!I")
MAX_FRAME_BYTES = 2**32 - 1  # that a header can tell


def frame(payload: bytes) -> bytes:
    """The payload as it is sent."""
    return HEADER.pack(len(payload)) + payload


class Frames:
    """Of one stream: bytes in, payloads out, none over `most` bytes. What is whole in one piece is not copied."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._begun: list[bytes] = []  # pieces of a frame that is not whole
        self._begun_bytes = 0
        self._needed = 0  # bytes before another look at them is worth its while

    def feed(self, data: bytes) -> list[memoryview]:
        """The payloads that are whole now, in their order. Raises ValueError for one that is too long."""
        if self._begun:
            self._begun.append(data)
            self._begun_bytes += len(data)
            if self._begun_bytes < self._needed:
                return []
            data = b"".join(self._begun)
            self._begun.clear()
        found = []
        view, start, end = memoryview(data), 0, len(data)
        self._needed = HEADER.size
        while end - start >= HEADER.size:
            (size,) = HEADER.unpack_from(data, start)
            if size > self._most:
                raise ValueError(f"{size} bytes")
            self._needed = HEADER.size + size
            if end - start < self._needed:
                break
            found.append(view[start + HEADER.size : start + self._needed])
            start += self._needed
            self._needed = HEADER.size
        if start < end:
            self._begun.append(data[start:])
            self._begun_bytes = end - start
        return found
