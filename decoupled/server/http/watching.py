"""What the clients of this process wait for, by what it hangs on: whoever knows of ends is asked for each thing once,
however many wait for it, and all of them are told to look. What became of a message is in no word of it: the table says
that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from decoupled.core.workload import Message
from decoupled.server.door import Sender, Sent
from decoupled.server.watches import Topic

log = logging.getLogger("decoupled.gateway")


class Watcher(Sender, Protocol):
    """Who sends, and knows of ends: the link to the writer, or, within its process, the writer itself. Says what it
    knows to `Watching.watched` and `Watching.ended`, later."""

    def send_watched(self, message: Message, sent: Sent) -> None:
        """Send it, as Sender does, and watch it from before that on."""
        ...

    def watch(self, topic: Topic) -> None:
        """Say when it is watched."""
        ...

    def unwatch(self, topic: Topic) -> None:
        """Harmless where it is not watched."""
        ...


class Listener(Protocol):
    """Who waits."""

    def watched(self) -> None:
        """What ends from now on, it will hear of."""
        ...

    def ended(self) -> None:
        """Something has ended, or has changed its end. Of an id, it hears no more."""
        ...

    def refused(self, why: str) -> None:
        """It hears of nothing."""
        ...


@dataclass(slots=True)
class _Watched:
    listeners: dict[Listener, None] = field(default_factory=dict)  # in their order
    asked: bool = False  # the watcher was, to say when it is watched
    surely: bool = False  # it has said so


class Watching:
    """Of one process."""

    def __init__(self, watcher: Watcher, loop: asyncio.AbstractEventLoop) -> None:
        self.watcher = watcher
        self._loop = loop
        self._topics: dict[Topic, _Watched] = {}

    def listen(self, topic: Topic, listener: Listener) -> None:
        """Tell it when that is watched, and then of what ends."""
        found = self._topics.setdefault(topic, _Watched())
        found.listeners[listener] = None
        if found.surely:
            self._loop.call_soon(_tell, listener.watched)
        elif not found.asked:
            found.asked = True
            self.watcher.watch(topic)

    def send(self, message: Message, listener: Listener, sent: Sent) -> None:
        """Send it, and tell of its end, which may come before `sent` is called."""
        self._topics.setdefault(message.id, _Watched()).listeners[listener] = None
        self.watcher.send_watched(message, sent)

    def leave(self, topic: Topic, listener: Listener) -> None:
        """Tell it no more."""
        found = self._topics.get(topic)
        if found is not None:
            found.listeners.pop(listener, None)
            if found.listeners:
                return
            del self._topics[topic]
        self.watcher.unwatch(topic)

    # --- what the watcher says ------------------------------------------------

    def watched(self, topic: Topic, refused: str | None) -> None:
        """It is watched. Also those look that were told so before: between two watches of the same, it was not."""
        found = self._topics.get(topic)
        if found is None:
            self.watcher.unwatch(topic)  # nobody waits any more
            return
        found.surely = refused is None
        for listener in list(found.listeners):
            if refused is None:
                _tell(listener.watched)
            else:
                _tell(lambda listener=listener: listener.refused(refused))  # type: ignore[misc]
        if refused is not None:
            self._topics.pop(topic, None)

    def ended(self, topics: Sequence[Topic]) -> None:
        """They have."""
        for topic in topics:
            found = self._topics.get(topic)
            if found is None:
                continue
            if isinstance(topic, str):
                del self._topics[topic]
            for listener in list(found.listeners):
                _tell(listener.ended)


def _tell(hears: Callable[[], None]) -> None:
    try:
        hears()
    except Exception:  # one client's trouble must not keep the word from the others
        log.exception("a client could not be told of an end")
