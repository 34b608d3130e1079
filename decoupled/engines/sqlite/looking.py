"""Looks at a large table that end in time: part by part, each a statement of its own, so that no look holds the log
back; what the time is not enough for is gone on with from where the last whole part ended.

    newest ─▶ [part][part][par· the time is up: this part is undone, and the position is that of its beginning
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from decoupled.core import limits
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.driver import sqlite3

Position = tuple[int, ...]
Values = tuple[Any, ...]


class Late(Exception):  # noqa: N818  neither an error nor a fault
    """The time was up in the middle of a statement."""


@dataclass(frozen=True, slots=True)
class Order:
    """A way through the messages: by which index, through which of them, by which columns, and in which direction."""

    index: str
    which: str
    columns: tuple[str, ...]
    down: bool

    @property
    def by(self) -> str:
        """ORDER BY this."""
        return ", ".join(f"{column} {'DESC' if self.down else 'ASC'}" for column in self.columns)

    def compared(self, *, to: str) -> str:
        """That a message stands beyond a position, or not beyond it: `>` or `<=`, as if the way led upwards."""
        names, marks = ", ".join(self.columns), ", ".join("?" * len(self.columns))
        return f"({names}) {to.translate(_TURNED) if self.down else to} ({marks})"


_TURNED = str.maketrans("<>", "><")

NEWEST_FIRST = Order("NOT INDEXED", "TRUE", ("seq",), down=True)
DEAD = Order("INDEXED BY messages_dead", "status = 'dead'", ("finished_at", "seq"), down=False)
DEAD_NEWEST_FIRST = Order("INDEXED BY messages_dead", "status = 'dead'", ("finished_at", "seq"), down=True)
REJECTED_NEWEST_FIRST = Order("INDEXED BY messages_rejected", "status = 'rejected'", ("finished_at", "seq"), down=True)


class Look:
    """One look, of so many seconds. Its first part may take longer, so that a slow disk does not keep it from getting
    anywhere."""

    def __init__(
        self, database: Database, seconds: float = limits.LOOK_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._clock = clock
        self._until = clock() + seconds * limits.LOOK_FIRST_FACTOR
        self._until_others = clock() + seconds
        self.seen = 0  # parts that were looked at whole

    @property
    def over(self) -> bool:
        """Whether its time is up, and something was seen."""
        return self.seen > 0 and self._clock() > self._until_others

    def rows(self, statement: str, values: Sequence[Any]) -> list[Values]:
        """All that it answers. Raises Late when that takes too long."""
        connection = self._database.connection
        connection.set_progress_handler(self._late, limits.LOOK_STEPS)
        try:
            with self._database.refusals:
                try:
                    return connection.execute(statement, values).fetchall()
                except sqlite3.OperationalError as error:
                    if str(error) == "interrupted":
                        raise Late from error
                    raise
        finally:
            connection.set_progress_handler(None, 0)

    def _late(self) -> bool:
        return self._clock() > (self._until_others if self.seen else self._until)

    def parts(self, order: Order, after: Position | None) -> Iterator[tuple[str, Values, Position | None]]:
        """The way from a position on, part by part: the condition of its rows with its values, and where it ends, which
        is None for the last. Whoever asks for the next one has seen this one. Ends when the time is up; raises Late."""
        size = limits.LOOK_FIRST_ROWS
        while not self.over:
            where, values = (order.which, Values()) if after is None else (_beyond(order), Values(after))
            ends = self.rows(
                f"""
                SELECT {", ".join(order.columns)} FROM messages {order.index} WHERE {where}
                ORDER BY {order.by} LIMIT 1 OFFSET ?
                """,  # noqa: S608  all of it is constant
                (*values, size - 1),
            )
            if not ends:
                yield where, values, None
                return
            yield f"{where} AND {order.compared(to='<=')}", (*values, *ends[0]), ends[0]
            self.seen += 1
            after, size = ends[0], min(2 * size, limits.LOOK_MOST_ROWS)


def _beyond(order: Order) -> str:
    return f"{order.which} AND {order.compared(to='>')}"


def mentions(database: Database, column: str, text: str) -> tuple[str, str]:
    """The condition that a column has a text in it, in either case, and its value."""
    if text.isascii():
        escaped = re.sub(r"([\\%_])", r"\\\1", text)
        return f"{column} LIKE ? ESCAPE '\\'", f"%{escaped}%"  # SQLite's own, which knows the cases of ASCII
    database.connection.create_function("mentions", 2, _mentions, deterministic=True)
    return f"mentions({column}, ?)", text.casefold()


def _mentions(value: str | None, folded: str) -> bool:
    return value is not None and folded in value.casefold()
