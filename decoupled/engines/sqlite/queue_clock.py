"""The clock that messages wait by: `visible_at` is told in its milliseconds. It is set once, when a server starts, and
then nobody can set it: whatever is done to the system's clock, a delay is as long as it was meant to be, and what has
none waits for nothing. Timestamps, which people read, are told by another one (`core/times.Clock`).

The file `clock` of the data directory says how it is set, so that the next server goes on with it, and the tools beside
the server know it. It holds until the machine boots again: then it is set by the system's clock, which may have been
set meanwhile, so that a server looks for delays longer than any can be (`messages.SqliteQueue.release_in_flight`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from decoupled.core.times import now_ms, steady_ms
from decoupled.engines.sqlite.data_directory import write_private
from decoupled.engines.sqlite.database import DataDirectoryError

FILE_NAME = "clock"
_SETTING = re.compile(r"(\S{1,64}) (-?[0-9]{1,14})\n")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_UNKNOWN = "unknown"


class QueueClock:
    """Milliseconds, about those since the epoch. Call it to read it."""

    def __init__(self, ahead_ms: int, steady_ms: Callable[[], int] = steady_ms) -> None:
        """`ahead_ms`: of the steady clock."""
        self.ahead_ms = ahead_ms
        self._steady_ms = steady_ms

    def __call__(self) -> int:
        return self._steady_ms() + self.ahead_ms

    @classmethod
    def of(cls, data: Path) -> QueueClock:
        """That of a data directory, for a tool; the system's, where no server has set it since the machine booted."""
        kept = _kept(data / FILE_NAME)
        return cls(now_ms() - steady_ms()) if kept is None else cls(kept)

    @classmethod
    def keep(cls, data: Path) -> QueueClock:
        """The same for the server, which sets it if need be. Raises DataDirectoryError."""
        if _boot() != _UNKNOWN and (kept := _kept(data / FILE_NAME)) is not None:
            return cls(kept)
        clock = cls(now_ms() - steady_ms())
        try:
            write_private(data / FILE_NAME, f"{_boot()} {clock.ahead_ms}\n")
        except OSError as error:
            raise DataDirectoryError(f"the data directory {data} cannot be written: {error.strerror}") from error
        return clock


def _kept(file: Path) -> int | None:
    try:
        setting = _SETTING.fullmatch(file.read_text()[:100])
    except (OSError, ValueError):
        return None  # not there, or not ours
    return int(setting[2]) if setting is not None and setting[1] == _boot() else None


def _boot() -> str:
    """Which start of the machine this is: until the next, the steady clock goes on."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return _UNKNOWN  # macOS: then a server sets its clock at each start
