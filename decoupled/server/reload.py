"""Options that change while a server runs: SIGHUP has it read decoupled.toml again. Paces and limits are taken over at
once, and nothing that is in flight is given up for it. What is wrong is refused as a whole: then those of before
count."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Set
from pathlib import Path

from decoupled.server.health import Trouble
from decoupled.server.options import OPTIONS, Options
from decoupled.server.quotas import Quotas
from decoupled.server.scheduling.claims import Poller
from decoupled.server.upkeep.upkeep import Upkeep

log = logging.getLogger("decoupled.server")

TAKEN_OVER = frozenset(
    {"rate", "concurrency", "caller_rate", "caller_waiting", "log_level"}
    | {"record_ttl", "body_ttl", "backup_dir", "backup_every_s", "backup_keep"}
)


class Reload:
    """`options`: those that count now. `take` is told of others, and the fields of those that have changed."""

    def __init__(self, options: Options, read: Callable[[], Options]) -> None:
        """As they were read at the start. `read` does it again; raises ValueError that says what is wrong."""
        self.options = options
        self.take: Callable[[Options, Set[str]], None] = lambda _options, _changed: None
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
        may = TAKEN_OVER - (set() if counts is (said.caller_waiting is not None) else {"caller_waiting"})
        now = [it for it in OPTIONS if it.field in may and getattr(said, it.field) != getattr(self.options, it.field)]
        self._later = sorted(
            option.name
            for option in OPTIONS
            if option.field not in may and getattr(said, option.field) != getattr(self._said, option.field)
        )
        before = self.options
        if now:
            fields = {option.field: getattr(said, option.field) for option in now}
            self.options = dataclasses.replace(before, **fields)
            self.take(self.options, fields.keys())
        more = {
            "changed": [option.name for option in now],
            "changed_by_a_restart": self._later,
            "before": {option.name: _plain(getattr(before, option.field)) for option in now},
            "after": {option.name: _plain(getattr(said, option.field)) for option in now},
        }
        log.info("the options are read again", extra=more)

    def trouble(self) -> Trouble | None:
        """The file says something else than what counts."""
        whys = [] if self._why is None else [f"the options are not read again, and those of before count: {self._why}"]
        if self._later:
            whys.append(f"decoupled.toml says what counts after a restart only: {', '.join(self._later)}")
        return Trouble("; ".join(whys)) if whys else None


def _plain(value: object) -> object:
    """As the log has it."""
    return ", ".join(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value


def take_over(poller: Poller, quotas: Quotas, upkeep: Upkeep, options: Options, changed: Set[str]) -> None:
    """Process and accept by these options from now on, and do what else there is to do."""
    logging.getLogger().setLevel(options.log_level)
    for crew in poller.crews:
        crew.reorder(options)
    poller.groups.pace(options.rate, poller.concurrent.half(options.concurrency))
    quotas.limit(options.caller_rate, options.caller_waiting)
    upkeep.take(options, changed)
    poller.wake()
