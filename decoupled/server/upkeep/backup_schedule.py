"""Backups that a server makes by itself, again and again, and keeps some of. All of it in a thread of its own, since
the place may hang. When the next one is due, the last good one says: so a time at which the machine was off is made up
once, when a server starts. What it tells names no directory: it is for whoever asks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

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


class Plan(NamedTuple):
    """Where to, how often, and how many are kept."""

    place: Place
    to: Path
    every_s: float
    keep: int


class BackupSchedule:
    """A piece of the upkeep. `plan` None: it makes none. It may change while it goes on."""

    name = "backups"

    def __init__(
        self,
        plan: Plan | None,
        begin: Callable[[Path], Running | Told],
        clock_ms: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = plan
        self._begin = begin
        self._clock_ms = clock_ms
        self._monotonic = monotonic
        self._stopped = threading.Event()
        self._woken = threading.Event()  # the plan has changed, or it is stopped
        self._thread: threading.Thread | None = None
        self._began = monotonic()
        self._last: tuple[Path, Sealed] | None = None
        self._failure: str | None = None

    def start(self) -> None:
        if self._plan is None or self._thread is not None:
            return
        try:
            thread = threading.Thread(target=self._go, name="backup schedule", daemon=True)
            thread.start()
            self._thread = thread
        except RuntimeError as error:  # no threads left
            self._failed(str(error), self._plan)

    def change(self, plan: Plan | None) -> None:
        """By this one from now on; one that is being made comes to its end as it was begun."""
        if plan is None or self._plan is None or plan.to != self._plan.to:
            self._last = self._failure = None
        self._plan, self._began = plan, self._monotonic()
        self._woken.set()
        self.start()

    async def close(self) -> None:
        self._stopped.set()
        self._woken.set()

    def trouble(self) -> Trouble | None:
        """One failed, and none has succeeded since; or there is none for twice as long as there should be."""
        if (plan := self._plan) is None:
            return None
        if self._failure is not None:
            return Trouble(f"backups fail: {_nameless(self._failure, plan)}; {self._last_says()}")
        age_s, up_s = self._age_s(), self._monotonic() - self._began
        if min(up_s, up_s if age_s is None else age_s) > 2 * plan.every_s:
            return Trouble(f"a backup is overdue; {self._last_says()}")
        return None

    def told(self) -> Mapping[str, Any] | None:
        if (plan := self._plan) is None:
            return None
        last = self._last
        return {
            "last": None if last is None else last[0].name,
            "at": None if last is None else rfc3339(last[1].at),
            "failure": None if self._failure is None else _nameless(self._failure, plan),
            "says": self._last_says(),
        }

    def numbers(self) -> Mapping[str, float]:
        age_s = self._age_s()
        return {} if age_s is None else {"backup_age_seconds": age_s}

    def _age_s(self) -> float | None:
        return None if (last := self._last) is None else max(0.0, (self._clock_ms() - last[1].at) / 1000)

    def _last_says(self) -> str:
        if (last := self._last) is None:
            return "there is no good one yet"
        return f"the last good one is {last[0].name}, as of {rfc3339(last[1].at)}"

    # --- in the thread ----------------------------------------------------------

    def _go(self) -> None:
        while True:
            self._woken.clear()  # before it is asked what has changed
            plan = self._plan
            if self._stopped.is_set():
                return
            if plan is None:
                self._woken.wait()
                continue
            try:
                wait_s = self._round(plan)
            except Exception as error:  # the edge: this thread is the only one that would make the next
                if not isinstance(error, OSError):
                    log.exception("a backup met an internal error")
                wait_s = self._failed(f"{plan.to}: {getattr(error, 'strerror', None) or error}", plan)
            self._woken.wait(wait_s)

    def _round(self, plan: Plan) -> float:
        """Make one, if that is due. Returns after how many seconds to look again. Raises OSError."""
        if (last := self._note(plan)) is not None:
            age_s = (self._clock_ms() - last[1].at) / 1000
            if 0 <= age_s < plan.every_s:  # of the future: the clock was set back, and nobody knows when, but now
                return min(plan.every_s - age_s, upkeep_limits.BACKUP_DUE_LOOK_S)
        begun = self._begin(plan.to)
        if isinstance(begun, Told):  # somebody else's is being made
            return upkeep_limits.BACKUP_LOOK_S * 50
        while not (told := begun.told()).ended:
            if self._stopped.wait(upkeep_limits.BACKUP_LOOK_S):
                return 0.0
        if told.error is not None:
            return self._failed(told.error, plan)
        self._note(plan)
        for path in plan.place.rotate(plan.keep):
            log.info("an old backup was deleted", extra={"file": str(path)})
        if plan is self._plan:
            self._failure = None
        return 0.0

    def _note(self, plan: Plan) -> tuple[Path, Sealed] | None:
        """The last good one; remembered, if it is of the plan that counts. Raises OSError."""
        last = plan.place.last()
        if plan is self._plan:
            self._last = last
        return last

    def _failed(self, why: str, plan: Plan) -> float:
        if plan is self._plan:
            if why != self._failure:
                log.error("a backup failed; it is tried again", extra={"error": why})
            self._failure = why
        return min(upkeep_limits.BACKUP_RETRY_S, plan.every_s)


def _nameless(why: str, plan: Plan) -> str:
    """Without the place, since anybody may ask for /health; the log has it."""
    return why.replace(str(plan.to), "backup_dir")
