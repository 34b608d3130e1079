"""Where the page finds what it shows of a stack. What is asked of it for the first time is found then."""

from __future__ import annotations

from functools import cached_property

from decoupled.core.overview import Look
from decoupled.core.workload import Unavailable
from decoupled.engines.aws.dead_letters import AwsDeadLetters
from decoupled.engines.aws.history import AwsPast
from decoupled.engines.aws.search import AwsSearch
from decoupled.engines.aws.stats import AwsStats

RECENT_S = 600  # that CloudWatch's last number of a kind may be old


class AwsSources:
    """Implements Sources. Used by one thread."""

    def __init__(self, stack: str) -> None:
        """Raises ValueError or Unavailable."""
        self._stack = stack
        self._stats = AwsStats.of_stack(stack)

    def look(self) -> Look:
        overview = self._stats.look()
        return Look(system=f"stack {self._stack}", engine="aws", overview=overview, charted=self._charted())

    def _charted(self) -> dict[str, float]:
        """The last that is known of each; nothing while CloudWatch does not answer, which the look says already."""
        try:
            series = self.past.history(RECENT_S).series
        except Unavailable:
            return {}
        known = {name: [value for value in values if value is not None] for name, values in series.items()}
        return {name: values[-1] for name, values in known.items() if values}

    @cached_property
    def search(self) -> AwsSearch:
        return AwsSearch.of_stack(self._stack)

    @cached_property
    def past(self) -> AwsPast:
        return AwsPast.of_stack(self._stack)

    def dead_letters(self) -> AwsDeadLetters:
        return AwsDeadLetters.of_stack(self._stack)

    def close(self) -> None:
        self._stats.close()
