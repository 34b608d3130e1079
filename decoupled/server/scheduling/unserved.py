"""Messages that nobody here takes: queued for a workload that this server does not serve. They wait for one that does,
which a person should know."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping

from decoupled.core import limits
from decoupled.core.workload import Workloads
from decoupled.engines.protocols import Feed, StoreUnavailable

LOOK_EVERY_S = 5.0  # at most, however often it is asked for

log = logging.getLogger("decoupled.unserved")


class Unserved:
    """Counts them, by workload. A count of MAX_QUEUED_COUNTED stands for that or more."""

    def __init__(self, queue: Feed, workloads: Workloads, clock: Callable[[], float]) -> None:
        self._queue = queue
        self._workloads = workloads
        self._clock = clock
        self._looked_at = -math.inf
        self._found: Mapping[str, int] = {}

    def look(self) -> Mapping[str, int]:
        """Returns how many messages wait for each workload that is not served, as of a few seconds ago."""
        if self._clock() - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = self._clock()
            try:
                queued = self._queue.queued(limits.MAX_QUEUED_COUNTED)
            except StoreUnavailable as error:  # health says what is wrong with it
                log.warning("what waits cannot be counted", extra={"error": str(error)})
                return self._found
            found = {name: count for name, count in queued.items() if name not in self._workloads}
            for name in found.keys() - self._found.keys():
                log.warning("queued, and not served here", extra={"workload": name, "messages": found[name]})
            self._found = found
        return self._found
