"""Where the page finds what it shows of a stack. Clients are made when they are first asked for; the stack's outputs
are read again now and then, since a deployment may change them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from decoupled.core import limits
from decoupled.core.overview import Look
from decoupled.core.workload import Unavailable
from decoupled.engines.aws.dead_letters import AwsDeadLetters
from decoupled.engines.aws.history import AwsPast
from decoupled.engines.aws.recent import AwsRecent
from decoupled.engines.aws.search import AwsSearch
from decoupled.engines.aws.stack import outputs
from decoupled.engines.aws.stats import AwsStats

RECENT_S = 600  # that CloudWatch's last number of a kind may be old


class AwsSources:
    """Implements Sources (dashboard/sources.py). Used by one thread."""

    def __init__(self, stack: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises ValueError or Unavailable."""
        self._stack = stack
        self._clock = clock
        self._outputs = outputs(stack)
        self._read_until = clock() + limits.OUTPUTS_KEPT_S
        self._stats: AwsStats | None = None
        self._recent: AwsRecent | None = None
        self._search: AwsSearch | None = None
        self._past: AwsPast | None = None

    def look(self) -> Look:
        found = self._found()
        if self._stats is None or self._recent is None:
            self._stats, self._recent = AwsStats(self._stack, dict(found)), AwsRecent(self._stack, found)
        return Look(
            system=f"stack {self._stack}",
            engine="aws",
            overview=self._stats.look(),
            health={"workloads": self._recent.workloads},
            recent=self._recent.counted(),
            charted=self._charted(),
            dead_lately=self._stats.dead_lately(),
            alarms=self._stats.alarms,
        )

    def _charted(self) -> dict[str, float]:
        """The last that is known of each; nothing while CloudWatch does not answer, which the look says already."""
        try:
            series = self.past.history(RECENT_S).series
        except Unavailable:
            return {}
        known = {name: [value for value in values if value is not None] for name, values in series.items()}
        return {name: values[-1] for name, values in known.items() if values}

    @property
    def search(self) -> AwsSearch:
        found = self._found()
        if self._search is None:
            self._search = AwsSearch.of_outputs(found)
        return self._search

    @property
    def past(self) -> AwsPast:
        found = self._found()
        if self._past is None:
            self._past = AwsPast.of_outputs(self._stack, found)
        return self._past

    def dead_letters(self) -> AwsDeadLetters:
        """For one request: a look hides what is on the dead-letter queue from others until it is closed."""
        return AwsDeadLetters.of_outputs(self._found())

    def _found(self) -> Mapping[str, str]:
        now = self._clock()
        if now >= self._read_until:
            found = outputs(self._stack)
            if found != self._outputs:
                self.close()
                self._outputs = found
            self._read_until = now + limits.OUTPUTS_KEPT_S
        return self._outputs

    def close(self) -> None:
        """Nothing is held; what is asked next is asked anew."""
        self._stats = self._recent = self._search = self._past = None
