"""An outage of the table, on request: how `decoupled spike --outage` shows what a sick backend does, and what it does
not do, to a server under load. Only who may write into the data directory can ask for one, and it ends by itself."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable
from pathlib import Path

from decoupled.core import limits
from decoupled.engines.sqlite.data_directory import write_private
from decoupled.engines.sqlite.queue_clock import QueueClock

FILE_NAME = "outage"
LOOK_EVERY_S = 0.05


class Outage:
    """The `outage` of a SqliteTable: why it is to be taken for unavailable, or None.

    Reads the file `outage` of a data directory, which holds the time of the end, by the queue's clock. An end that is
    further away than an outage may last is nobody's."""

    def __init__(
        self, data: Path, clock_ms: Callable[[], int], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._file = data / FILE_NAME
        self._clock_ms = clock_ms
        self._monotonic = monotonic
        self._look_at = 0.0
        self._until_ms = 0

    def __call__(self) -> str | None:
        if (now := self._monotonic()) >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            self._until_ms = self._read()
        if self._until_ms and 0 < self._until_ms - self._clock_ms() <= limits.MAX_OUTAGE_S * 1000:
            return "an outage is simulated"
        return None

    def _read(self) -> int:
        try:
            if not stat.S_ISREG(self._file.stat().st_mode):
                return 0  # a pipe, say: whoever opens that waits for somebody to write
            with self._file.open("rb") as file:
                text = file.read(20).strip()
        except FileNotFoundError:
            return 0
        except OSError:  # no file can be opened, say: that is no fault of the messages that are settled now
            return self._until_ms
        return int(text) if text.isdigit() else 0  # being written, or not ours


def begin(data: Path, seconds: float) -> None:
    """Take the table away from the server of this data directory, for that long from now."""
    until_ms = QueueClock.of(data)() + int(min(seconds, limits.MAX_OUTAGE_S) * 1000)
    write_private(data / FILE_NAME, f"{until_ms}\n")


def end(data: Path) -> None:
    """Give it back."""
    (data / FILE_NAME).unlink(missing_ok=True)
