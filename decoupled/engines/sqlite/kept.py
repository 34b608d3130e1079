"""What a server's retention asks of the file: see `sweep.py`, `removal.py` and `space.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from decoupled.core.retention import Found, Looked
from decoupled.engines.sqlite import removal, space
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.sweep import Sweep


class Kept:
    """By the connection that writes; it looks by another one."""

    def __init__(self, database: Database, sweep: Sweep) -> None:
        self._database = database
        self._sweep = sweep

    def look(self, now_ms: int, part: int) -> Looked:
        return self._sweep.look(now_ms, part)

    def looked_before(self, now_ms: int) -> int:
        return removal.looked_before(self._database, now_ms)

    def remove(self, found: Sequence[Found]) -> Counter[str]:
        return removal.remove(self._database, found)

    def remove_bodies(self, found: Sequence[Found]) -> int:
        return removal.remove_bodies(self._database, found)

    def shrink(self) -> int:
        return space.shrink(self._database)

    def close(self) -> None:
        self._sweep.close()
