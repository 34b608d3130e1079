"""Which SQLite it is: that of the package pysqlite3 where it is installed, which brings its own, else the one that this
Python was built with. All in this room take it from here: two of them in one process would undo each other's locks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
else:
    try:
        from pysqlite3 import dbapi2 as sqlite3
    except ImportError:
        import sqlite3

__all__ = ["VERSION", "sqlite3", "wal_reset_bug"]

VERSION = sqlite3.sqlite_version


def wal_reset_bug(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> bool:
    """Whether two connections that write or checkpoint at the same moment can damage the file:
    https://www.sqlite.org/wal.html#walresetbug"""
    return version < (3, 51, 3) and not any(first <= version < (*first[:2], 99) for first in _MENDED)


_MENDED = ((3, 44, 6), (3, 50, 7))  # releases of older lines that have the mend, too


OLD_SQLITE = (
    "this SQLite may damage a file that two programs write at the same moment; decoupled and its tools never do, and"
    " keep Litestream from it, so let no other program write to it. The README says how to get a newer SQLite"
)
"""What a person should know who has that."""
