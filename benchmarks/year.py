"""A data directory as it is after a year: millions of records, made by SQL in minutes, of the current schema, and kept
in build/ for the next time. Its rows are as a server leaves them. Measures nothing itself."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import msgspec

from benchmarks.loads import ORDER
from benchmarks.report import ROOT
from decoupled.core.identifiers import digest_of
from decoupled.core.workload import Message
from decoupled.engines.sqlite.database import FILE_NAME, Database, DataDirectoryError
from decoupled.workloads.orders import Order, process

YEAR_MS = 365 * 24 * 3600 * 1000
ROWS_AT_ONCE = 250_000  # a transaction
CACHE_KIB = 2 * 1024 * 1024  # keyed ids come in any order: the index of ids is best held whole
GROWN = 1.5  # a file that loads have made so much larger is made anew
LINES = 4  # of an order, at most

# Of 1,000 messages in a row, which have which fate; the rest is processed. One of KEYED has an id of its key.
REJECTED, DEAD, KEYED, ITEMS = 30, 2, 10, 20
LATER = 10_000  # of the last ones wait until long after

_ROWS = """
WITH RECURSIVE numbers (n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n < :last),
    made AS (
        SELECT n, :began + n * :step_us / 1000 AS at, n % :keyed = 0 AS keyed, lower(hex(randomblob(20))) AS chance,
            CASE WHEN n > :waiting THEN 'queued'
                WHEN n % 1000 < :rejected THEN 'rejected'
                WHEN n % 1000 >= 1000 - :dead THEN 'dead' ELSE 'processed' END AS status
        FROM numbers
    )
INSERT INTO messages (seq, status, visible_at, due_at, receive_count, id, workload, accepted_at, caller, body, result,
    reason, finished_at, attempts, error_type, error, first_failed_at, last_failed_at, traceback, digest)
SELECT n, made.status, at + CASE status WHEN 'queued' THEN :year ELSE 60000 END,
    CASE status WHEN 'queued' THEN at + :year END, status <> 'queued',
    CASE WHEN keyed THEN chance ELSE printf('%012x000', at) || substr(chance, 1, 18) END,
    'orders', at, 'anonymous', CASE WHEN status IN ('queued', 'dead') THEN :body END,
    CASE status WHEN 'processed' THEN replace(results.result, '%', upper(substr(chance, 1, 12))) END,
    CASE status WHEN 'rejected' THEN 'the account has 12.50 EUR, and this takes 79.80 EUR' END,
    CASE WHEN status <> 'queued' THEN at + 20 END,
    5 * (status = 'dead'), CASE status WHEN 'dead' THEN 'ValueError' END,
    CASE status WHEN 'dead' THEN 'no such currency in line ' || n % 7 END,
    CASE status WHEN 'dead' THEN at END, CASE status WHEN 'dead' THEN at + 10 END,
    CASE status WHEN 'dead' THEN :traceback END, CASE WHEN keyed THEN :digest ELSE '' END
FROM made JOIN results ON lines = 1 + n % :most_lines
"""
_ITEMS = """
WITH RECURSIVE numbers (n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n < :last)
INSERT INTO items (key, item, owner)
SELECT printf('account/%010d', n), '{"balance":"79.80","currency":"EUR","opened":"2025-11-30"}', 'anonymous'
FROM numbers WHERE n % 1000 < :items
"""


def directory(records: int) -> Path:
    """A data directory with so many messages or some more, which nobody uses: made now, or earlier."""
    place = ROOT / "build" / f"year-{records}"
    data, draft = place / "data", place / "new"
    if not _fits(data / FILE_NAME, records):
        shutil.rmtree(place, ignore_errors=True)
        draft.mkdir(parents=True, mode=0o700)
        began = time.monotonic()
        make(draft / FILE_NAME, records)
        _tell(f"made {data} in {time.monotonic() - began:,.0f} s, {size(draft) / 2**30:.2f} GiB")
        draft.rename(data)
    return data


def size(data: Path) -> int:
    """Bytes of its database."""
    return (data / FILE_NAME).stat().st_size


def make(file: Path, records: int) -> None:
    """A file as `Database` makes it, with so many messages over the last year. Its indexes are made when the rows are
    there, but for that of the ids, which SQLite does not let go."""
    database = Database(file)
    execute = database.execute
    indexes = execute(
        "SELECT name, sql FROM sqlite_schema WHERE tbl_name = 'messages' AND type = 'index' AND sql IS NOT NULL"
    ).fetchall()
    for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KIB}", "locking_mode = EXCLUSIVE"):
        execute(f"PRAGMA {pragma}")
    for name, _ in indexes:
        execute(f"DROP INDEX {name}")
    execute("CREATE TEMP TABLE results (lines INTEGER PRIMARY KEY, result TEXT NOT NULL)")
    database.executemany(
        "INSERT INTO results VALUES (?, ?)", ((lines, _result(lines)) for lines in range(1, LINES + 1))
    )
    began = time.time_ns() // 1_000_000 - YEAR_MS
    for first in range(1, records + 1, ROWS_AT_ONCE):
        some = {"first": first, "last": min(first + ROWS_AT_ONCE - 1, records)}
        with database.transaction():
            execute(_ROWS, {**some, **_values(records, began)})
            execute(_ITEMS, {**some, "items": ITEMS})
        _tell(f"{some['last']:,} of {records:,} messages", end="\r")
    for name, statement in indexes:
        _tell(f"index {name}", end="\r")
        execute(statement)
    execute("UPDATE tallies SET n = (SELECT count(*) FROM messages WHERE status = 'rejected') WHERE name = 'rejected'")
    execute("PRAGMA journal_mode = WAL")
    database.close()


def _values(records: int, began: int) -> dict[str, object]:
    return {
        "began": began,
        "step_us": YEAR_MS * 1000 // records,
        "waiting": records - min(LATER, records // 10),
        "year": YEAR_MS,
        "keyed": KEYED,
        "rejected": REJECTED,
        "dead": DEAD,
        "most_lines": LINES,
        "body": ORDER,
        "digest": digest_of(ORDER.encode()),
        "traceback": 'Traceback (most recent call last):\n  File "orders.py", line 78, in process\nValueError\n' * 3,
    }


def _result(lines: int) -> str:
    """Of an order with so many, as GET shows it; % stands for its number."""
    order = msgspec.json.decode(ORDER, type=Order)
    order = msgspec.structs.replace(order, lines=order.lines * lines)
    result = process(order, Message("0" * 33, "orders", "", "anonymous", 0)).result
    return msgspec.json.encode(result).decode().replace("0" * 12, "%")


def _fits(file: Path, records: int) -> bool:
    """Whether it is there, whole, of this schema, and about as large as is wanted."""
    try:
        database = Database(file, read_only=True)
    except DataDirectoryError:  # also where it is of an earlier schema
        return False
    (last,) = database.execute("SELECT max(seq) FROM messages").fetchone()
    database.close()
    return bool(records <= last <= records * GROWN)


def _tell(what: str, end: str = "\n") -> None:
    print(f"... {what:<60}", file=sys.stderr, end=end, flush=True)
