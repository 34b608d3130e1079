"""Writes over what is left on pages, in bytes that belong to no row: by changes that SQLite itself makes, so that the
log, whoever copies the file, and a crash know of nothing unusual.

    a leaf of a table: | rows | nothing's, with traces │ rows |   a row grows by as much, and then is what it was:
                       | rows |000000000000000000000000| rows |   what it takes is packed first, then it is zeroed
"""

from __future__ import annotations

from collections.abc import Sequence

from decoupled.core.limits import MIB
from decoupled.core.upkeep_limits import SHRINK_PAGES
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.leftovers import Place

REWRITE_MOST_BYTES = 4 * MIB  # of bodies before an edit that are put anew, likewise
REINDEX_MOST = 20_000  # entries of an index that is made anew: tens of milliseconds
_NAMES = {"items": ("rowid", "owner"), "messages": ("seq", "trace")}  # what numbers their rows, and has no index

# With a condition that says how many entries each has, at most.
_INDEXES = {
    "messages_queued": "messages WHERE status = 'queued'",
    "messages_ordered": "messages WHERE status = 'queued'",
    "messages_in_flight": "messages WHERE status = 'queued'",
    "messages_ended": "messages WHERE ended IS NOT NULL",
    "items": "items",
}


def scrub(database: Database, places: Sequence[Place]) -> None:
    """Some leaves. Inside a transaction, or as one; every row is afterwards what it was."""
    with database.transaction():
        for place in places:
            number, column = _NAMES[place.table]
            read = f"SELECT {column} FROM {place.table} WHERE {number} = ?"  # noqa: S608  the names are constants
            if (row := database.execute(read, (place.rowid,)).fetchone()) is not None:
                change = f"UPDATE {place.table} SET {column} = ? WHERE {number} = ?"  # noqa: S608
                database.execute(change, (row[0] + " " * place.by, place.rowid))
                database.execute(change, (row[0], place.rowid))


def make_anew(database: Database) -> Sequence[str]:
    """The indexes in which callers, groups or keys stand, but for those that are too long for that, which are returned.
    Inside a transaction, or as one."""
    long = []
    with database.transaction():
        for name, entries in _INDEXES.items():
            statement = f"SELECT count(*) FROM (SELECT 1 FROM {entries} LIMIT {REINDEX_MOST + 1})"  # noqa: S608
            if database.execute(statement).fetchone()[0] > REINDEX_MOST:
                long.append(name)
            else:
                database.execute(f"REINDEX {name}")
        if not _edits_anew(database):
            long.append("edits")
    return long


def _edits_anew(database: Database) -> bool:
    """A table that is an index itself: all of it is taken out, which frees its pages and zeroes them, and put back."""
    (size,) = database.execute("SELECT coalesce(sum(length(body)), 0) FROM edits").fetchone()
    if size > REWRITE_MOST_BYTES:
        return False
    rows = database.execute("SELECT id, at, body FROM edits").fetchall()
    database.execute("DELETE FROM edits")
    database.executemany("INSERT INTO edits (id, at, body) VALUES (?, ?, ?)", rows)
    return True


def give_back(database: Database, most: int = SHRINK_PAGES) -> int:
    """So many of the file's free pages, or fewer; how many are left. Inside a transaction, or as one."""
    with database.transaction():
        database.execute(f"PRAGMA incremental_vacuum({most})").fetchall()
        number: int = database.execute("PRAGMA freelist_count").fetchone()[0]
    return number
