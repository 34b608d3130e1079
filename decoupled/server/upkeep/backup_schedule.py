"""Backups that a server makes by itself, again and again, and keeps some of. All of it in a thread of its own, since
the place may hang. When the next one is due, the last good one says: so a time at which the machine was off is made up
once, when a server starts."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from decoupled.core import upkeep_limits
from decoupled.core.backups import Sealed, Told
from decoupled.core.times import rfc3339
from decoupled.server.health import Trouble
from decoupled.server.upkeep.backups import Running

log = logging.getLogger("decoupled.backups")


class Place(Protocol):
    """Where they are kept."""

    def last(self) -> tuple[Path, Sealed] | None:
        """The newest good one. Raises OSError."""
        ...

    def rotate(self, keep: int) -> list[Path]:
        """Delete those that are too many. Raises OSError."""
        ...


class BackupSchedule:
    """A piece of the upkeep."""

    name = "backups"

    def __init__(
        self,
        place: Place,
        to: Path,
        every_s: float,
        keep: int,
        begin: Callable[[Path], Running | Told],
        clock_ms: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = place
        self._to = to
        self._every_s = every_s
        self._keep = keep
        self._begin = begin
        self._clock_ms = clock_ms
        self._monotonic = monotonic
        self._stopped = threading.Event()
        self._began = monotonic()
        self._last: tuple[Path, Sealed] | None = None
        self._failure: str | None = None

    def start(self) -> None:
        try:
            threading.Thread(target=self._go, name="backup schedule", daemon=True).start()
        except RuntimeError as error:  # no threads left
            self._failed(str(error))

    async def close(self) -> None:
        self._stopped.set()

    def trouble(self) -> Trouble | None:
        """One failed, and none has succeeded since; or there is none for twice as long as there should be."""
        if self._failure is not None:
            return Trouble(f"backups fail: {self._failure}; {self._last_says()}")
        age_s, up_s = self._age_s(), self._monotonic() - self._began
        if min(up_s, up_s if age_s is None else age_s) > 2 * self._every_s:
            return Trouble(f"a backup is overdue in {self._to}; {self._last_says()}")
        return None

    def told(self) -> Mapping[str, Any] | None:
        last = self._last
        return {
            "directory": str(self._to),
            "last": None if last is None else str(last[0]),
            "at": None if last is None else rfc3339(last[1].at),
            "failure": self._failure,
            "says": self._last_says(),
        }

    def numbers(self) -> Mapping[str, float]:
        age_s = self._age_s()
        return {} if age_s is None else {"backup_age_seconds": age_s}

    def _age_s(self) -> float | None:
        return None if self._last is None else max(0.0, (self._clock_ms() - self._last[1].at) / 1000)

    def _last_says(self) -> str:
        if (last := self._last) is None:
            return f"there is no good one in {self._to} yet"
        return f"the last good one is {last[0]}, as of {rfc3339(last[1].at)}"

    # --- in the thread ----------------------------------------------------------

    def _go(self) -> None:
        wait_s = 0.0
        while not self._stopped.wait(wait_s):
            try:
                wait_s = self._round()
            except Exception as error:  # the edge: this thread is the only one that would make the next
                if not isinstance(error, OSError):
                    log.exception("a backup met an internal error")
                wait_s = self._failed(f"{self._to}: {getattr(error, 'strerror', None) or error}")

    def _round(self) -> float:
        """Make one, if that is due. Returns after how many seconds to look again. Raises OSError."""
        self._last = self._place.last()
        age_s = self._age_s()
        if age_s is not None and age_s < self._every_s and not self._is_of_the_future():
            return min(self._every_s - age_s, upkeep_limits.BACKUP_DUE_LOOK_S)
        begun = self._begin(self._to)
        if isinstance(begun, Told):  # somebody else's is being made
            return upkeep_limits.BACKUP_LOOK_S * 50
        while not (told := begun.told()).ended:
            if self._stopped.wait(upkeep_limits.BACKUP_LOOK_S):
                return 0.0
        if told.error is not None:
            return self._failed(told.error)
        self._last = self._place.last()
        for path in self._place.rotate(self._keep):
            log.info("an old backup was deleted", extra={"file": str(path)})
        self._failure = None
        return 0.0

    def _is_of_the_future(self) -> bool:
        """The clock was set back: then nobody knows when the next is due, but now."""
        return self._last is not None and self._last[1].at > self._clock_ms()

    def _failed(self, why: str) -> float:
        if why != self._failure:
            log.error("a backup failed; it is tried again", extra={"error": why})
        self._failure = why
        return min(upkeep_limits.BACKUP_RETRY_S, self._every_s)
