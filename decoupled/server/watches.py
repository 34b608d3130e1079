"""Who hears of ends, in the writer's process: what fronts watch, and that they are told when it has come to an end.
Looks at nothing while nobody watches.

    a front watches ─▶ told that it is watched ─▶ looks at the record itself: what ends from now on, it will hear of
    messages end, and that is on the disk ─▶ told their ids, and whose they are
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

from decoupled.core import limits
from decoupled.core.workload import Message
from decoupled.engines.protocols import Ends

Whose = tuple[str, str]
"""A workload, and a caller."""

Topic = str | Whose
"""What is watched: a message by its id, until it has ended; or all of a workload and caller, as long as one likes."""

Run = Callable[[Callable[[], Whose | None]], "asyncio.Future[Whose | None]"]
"""Has something done in a transaction, and says when that is on the disk."""


class Watcher(Protocol):
    """A front, as it is known here."""

    def watched(self, topic: Topic, refused: str | None) -> None:
        """From now on it is; or why it is not."""
        ...

    def ended(self, topics: Sequence[Topic]) -> None:
        """Something of these has ended, or has changed its end."""
        ...


class Watches:
    """Of one server."""

    def __init__(self, ends: Ends, run: Run) -> None:
        self.ends = ends
        self._run = run
        self._watchers: dict[Topic, set[Watcher]] = {}
        self._topics: dict[Watcher, set[Topic]] = {}

    def __bool__(self) -> bool:
        """Whether anybody watches."""
        return bool(self._watchers)

    # --- what is watched ------------------------------------------------------

    def expect(self, topic: Topic, watcher: Watcher) -> None:
        """Watch what is about to be sent: who sends it hears of that, and needs no other word. Raises ValueError for a
        watcher's topics beyond all clients that there can be."""
        topics = self._topics.setdefault(watcher, set())
        if len(topics) >= limits.MAX_CLIENTS:
            raise ValueError("it watches too much")
        topics.add(topic)
        self._watchers.setdefault(topic, set()).add(watcher)

    def watch(self, topic: Topic, watcher: Watcher) -> None:
        """As `expect`, and say when it is watched. What a caller's messages come to gets positions from then on."""
        self.expect(topic, watcher)
        if isinstance(topic, str):
            watcher.watched(topic, None)
            return
        followed = self._run(partial(self.ends.follow, *topic, self._watchers))
        followed.add_done_callback(partial(self._followed, topic, watcher))

    def _followed(self, topic: Whose, watcher: Watcher, done: asyncio.Future[Whose | None]) -> None:
        if (error := done.exception()) is None:
            self.ends.followed.add(topic)
            if (given_up := done.result()) is not None:
                self.ends.followed.discard(given_up)
        watcher.watched(topic, None if error is None else str(error))

    def unwatch(self, topic: Topic, watcher: Watcher) -> None:
        """Harmless if it is not watched."""
        if topic in (topics := self._topics.get(watcher, set())):
            topics.discard(topic)
            self._forget(topic, watcher)

    def leave(self, watcher: Watcher) -> None:
        """It watches nothing any more."""
        for topic in self._topics.pop(watcher, ()):
            self._forget(topic, watcher)

    def _forget(self, topic: Topic, watcher: Watcher) -> None:
        watchers = self._watchers[topic]
        watchers.discard(watcher)
        if not watchers:
            del self._watchers[topic]

    # --- what ends ------------------------------------------------------------

    def mark(self, messages: Iterable[Message]) -> None:
        """In the transaction in which they may have ended."""
        followed = self.ends.followed
        if followed and (some := [m.id for m in messages if (m.workload, m.caller) in followed]):
            self.ends.mark(some)

    def tell(self, messages: Iterable[Message]) -> None:
        """They may have ended, and that is on the disk."""
        if self._watchers:
            self.tell_of((m.id, m.workload, m.caller) for m in messages)

    def tell_of(self, ended: Iterable[tuple[str, str, str]]) -> None:
        """The same of what is known by its id, workload and caller."""
        told: dict[Watcher, dict[Topic, None]] = {}
        for message_id, *whose in ended:
            for watcher in self._watchers.pop(message_id, ()):
                self._topics[watcher].discard(message_id)
                told.setdefault(watcher, {})[message_id] = None
            topic = (whose[0], whose[1])
            for watcher in self._watchers.get(topic, ()):
                told.setdefault(watcher, {})[topic] = None
        for watcher, topics in told.items():
            watcher.ended(list(topics))
