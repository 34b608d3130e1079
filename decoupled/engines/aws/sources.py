"""Where the page finds what it shows of a stack."""

from __future__ import annotations

from typing import Any

from decoupled.core.overview import Look
from decoupled.engines.aws.dead_letters import AwsDeadLetters
from decoupled.engines.aws.stats import AwsStats


class AwsSources:
    """Implements Sources. Used by one thread."""

    def __init__(self, stack: str) -> None:
        """Raises ValueError or Unavailable."""
        self._stack = stack
        self._stats = AwsStats.of_stack(stack)

    def look(self) -> Look:
        return Look(system=f"stack {self._stack}", engine="aws", overview=self._stats.look())

    @property
    def search(self) -> Any:
        raise ValueError("Messages of a stack cannot be found yet.")

    @property
    def past(self) -> Any:
        raise ValueError("There is no history of a stack yet.")

    def dead_letters(self) -> AwsDeadLetters:
        return AwsDeadLetters.of_stack(self._stack)

    def close(self) -> None:
        self._stats.close()
