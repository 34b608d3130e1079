"""Room in the file: what is free in it after rows were removed, and how it goes back to the file system. Files that
were made before schema 6 cannot give any back: what is free in them is used for new rows."""

from __future__ import annotations

from typing import NamedTuple

from decoupled.core.upkeep_limits import FREE_PAGES, FREE_PART, SHRINK_PAGES
from decoupled.engines.sqlite.database import Database

_INCREMENTAL = 2


class Space(NamedTuple):
    """`gives_back`: whether the file can."""

    file_bytes: int
    free_bytes: int
    gives_back: bool


def space(database: Database) -> Space:
    """As it is now. Raises StoreUnavailable."""
    with database.refusals:
        (page_bytes,) = database.execute("PRAGMA page_size").fetchone()
        free, pages, gives_back = _pages(database)
    return Space(pages * page_bytes, free * page_bytes, gives_back)


def shrink(database: Database, most: int = SHRINK_PAGES) -> int:
    """Give back some pages of what is more than new rows will need soon; how many. Inside a transaction, or as one.
    What stands at its end moves to where there is room: to give all back, and take it again, is work for nothing.
    """
    with database.transaction():
        free, pages, gives_back = _pages(database)
        spare = free - max(FREE_PAGES, int(pages * FREE_PART))
        if spare <= 0 or not gives_back:
            return 0
        some = min(spare, most)
        database.execute(f"PRAGMA incremental_vacuum({some})").fetchall()  # a page a row: all have to be fetched
    return some


def _pages(database: Database) -> tuple[int, int, bool]:
    (free,) = database.execute("PRAGMA freelist_count").fetchone()
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    (how,) = database.execute("PRAGMA auto_vacuum").fetchone()
    return free, pages, how == _INCREMENTAL
