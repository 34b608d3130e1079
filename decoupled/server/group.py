"""What one transaction of the group commit holds, and who waits for it: plain data, filled by `group_commit.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from decoupled.core import limits
from decoupled.core.outcomes import Delivery, NotSent, Together
from decoupled.core.workload import Message
from decoupled.server.door import Sent

Send = tuple[Sequence[Message], Sent]
Operation = tuple[Callable[[], Any], asyncio.Future[Any]]


@dataclass(slots=True)
class Group:
    """One transaction's."""

    sends: list[Send] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    results: list[tuple[Any, Exception | None]] = field(default_factory=list)  # of the operations
    claimed: list[Delivery] = field(default_factory=list)  # of the sends, handed out at once
    refused: dict[tuple[str, str], NotSent] = field(default_factory=dict)  # of the sends, by id and digest
    one_by_one: bool = False  # one of the sends meets damage: which?
    refuse_at: float | None = None  # when it has waited long enough for another process's lock

    def refuse(self, message: Message, why: NotSent) -> None:
        """A message that is not accepted, for a reason of its own."""
        self.refused[message.id, message.digest] = why

    def outcome(self, messages: Sequence[Message]) -> Together:
        """What came of messages that were sent together, when the rest of the group is on the disk."""
        if not self.refused:
            return None
        outcomes = [self.refused.get((message.id, message.digest)) for message in messages]
        return outcomes if any(outcomes) else None

    def cut(self) -> list[Send]:
        """Take out the sends that the loop could not wait for in one transaction. One is never divided."""
        size = 0
        for place, (messages, _) in enumerate(self.sends):
            for message in messages:
                size += len(message.body) + len(message.callback) + limits.REQUEST_BYTES
            if size > limits.MAX_TRANSACTION_BYTES and place:
                later, self.sends = self.sends[place:], self.sends[:place]
                return later
        return []
