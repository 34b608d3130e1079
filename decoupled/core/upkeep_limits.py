"""Limits of what is done for the years: of retention, backups, audits. What bounds requests and messages stands in
`limits.py`."""

from __future__ import annotations

from decoupled.core.limits import MIB

BLOCK_MESSAGES = 65_536  # numbers of messages in a block of the ledger: a row's block is its number divided by this

NOTIFY_EVERY_S = 5.0  # between two times that a service manager is told how it goes, at most
NOTICE_BYTES = 4_096  # that it is told at a time: what systemd reads
STOP_GENTLY_S = 1.0  # for clients to be answered once more, where those that come anew wait for the next server
MOVING_RETRY_S = 30  # after which a client may ask again, where messages move elsewhere

# --- the disk ---------------------------------------------------------------------

DISK_LOW_BYTES = 1_024 * MIB  # left on the data's disk: below that people are told,
DISK_LOW_PART = 0.05  # or below this part of all of it, if that is less
DISK_LOOK_S = 10.0  # between two looks at it

# --- backups ----------------------------------------------------------------------

BACKUP_PIECE_BYTES = 8 * MIB  # that are copied before they are synced, so that a server's own syncs never wait for much
BACKUP_BYTES_S = 100 * MIB  # at most; and half of what the disk would do
BACKUP_BEHIND_BYTES = 32 * MIB  # of changes that are not in the copy yet, before the log is left to grow
BACKUP_FINISH_S = 60.0  # for the log to be folded whole, once all is copied: a reader may keep it from that
BACKUP_RETRY_S = 600.0  # after one that failed, of those that a server makes by itself; or when the next is due
BACKUP_DUE_LOOK_S = 60.0  # between two looks, at most, at whether the next one is due
BACKUP_LEAVE_S = 5.0  # for one to be given up when its server ends
BACKUP_LOOK_S = 0.02  # between two looks of who waits for that

# --- a replica, beside the server -------------------------------------------------

WAL_LEFT_BYTES = 32 * MIB  # of a log that Litestream folds, before the server does; less than WAL_LONG_BYTES
REPLICA_LOOK_S = 1.0  # between two looks at how far a replica is that is in a directory,
REPLICA_CALL_S = 10.0  # or elsewhere: each is a process, and a request that may cost something
REPLICA_ASK_S = 30.0  # for its place to say that
REPLICA_LATE_S = 60.0  # that it may be behind before a person is told
REPLICA_PLACES = 1_000  # of the log, that are not in it yet, which are told apart
REPLICA_PARTS = 1_000_000  # files that it may consist of
REPLICA_SAYS_CHARS = 500  # of what Litestream says of a failure
REPLICA_END_S = 2.0  # for a look that there is, when its server ends

# --- dead letters ----------------------------------------------------------------

MAX_EDITS = 10  # of one, that are kept with the bodies that it had before,
MAX_EDITED_BYTES = MIB // 2  # and none is added to bodies of more than this
MAX_EDITOR_CHARS = 200  # of the name of whoever changed one

KEPT_AT_ONCE = 20  # bodies of messages that have ended, with their results, that a replay reads at a time

# --- audits -----------------------------------------------------------------

FAULTS = 100  # that an audit tells apart
FAULT_IDS = 20  # that are named of each
AUDIT_CHECK_S = 5.0  # that one statement over a whole table may take beside a server: its log cannot be reset meanwhile
MAX_ACKNOWLEDGED_CHARS = 500  # of what a person says of faults that were looked into
SUSPECTS = 1_000  # rows of a block that are looked at closely
AUDIT_FIRST_S = 60.0  # after a server's start, until its audit begins or goes on
AUDIT_ROWS_S = 10_000  # rows a second that it looks at: some hundredths of a core
AUDIT_ROUND_S = 3_600.0  # from the beginning of a round to that of the next, at least,
AUDIT_PART = 0.1  # and of all the time, what rounds take at most: each reads the whole file, out of the disk at last
AUDIT_MARK_S = 600.0  # until where it has got to is written again; at the end of a round it always is
AUDIT_YIELD_S = 60.0  # for which a step gives way to requests that come without a pause
INVARIANT_ITEMS = 100  # that a workload's invariant is handed at once
INVARIANT_SAYS = 10_000  # things that are wrong, after which it is not asked for more
INVARIANT_CHARS = 500  # of one of them
INVARIANT_BYTES = MIB  # that it says at once; more is no answer
DIFFERENCES = 20  # messages that are told whole of those that would come to something else now
SPOOL_BYTES = 32 * MIB  # that are sorted in memory, before they go to a file
SPOOL_ENTRY_BYTES = 200  # that Python needs beside a key and what is kept of it
SPOOL_FILES = 500  # of so many
WRITES_OF_ITEM = 100_000  # of one item, that are followed
EMITTED_AT_ONCE = 500  # ids that are looked for together
AUDIT_READ_UNITS_S = 500.0  # of a table's capacity on AWS a second, 4 MB
READ_UNIT_USD = 0.125e-6  # on demand, in us-east-1
AUDIT_END_S = 2.0  # for the step that there is, when its server ends

# --- retention ----------------------------------------------------------------

MIN_RECORD_TTL_S = 24 * 3_600  # for which a resend is known, at least; above every visibility timeout, so that nothing
# is in flight any more of a message whose record is removed
MIN_BODY_TTL_S = 3_600  # for which a final message keeps its body, where that is asked for
MAX_TTL_S = 36_500 * 86_400  # a hundred years
SWEEP_EVERY_S = 60.0  # from the end of one look for what is due to the next
SWEEP_MESSAGES = 4_096  # numbers of messages that are looked at together, 2 MB of the file
REMOVE_AT_ONCE = 100  # rows in a transaction, some milliseconds
REMOVE_PART = 0.2  # of all the time, that removing takes
REMOVE_PAUSE_S = 1.0  # between two of its transactions at most, and for which they give way to requests
SHRINK_PAGES = 64  # of the file that are given back in a transaction
FREE_PAGES = 4_096  # that the file keeps for new rows, 16 MiB,
FREE_PART = 0.1  # or this part of all it has, if that is more
LEAP_S = 3 * 86_400  # since the last look: then the clock may be wrong, or nobody served meanwhile,
LEAP_WAIT_S = 3_600.0  # and so long nothing is removed, for a person to see to it

# --- a move -------------------------------------------------------------------

MOVE_WRITES_S = 500.0  # to a stack, unless somebody says otherwise: a new table bears 4,000
MOVE_CALLS = 32  # of AWS that are under way at once
MOVE_PAGE = 500  # records that are read, written and marked together
MOVE_PAGE_BYTES = 4 * MIB  # or fewer, where they are large
MOVE_PATIENCE_S = 600.0  # for a side that is throttled or away, before a move ends, to be gone on with
MOVE_PAUSE_S = 0.5  # before the first try again, doubled before each further one,
MOVE_LONGEST_PAUSE_S = 20.0  # up to that
MOVE_BEHIND = 1_000  # records that have ended and are not copied, below which a move may stop its source
MOVE_STILL_S = 0.2  # between two looks at whether a source that was stopped is still
MOVE_KEEPS_S = 7 * 86_400  # for a record that is older than the stack keeps such, so that it can be compared
MOVE_DIFFERENCES = 20  # that are told of; more end a move at once

# --- forgetting ---------------------------------------------------------------

FORGET_AT_ONCE = 50  # rows that are erased in a transaction, some milliseconds
FORGET_PART = 0.2  # of all the time, that its transactions take beside requests
FORGET_PAUSE_S = 1.0  # between two of them at most, and for which they give way to requests
FORGET_DESCENDANTS = 10_000  # messages that came of one that is to be forgotten
FORGET_WAITING = 100_000  # unfinished ones of a stack, which are kept in mind
FORGET_NAMED = 20  # ids of unfinished messages that are named
FORGET_ROUNDS = 6  # searches of the whole file, and mending after each, before a person is asked to make it anew
FORGET_LOG_S = 30.0  # for the log to be cut: somebody's reading may keep it from that
FORGET_LOOK_S = 0.1  # between two tries at that, and two looks of a tool at how it goes
FORGET_SCRUBBED = 20_000  # leaves of tables that are written over in a round, 80 MB,
FORGET_SCRUB_AT_ONCE = 20  # so many in a transaction
