"""The files of a server's data directory, while it has them open: the log is folded, and whether they are still its own
is looked at, about once a second. The end of a server that has lost them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from dataclasses import dataclass
from typing import NoReturn

from decoupled.core import limits
from decoupled.engines.protocols import StoreUnavailable
from decoupled.engines.sqlite.data_directory import Watch
from decoupled.engines.sqlite.wal import WriteAheadLog
from decoupled.server.health import Trouble
from decoupled.server.outlet import standard_error

log = logging.getLogger("decoupled.server")


@dataclass(frozen=True, slots=True)
class Files:
    """Those of the data directory, while the server has them open."""

    wal: WriteAheadLog
    watch: Watch

    def taken(self) -> Trouble | None:
        """They are not ours any more."""
        return None if self.watch.lost is None else Trouble(self.watch.lost, refuses=True)

    def long(self) -> Trouble | None:
        """The log grows."""
        why = self.wal.trouble()
        return None if why is None else Trouble(why, self.wal.refuses)

    def look_after(self, loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
        """About once a second, between transactions: also when nobody writes."""
        if self.watch.all() is not None:
            stop.set()
            return
        with contextlib.suppress(StoreUnavailable):  # who writes is told, and health says it
            self.wal.tend()
        loop.call_later(limits.FILES_LOOK_S, self.look_after, loop, stop)


def abandon(why: str) -> NoReturn:
    """End without closing the database: SQLite would delete the log of that name, which is somebody else's by now."""
    log.critical("the server ends: its files are not its own any more", extra={"error": why})
    standard_error.flush(limits.LOG_FLUSH_S)
    os._exit(1)
