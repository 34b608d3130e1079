"""How much the data's disk has left, so that people hear of it before it is full. A thread of its own looks now and
then, since a file system may hang."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from decoupled.core import upkeep_limits
from decoupled.core.limits import MIB
from decoupled.server.health import Trouble

log = logging.getLogger("decoupled.server")


class Room(NamedTuple):
    """Bytes of a disk; `free`: what this user may still write."""

    free: int
    all: int

    @property
    def is_low(self) -> bool:
        """Of a small disk, a part is enough."""
        return self.free < min(upkeep_limits.DISK_LOW_BYTES, self.all * upkeep_limits.DISK_LOW_PART)


def room_at(place: Path) -> Room:
    """Of the disk that it is on. Raises OSError."""
    found = os.statvfs(place)
    return Room(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


class Disk:
    """A piece of the upkeep."""

    name = "disk"

    def __init__(self, place: Path, look: Callable[[Path], Room] = room_at) -> None:
        self._place = place
        self._look = look
        self._stopped = threading.Event()
        self._room: Room | None = None
        self._why: str | None = None  # nobody knows
        self._look_at_it()  # where the file has just been opened: from the start on, there is a number

    def start(self) -> None:
        try:
            threading.Thread(target=self._go, name="disk", daemon=True).start()
        except RuntimeError as error:  # no threads left
            self._why = str(error)

    async def close(self) -> None:
        self._stopped.set()

    def trouble(self) -> Trouble | None:
        if self._why is not None:
            return Trouble(f"how much the disk has left is not known: {self._why}")
        if (room := self._room) is None or not room.is_low:
            return None
        return Trouble(
            f"the disk of the data has {room.free / MIB:,.0f} MiB left: once it is full, nothing is accepted"
        )

    def told(self) -> Mapping[str, Any] | None:
        """Nothing: how close it is, metrics say, for which not everybody may ask."""
        return None

    def numbers(self) -> Mapping[str, float]:
        return {} if (room := self._room) is None else {"disk_free_bytes": room.free}

    def _go(self) -> None:
        while not self._stopped.wait(upkeep_limits.DISK_LOOK_S):
            self._look_at_it()

    def _look_at_it(self) -> None:
        try:
            room = self._look(self._place)
        except OSError as error:
            self._room, self._why = None, error.strerror or str(error)
            return
        if room.is_low and not (self._room and self._room.is_low):
            log.error("the disk of the data is almost full", extra={"free_bytes": room.free})
        self._room, self._why = room, None
