"""The schema of the SQLite file, and the steps to it from those of earlier versions."""

from __future__ import annotations

from decoupled.core.upkeep_limits import BLOCK_MESSAGES

# A message is one row, from its acceptance to its end: whatever happens, its id is in exactly one status. The receipt
# of a delivery is (id, receive_count), so that it lapses when the message is handed out again. A final row gives up
# its body; a dead one keeps it, and so is its own dead letter.
SCHEMA = """
CREATE TABLE messages (
    seq INTEGER PRIMARY KEY,
    status TEXT NOT NULL,
    visible_at INTEGER,
    receive_count INTEGER NOT NULL DEFAULT 0,
    in_flight INTEGER NOT NULL DEFAULT 0,
    id TEXT NOT NULL UNIQUE,
    workload TEXT NOT NULL,
    accepted_at INTEGER NOT NULL,
    caller TEXT NOT NULL,
    body TEXT,
    result TEXT,
    reason TEXT,
    finished_at INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    error_type TEXT,
    error TEXT,
    first_failed_at INTEGER,
    last_failed_at INTEGER,
    traceback TEXT,
    message_group TEXT NOT NULL DEFAULT '',
    ordered INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER,
    mark INTEGER NOT NULL DEFAULT 0,
    digest TEXT NOT NULL DEFAULT '',
    callback TEXT NOT NULL DEFAULT '',
    ended INTEGER,
    trace TEXT NOT NULL DEFAULT ''
);
CREATE INDEX messages_queued ON messages (workload, message_group, visible_at) WHERE status = 'queued';
CREATE INDEX messages_ordered ON messages (workload, message_group, seq, visible_at)
    WHERE status = 'queued' AND ordered = 1;
CREATE INDEX messages_in_flight ON messages (workload, message_group, visible_at)
    WHERE in_flight = 1 AND ordered = 1;
CREATE INDEX messages_due ON messages (due_at) WHERE due_at IS NOT NULL AND status = 'queued';
CREATE INDEX messages_dead ON messages (finished_at) WHERE status = 'dead';
CREATE INDEX messages_rejected ON messages (finished_at) WHERE status = 'rejected';
CREATE INDEX messages_ended ON messages (workload, caller, ended, seq) WHERE ended IS NOT NULL;
CREATE TABLE items (key TEXT PRIMARY KEY, item TEXT NOT NULL, owner TEXT NOT NULL DEFAULT '');
"""

# In which order messages ended, of callers who follow that: see `ends.py`.
_FOLLOWING = """
CREATE TABLE ends (last INTEGER NOT NULL);
INSERT INTO ends VALUES (0);
CREATE TABLE followed (
    workload TEXT NOT NULL,
    caller TEXT NOT NULL,
    since INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    PRIMARY KEY (workload, caller)
) WITHOUT ROWID;
CREATE INDEX followed_seen ON followed (seen);
"""
SCHEMA += _FOLLOWING

# Numbers that no row has and that nobody removed: of a file that was recovered once, of what could not be read. By
# blocks, of which a number that is damaged itself makes no more than so many.
_MOST_BLOCKS = 1_000_000
LOST = f"""
INSERT INTO removed (block, lost)
WITH RECURSIVE
    newest (seq) AS (SELECT max(seq) FROM messages),
    blocks (block, first, last) AS (
        SELECT 0, 1, {BLOCK_MESSAGES - 1} WHERE (SELECT count(*) FROM messages) < (SELECT seq FROM newest)
        UNION ALL
        SELECT block + 1, last + 1, last + {BLOCK_MESSAGES} FROM blocks
        WHERE last < (SELECT seq FROM newest) LIMIT {_MOST_BLOCKS}
    ),
    gone (block, n) AS (
        SELECT block, min(last, (SELECT seq FROM newest)) - first + 1
            - (SELECT count(*) FROM messages WHERE seq BETWEEN first AND last)
            - coalesce((SELECT processed + rejected + dead FROM removed WHERE removed.block = blocks.block), 0)
        FROM blocks
    )
SELECT block, n FROM gone WHERE n > 0
ON CONFLICT (block) DO UPDATE SET lost = excluded.lost;
"""  # noqa: S608  the numbers are constants

# For the years. A row's number has no gaps: each new one has the next, and the newest is never removed. So the file is
# its own ledger: of each block of numbers (see limits), those that are there and those `removed` are all that were
# given out. `tallies` has what would take long to count; `marks`, where long work has got to; `edits`, the bodies that
# dead letters had before somebody changed them: see `edits.py`.
_LEDGER = f"""
CREATE TABLE removed (
    block INTEGER PRIMARY KEY,
    processed INTEGER NOT NULL DEFAULT 0,
    rejected INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    lost INTEGER NOT NULL DEFAULT 0
);
{LOST}
CREATE TABLE tallies (name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO tallies SELECT 'rejected', count(*) FROM messages WHERE status = 'rejected';
CREATE TABLE marks (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE edits (id TEXT NOT NULL, at INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (id, at)) WITHOUT ROWID;
"""  # noqa: S608  what is added is constant
SCHEMA += _LEDGER

# What makes a file of each version one of the next. A file is brought up to date when a server opens it, in one
# transaction; the last version is the one that SCHEMA makes.
MIGRATIONS = {
    1: "ALTER TABLE messages ADD COLUMN traceback TEXT;",  # 0.2.0: a dead letter keeps where its error was raised
    # 0.3.0: groups, their order, messages that are due later, and which delivery was counted last
    2: """
    ALTER TABLE messages ADD COLUMN message_group TEXT NOT NULL DEFAULT '';
    ALTER TABLE messages ADD COLUMN ordered INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE messages ADD COLUMN due_at INTEGER;
    ALTER TABLE messages ADD COLUMN mark INTEGER NOT NULL DEFAULT 0;
    DROP INDEX messages_queued;
    CREATE INDEX messages_queued ON messages (workload, message_group, visible_at) WHERE status = 'queued';
    CREATE INDEX messages_ordered ON messages (workload, message_group, seq, visible_at)
    WHERE status = 'queued' AND ordered = 1;
    CREATE INDEX messages_in_flight ON messages (workload, message_group, visible_at)
    WHERE in_flight = 1 AND ordered = 1;
    CREATE INDEX messages_due ON messages (due_at) WHERE due_at IS NOT NULL AND status = 'queued';
    """,
    # 0.3.0, too: what was sent under a key, where its record is sent to, whose an item is, and in which order all ends
    3: f"""
    ALTER TABLE messages ADD COLUMN digest TEXT NOT NULL DEFAULT '';
    ALTER TABLE messages ADD COLUMN callback TEXT NOT NULL DEFAULT '';
    ALTER TABLE items ADD COLUMN owner TEXT NOT NULL DEFAULT '';
    ALTER TABLE messages ADD COLUMN ended INTEGER;
    CREATE INDEX messages_ended ON messages (workload, caller, ended, seq) WHERE ended IS NOT NULL;
    {_FOLLOWING}
    """,
    4: "ALTER TABLE messages ADD COLUMN trace TEXT NOT NULL DEFAULT '';",  # 0.3.0, too: which trace it is part of
    5: _LEDGER,  # 0.3.0, too
}
SCHEMA_VERSION = max(MIGRATIONS) + 1
