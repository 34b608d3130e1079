"""Order within a group, for the workloads that ask for it: which rows it goes for (`ordered` = 1), and which message of
each group may be handed out. That is found in the rows at each claim, so that no crash can leave it wrong. Handing it
out is the queue's (`messages.py`).

    group a   1 in flight   2   3     none: one at a time
    group b   4 waits       5         none: 4 failed, and holds its group back until it is tried again
    group c   6             7         6, the first that has not ended
    group d   8 redriven    9 in flight   none, until 9 has ended; then 8, which has its old place again
"""

from __future__ import annotations

from decoupled.core.workload import Message, Workloads
from decoupled.engines.sqlite.database import Database

# Two seeks, in indexes that hold all of it: no row of the table is read, which may be damaged.
_HEAD = """
SELECT seq, visible_at, visible_at <= :now AND NOT EXISTS (
    SELECT 1 FROM messages INDEXED BY messages_in_flight
    WHERE in_flight = 1 AND ordered = 1 AND workload = :workload AND message_group = :group AND visible_at > :now
)
FROM messages INDEXED BY messages_ordered
WHERE status = 'queued' AND ordered = 1 AND workload = :workload AND message_group = :group
ORDER BY seq LIMIT 1
"""


def head(database: Database, workload: str, group: str, now: int) -> tuple[int, int] | None:
    """The `seq` of the message of a group whose turn it is, if it may be handed out now; and since when it is
    visible."""
    row = database.execute(_HEAD, {"workload": workload, "group": group, "now": now}).fetchone()
    if row is None:
        return None
    seq, since, free = row
    return (seq, since) if free and seq not in database.damage.set_aside else None


def follows(database: Database, message: Message) -> bool:
    """Whether one of its group has not ended, so that it has to wait."""
    row = database.execute(
        """
        SELECT 1 FROM messages INDEXED BY messages_ordered
        WHERE status = 'queued' AND ordered = 1 AND workload = ? AND message_group = ? LIMIT 1
        """,
        (message.workload, message.group),
    ).fetchone()
    return row is not None


def adopt(database: Database, workloads: Workloads) -> None:
    """From now on these workloads are ordered or not, as they say. What is queued of an ordered one already gets in
    line, whoever put it there; of the others, nobody asks what the rows say. Where nothing has changed, indexes are
    read, and nothing is written. Raises StoreUnavailable."""
    database.ordered = frozenset(name for name, workload in workloads.items() if workload.ordered)
    with database.transaction():
        for name in database.ordered:
            queued, in_line = database.execute(_COUNTS, (name, name)).fetchone()
            if queued != in_line:
                database.execute(_LINE_UP, (name,))


# What has no time to be visible at is in flight elsewhere, and never handed out here: see `SqliteTable._ensure_row`.
_COUNTS = """
SELECT
    (SELECT count(*) FROM messages INDEXED BY messages_queued
        WHERE status = 'queued' AND workload = ? AND visible_at IS NOT NULL),
    (SELECT count(*) FROM messages INDEXED BY messages_ordered
        WHERE status = 'queued' AND ordered = 1 AND workload = ?)
"""
_LINE_UP = """
UPDATE messages SET ordered = 1 WHERE status = 'queued' AND workload = ? AND visible_at IS NOT NULL AND ordered = 0
"""
