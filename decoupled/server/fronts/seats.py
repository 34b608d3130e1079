"""Which front takes a new client: the one that has fewest. All of them listen on one socket, so that none takes waiting
clients along when it ends; and how many clients each has, stands in memory that they share."""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from typing import IO

SEATS = 256  # more than there are fronts, also while each is being replaced
EMPTY = 2**32 - 1
LEAVING = EMPTY - 1  # a front that lets nobody in any more
AHEAD = 16  # clients more than another front has, from which on that one goes first


class Seats:
    """Of all fronts of a server: a number of 32 bits each."""

    def __init__(self, fd: int) -> None:
        """Of a file that `make` has made."""
        self._memory = mmap.mmap(fd, SEATS * 4)
        self._clients = memoryview(self._memory).cast("I")

    @classmethod
    def make(cls) -> tuple[Seats, IO[bytes]]:
        """For the process that starts fronts, with the file that it hands to each. Raises OSError."""
        file = _memory()
        file.truncate(SEATS * 4)
        seats = cls(file.fileno())
        for seat in range(SEATS):
            seats.vacate(seat)
        return seats, file

    def take(self) -> int:
        """A seat that is nobody's. Raises OSError when there is none."""
        for seat, clients in enumerate(self._clients):
            if clients == EMPTY:
                self._clients[seat] = 0
                return seat
        raise OSError("too many fronts are still ending")

    def vacate(self, seat: int) -> None:
        """It is nobody's any more."""
        self._clients[seat] = EMPTY

    def count(self, seat: int, clients: int) -> None:
        """That many has the front on this seat."""
        self._clients[seat] = clients

    def is_ahead(self, seat: int) -> bool:
        """Whether another front should take the next clients."""
        return self._clients[seat] >= min(self._clients) + AHEAD


class Seat:
    """That of one front, as its listener knows it."""

    def __init__(self, seats: Seats, number: int) -> None:
        self._seats = seats
        self._number = number

    def count(self, clients: int) -> None:
        """So many are here."""
        self._seats.count(self._number, clients)

    def is_ahead(self) -> bool:
        """Whether another front should take the next ones."""
        return self._seats.is_ahead(self._number)

    def leave(self) -> None:
        """None come here any more; it is this front's until it has ended."""
        self._seats.count(self._number, LEAVING)


def _memory() -> IO[bytes]:
    """A file that stays open for fronts to come. Of no disk, where that can be had: to write into a page that a full
    one has no room for ends a process."""
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("seats"), "r+b")
    return tempfile.TemporaryFile()
