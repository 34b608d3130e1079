"""What the page asks an engine for, beside DeadLetters of `engines/protocols.py`. Implemented in each
engine's `search.py`, `history.py` and `sources.py`."""

from __future__ import annotations

from typing import Protocol

from decoupled.core.overview import History, Look
from decoupled.core.search import Found, Sought, Story
from decoupled.engines.protocols import DeadLetters


class Search(Protocol):
    """Finds messages, for the people who ask what became of one. Bounded in time: a look that is cut short says so."""

    def find(self, sought: Sought) -> Found:
        """Those that are sought, newest first. Raises ValueError for what this engine cannot look for, with why."""
        ...

    def story(self, message_id: str) -> Story | None:
        """What is known of one; None if there is no such message."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Past(Protocol):
    """How a system did lately, for charts. Outlives the server."""

    def history(self, seconds: int) -> History:
        """The last so many seconds, an hour at most."""
        ...


class Sources(Protocol):
    """Where a handler finds all that. What is kept open is opened when it is first asked for, and used by one thread.
    Raises Unavailable, or ValueError that says what this system cannot be asked for."""

    def look(self) -> Look:
        """How all of it is doing now."""
        ...

    @property
    def search(self) -> Search:
        """Kept open."""
        ...

    @property
    def past(self) -> Past:
        """Kept open."""
        ...

    def dead_letters(self) -> DeadLetters:
        """For one request, which closes them: whoever changes some may own the data directory for as long."""
        ...

    def close(self) -> None:
        """Let go of all."""
        ...
