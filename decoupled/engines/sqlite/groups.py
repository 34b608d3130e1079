"""Which waiting messages are handed out next: group after group, each workload's from where its last claim left off, so
that a group waits for at most one round of the others, however much these have queued. Looks at one entry of the index
for each group, and not at its messages: with a million of them, and with ten thousand groups, a look costs the same."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from decoupled.core import limits
from decoupled.engines.protocols import Share
from decoupled.engines.sqlite import ordered
from decoupled.engines.sqlite.database import Database

SEVERAL = 256  # groups that are asked for at once
TURN = 10  # messages of a group in its turn, where many are claimed: each group's lie on pages of their own,
FEW = 8  # but no fewer groups than this have a turn, while there is room for so many

# A loose index scan, one step for each group, from `start` on; after the last one it ends with a NULL.
_VISIBLE = """
WITH RECURSIVE groups (name, looked) AS (
    SELECT (SELECT message_group FROM messages WHERE status = 'queued' AND workload = :workload
            AND message_group >= :start ORDER BY message_group LIMIT 1), 1
    UNION ALL
    SELECT (SELECT message_group FROM messages WHERE status = 'queued' AND workload = :workload
            AND message_group > name ORDER BY message_group LIMIT 1), looked + 1
    FROM groups WHERE name IS NOT NULL AND looked < :most
)
SELECT name, looked FROM groups WHERE name IS NULL OR looked = :most OR EXISTS (
    SELECT 1 FROM messages
    WHERE status = 'queued' AND workload = :workload AND message_group = name AND visible_at <= :now
) LIMIT :several
"""


Chosen = tuple[int, int]
"""A row, and since when it has been visible."""


class Rounds:
    """Where each workload's round has come to."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._left_off: dict[str, str] = {}
        self._looks = 0  # that the round may still take
        self.chosen: list[Chosen] = []  # the last time

    def next(self, workload: str, maximum: int, now: int, share: Share) -> list[Chosen]:
        """The rows of up to `maximum` visible messages: each group's longest-waiting ones. What one group does not
        need, the others get that have their turn."""
        self.chosen = []
        if workload in self._database.ordered:
            self.chosen = self._in_order(workload, maximum, now, share)
        elif self._grouped(workload):
            self.chosen = self._shared(workload, maximum, now, share)
        else:
            self.chosen = self._waiting(workload, "", now, min(maximum, share("")))
        return self.chosen

    def _shared(self, workload: str, maximum: int, now: int, share: Share) -> list[Chosen]:
        left = maximum
        found: dict[str, list[Chosen]] = {}
        hungry: dict[str, int] = {}
        groups = self._visible(workload, max(maximum // TURN, FEW), now, share)
        while left and (turn := dict(islice(groups, max(left // TURN, min(left, FEW))))):
            left = self._take(workload, turn, left, now, found)
            hungry |= turn
        while left and hungry:
            left = self._take(workload, hungry, left, now, found)
        return [row for rows in found.values() for row in rows]

    def _take(self, workload: str, groups: dict[str, int], left: int, now: int, found: dict[str, list[Chosen]]) -> int:
        """An equal part for each of these groups, of what is left. Returns what is left then; of `groups`, those that
        may have more."""
        each = max(1, left // len(groups))
        for name, may in list(groups.items())[:left]:
            had = len(found.get(name, ()))
            found[name] = self._waiting(workload, name, now, min(had + each, may))
            left -= len(found[name]) - had
            if len(found[name]) < had + each:
                del groups[name]
        return left

    def _in_order(self, workload: str, maximum: int, now: int, share: Share) -> list[Chosen]:
        """Of each group the one message whose turn it is, if it may go now."""
        found: dict[str, Chosen] = {}

        def one(group: str) -> int:
            head = ordered.head(self._database, workload, group, now)
            if head is None or share(group) <= 0:
                return 0
            found[group] = head
            return 1

        return [found[group] for group, _ in islice(self._visible(workload, maximum, now, one), maximum)]

    def _grouped(self, workload: str) -> bool:
        statement = "SELECT 1 FROM messages WHERE status = 'queued' AND workload = ? AND message_group > '' LIMIT 1"
        return self._database.execute(statement, (workload,)).fetchone() is not None

    def _visible(self, workload: str, several: int, now: int, share: Share) -> Iterator[tuple[str, int]]:
        """The groups with visible messages, once round, and how many each may have; about so many are asked for. Where
        very many groups have none it ends early, and the next one goes on from there."""
        begun = self._left_off.get(workload)
        is_ordered = workload in self._database.ordered
        self._looks = limits.MAX_HEADS_LOOKED if is_ordered else limits.MAX_GROUPS_LOOKED
        stretches = [("", None)] if begun is None else [(begun + _NEXT, None), ("", begun)]
        for start, last in stretches:
            for name in self._stretch(workload, start, last, now, min(SEVERAL, several + 1)):
                self._left_off[workload] = name
                if (may := share(name)) > 0:
                    yield name, may

    def _stretch(self, workload: str, start: str, last: str | None, now: int, several: int) -> Iterator[str]:
        """The groups with visible messages, from `start` to `last`."""
        while self._looks > 0:
            values = {"workload": workload, "start": start, "now": now, "most": self._looks, "several": several}
            seen = self._database.execute(_VISIBLE, values).fetchall()
            for name, _ in seen:
                if name is None or (last is not None and name > last):
                    return
                yield name
            name, looked = seen[-1]  # there is one: it ends with a name that makes enough of them, or with NULL
            self._looks -= looked
            start = name + _NEXT

    def _waiting(self, workload: str, group: str, now: int, maximum: int) -> list[Chosen]:
        """The rows of a group's visible messages, the longest-waiting first, but for those that are known to be
        damaged."""
        if maximum <= 0:
            return []
        aside = ",".join(map(str, self._database.damage.set_aside))
        rows: list[Chosen] = self._database.execute(
            f"""
            SELECT seq, visible_at FROM messages INDEXED BY messages_queued
            WHERE status = 'queued' AND workload = ? AND message_group = ? AND visible_at <= ?
                {aside and f"AND seq NOT IN ({aside})"}
            ORDER BY visible_at LIMIT ?
            """,  # noqa: S608  what is added are numbers
            (workload, group, now, maximum),
        ).fetchall()
        return rows


_NEXT = "\0"  # after a name: the first of all names that follow it
