"""Backups that a server makes: those that a tool asks for, or the schedule. One at a time, each in a thread of its own,
so that a place that hangs holds up nobody."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from decoupled.core import upkeep_limits
from decoupled.core.backups import Begin, Step, Told
from decoupled.server.health import Trouble

log = logging.getLogger("decoupled.backups")

_begin = msgspec.msgpack.Decoder(Begin)


class Running(Protocol):
    """A backup that is being made."""

    def run(self) -> None:
        """All of it; does not raise."""
        ...

    def told(self) -> Told:
        """How it goes; in any thread."""
        ...

    def cancel(self) -> None:
        """Give it up."""
        ...


class Backups:
    """A piece of the upkeep."""

    name = "backup"

    def __init__(self, make: Callable[[Path], Running]) -> None:
        self._make = make
        self._closing = False
        self._last: Running | None = None
        self._one_at_a_time = threading.Lock()

    def start(self) -> None:
        pass

    async def close(self) -> None:
        self._closing = True
        if (last := self._last) is None:
            return
        last.cancel()
        loop = asyncio.get_running_loop()
        until = loop.time() + upkeep_limits.BACKUP_LEAVE_S
        while not last.told().ended and loop.time() < until:
            await asyncio.sleep(upkeep_limits.BACKUP_LOOK_S)

    def trouble(self) -> Trouble | None:
        return None

    def told(self) -> Mapping[str, Any] | None:
        if self._last is None or (told := self._last.told()).ended:
            return None
        told = msgspec.structs.replace(told, to=Path(told.to).name)  # anybody may ask for /health
        return {"running": told.to, "says": told.says()}

    def numbers(self) -> Mapping[str, float]:
        return {}

    # --- what tools ask for -----------------------------------------------------

    def begin(self, given: msgspec.Raw) -> Told:
        """Begin one. Whatever is wrong with its place, it says later; it waits for nothing."""
        to = Path(_begin.decode(given).to)
        try:
            begun = self.begin_at(to)
        except RuntimeError as error:
            return _refused(to, str(error))
        return begun if isinstance(begun, Told) else begun.told()

    def begin_at(self, to: Path) -> Running | Told:
        """The same, in any thread; or why not. Raises RuntimeError where no thread is left for it."""
        with self._one_at_a_time:
            if self._closing:
                return _refused(to, "the server ends")
            if self._last is not None and not (told := self._last.told()).ended:
                return _refused(to, f"{told.says()}; one is made at a time")
            running = self._make(to)
            threading.Thread(target=self._run, args=(running,), name="backup", daemon=True).start()
            self._last = running
        return running

    def look(self, given: msgspec.Raw) -> Told:
        """How it goes, or went, with the one to that place."""
        to = _begin.decode(given).to
        if self._last is None or not _is_of(told := self._last.told(), to):
            return _refused(Path(to), "the server knows nothing of it any more")
        return told

    def cancel(self, given: msgspec.Raw) -> Told:
        """Give it up."""
        told = self.look(given)
        if self._last is not None and not told.ended:
            self._last.cancel()
        return told

    def _run(self, running: Running) -> None:
        running.run()
        told = running.told()
        if told.sealed is not None:
            log.info("a backup was made", extra={"to": told.to, "bytes": told.sealed.size})
        else:
            log.warning("a backup was not made", extra={"to": told.to, "error": told.error})


def _is_of(told: Told, to: str) -> bool:
    """A directory was asked for, and what has its name in it."""
    return told.to == to or str(Path(told.to).parent) == to.rstrip("/")


def _refused(to: Path, why: str) -> Told:
    return Told(str(to), Step("refused", 0, 0), error=why)
