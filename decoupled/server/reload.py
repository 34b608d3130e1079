"""Options that change while a server runs: SIGHUP has it read decoupled.toml again. Paces and limits are taken over at
once, and nothing that is in flight is given up for it. What is wrong is refused as a whole: then those of before
count."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

from decoupled.server.health import Trouble
from decoupled.server.options import OPTIONS, Options
from decoupled.server.quotas import Quotas
from decoupled.server.scheduling.claims import Poller

log = logging.getLogger("decoupled.server")

TAKEN_OVER = ("rate", "concurrency", "caller_rate", "caller_waiting", "log_level")


class Reload:
    """`options`: those that count now. `take` is told of others."""

    def __init__(self, options: Options, read: Callable[[], Options]) -> None:
        """As they were read at the start. `read` does it again; raises ValueError that says what is wrong."""
        self.options = options
        self.take: Callable[[Options], None] = lambda _: None
        self._said = options
        self._read = read
        self._why: str | None = None  # those of the file do not count
        self._later: list[str] = []  # what a new start would change

    def __call__(self) -> None:
        """Read them again."""
        try:
            said = self._read()
        except ValueError as error:
            self._why = str(error)
            log.error("the options are not read again; those of before count", extra={"error": self._why})  # noqa: TRY400
            return
        self._why = None
        counts = self.options.caller_waiting is not None  # what waits is counted from the start, or not at all
        may = [name for name in TAKEN_OVER if name != "caller_waiting" or counts is (said.caller_waiting is not None)]
        now = [name for name in may if getattr(said, name) != getattr(self.options, name)]
        self._later = sorted(
            option.name
            for option in OPTIONS
            if option.field not in may and getattr(said, option.field) != getattr(self._said, option.field)
        )
        if now:
            self.options = dataclasses.replace(self.options, **{name: getattr(said, name) for name in now})
            self.take(self.options)
        log.info("the options are read again", extra={"changed": now, "changed_by_a_restart": self._later})

    def trouble(self) -> Trouble | None:
        """The file says something else than what counts."""
        whys = [] if self._why is None else [f"the options are not read again, and those of before count: {self._why}"]
        if self._later:
            whys.append(f"decoupled.toml says what counts after a restart only: {', '.join(self._later)}")
        return Trouble("; ".join(whys)) if whys else None


def take_over(poller: Poller, quotas: Quotas, options: Options) -> None:
    """Process and accept by these options from now on."""
    logging.getLogger().setLevel(options.log_level)
    for crew in poller.crews:
        crew.reorder(options)
    poller.groups.pace(options.rate, poller.concurrent.half(options.concurrency))
    quotas.limit(options.caller_rate, options.caller_waiting)
    poller.wake()
