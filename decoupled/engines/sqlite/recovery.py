"""Saves what can be read of a damaged file: passes by the pages that cannot be read, and says which messages stood
there, where the index of their ids still tells. SQLite's own shell does that, too (`.recover`), where it is built with
all that this takes; that of Debian, say, is not."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from decoupled.core.api_keys import KeysError
from decoupled.engines.sqlite import edits, history, tallies
from decoupled.engines.sqlite.database import APPLICATION_ID, Database, DataDirectoryError
from decoupled.engines.sqlite.departure import ARRIVAL, DEPARTURE, said_of
from decoupled.engines.sqlite.driver import sqlite3
from decoupled.engines.sqlite.ends import SqliteEnds
from decoupled.engines.sqlite.keys_file import KeysFile, SendersFile
from decoupled.engines.sqlite.schema import SCHEMA_VERSION

TABLES = {"messages": "seq", "items": "rowid"}  # and what numbers their rows
ROWS_AT_ONCE = 1_000
TRIED_ONE_BY_ONE = 20_000  # numbers from a damaged page on, so that no page between two of them is missed
HIGHEST_NUMBER = 2**62


@dataclass(slots=True)
class Recovered:
    """What came of it, by table: rows that were `saved`; those that were read and are none (`nonsense`); `gaps`, the
    first number and the last that could not be read (None: to the end). `lost`: ids of messages, as far as known.
    `keyless`: why the API keys are not there."""

    saved: dict[str, int] = field(default_factory=dict)
    nonsense: dict[str, int] = field(default_factory=dict)
    gaps: dict[str, list[tuple[int, int | None]]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    keyless: str | None = None
    moved: str | None = None  # what a person should know of where its messages move, or have moved


def recover(source: Path, whole: Database) -> Recovered:
    """Copy what can be read of the source into a new database. Raises DataDirectoryError when nothing can, and
    StoreUnavailable when that cannot be written."""
    recovered = Recovered()
    with contextlib.closing(_open(source)) as damaged:
        for table, number in TABLES.items():
            recovered.gaps[table] = []
            read = _copy(damaged, whole, table, number, recovered.gaps[table])
            recovered.saved[table] = whole.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
            recovered.nonsense[table] = read - recovered.saved[table]
        for first, last in recovered.gaps["messages"]:
            recovered.lost += _ids(damaged, first, HIGHEST_NUMBER if last is None else last)
        _copy_removed(damaged, whole)
        edits.copy(damaged, whole)
        recovered.moved = _copy_departure(damaged, whole)
    tallies.count_anew(whole)
    SqliteEnds(whole).begin_anew()
    return recovered


def _copy_removed(damaged: sqlite3.Connection, whole: Database) -> None:
    """How many rows were removed: what of it cannot be read counts as lost."""
    rows = list[tuple[int, int, int, int]]()
    with contextlib.suppress(sqlite3.DatabaseError):  # damage; or an earlier version, which removed nothing
        for row in damaged.execute("SELECT block, processed, rejected, dead FROM removed"):
            rows.append(row)
    with whole.transaction():
        whole.executemany("INSERT OR IGNORE INTO removed (block, processed, rejected, dead) VALUES (?, ?, ?, ?)", rows)


def _copy_departure(damaged: sqlite3.Connection, whole: Database) -> str | None:
    """A file whose messages have moved accepts none in its new place either. What a person should know of that."""
    try:
        rows = damaged.execute("SELECT name, value FROM marks WHERE name IN (?, ?)", (DEPARTURE, ARRIVAL)).fetchall()
    except sqlite3.DatabaseError as error:
        earlier = damaged.execute("PRAGMA user_version").fetchone()[0] < SCHEMA_VERSION
        return None if earlier else f"whether its messages have moved elsewhere cannot be read: {error}"
    with whole.transaction():
        whole.executemany("INSERT OR REPLACE INTO marks VALUES (?, ?)", rows)
    return said_of(whole)


def recover_keys(data: Path, target: Path, recovered: Recovered) -> None:
    """Copy the API keys and the senders of webhooks of a data directory that has some into another one. Raises
    DataDirectoryError or OSError when they cannot be written."""
    source = KeysFile(data)
    if not source.path.exists():
        return
    try:
        keys, senders = source.look() or [], SendersFile(data).look() or []
    except KeysError as error:
        recovered.keyless = str(error)
        return
    KeysFile(target).change(lambda _: (keys, None))
    recovered.saved["API keys"] = len(keys)
    if senders:
        SendersFile(target).change(lambda _: (senders, None))
        recovered.saved["senders of webhooks"] = len(senders)


def recover_history(data: Path, target: Path, recovered: Recovered) -> None:
    """Copy what charts are made of. Raises OSError when it cannot be written."""
    if samples := history.copy(data, target):
        recovered.saved["samples of charts"] = samples


def _open(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    except sqlite3.DatabaseError as error:
        connection.close()
        raise DataDirectoryError(f"nothing of {file} can be read ({error}): restore a backup") from error
    if application_id != APPLICATION_ID or version > SCHEMA_VERSION or not tables.issuperset(TABLES):
        connection.close()
        raise DataDirectoryError(f"{file} is not a file that this version of decoupled made")
    return connection


def _copy(
    damaged: sqlite3.Connection, whole: Database, table: str, number: str, gaps: list[tuple[int, int | None]]
) -> int:
    names = ", ".join(name for (name,) in damaged.execute("SELECT name FROM pragma_table_info(?)", (table,)))
    insert = f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({', '.join('?' * len(names.split(',')))})"  # noqa: S608
    rows = _rows(damaged, f"SELECT {number}, {names} FROM {table} NOT INDEXED WHERE {number}", number, gaps)  # noqa: S608
    read = 0
    while some := list(itertools.islice(rows, ROWS_AT_ONCE)):
        read += len(some)
        with whole.transaction():
            whole.executemany(insert, [row[1:] for row in some])
    return read


def _rows(
    damaged: sqlite3.Connection, select: str, number: str, gaps: list[tuple[int, int | None]]
) -> Iterator[tuple[Any, ...]]:
    """Those that can be read, by their numbers, which come first in each."""

    def read(one: int) -> list[tuple[Any, ...]] | None:
        with contextlib.suppress(sqlite3.DatabaseError):
            return damaged.execute(f"{select} = ?", (one,)).fetchall()
        return None

    last = 0
    while True:
        try:
            for row in damaged.execute(f"{select} > ? ORDER BY {number}", (last,)):
                last = row[0]
                yield row
        except sqlite3.DatabaseError:  # also where the driver looks ahead to the next row, and keeps this one back
            first = last + 1
            found = _next(lambda one: read(one) is not None, first)
            if found != first:
                gaps.append((first, None if found is None else found - 1))
            if found is None:
                return
            yield from read(found) or ()
            last = found
        else:
            return


def _next(readable: Callable[[int], bool], first: int) -> int | None:
    """The next number at which something can be read, be it that there is no row; None if there is none."""
    for number in range(first, first + TRIED_ONE_BY_ONE):
        if readable(number):
            return number
    damaged, step = number, TRIED_ONE_BY_ONE
    while not readable(damaged + step):
        damaged, step = damaged + step, step * 2
        if damaged + step > HIGHEST_NUMBER:
            return None
    whole = damaged + step
    while whole - damaged > 1:
        middle = (whole + damaged) // 2
        damaged, whole = (damaged, middle) if readable(middle) else (middle, whole)
    return whole


def _ids(damaged: sqlite3.Connection, first: int, last: int) -> list[str]:
    found: list[str] = []
    with contextlib.suppress(sqlite3.DatabaseError):
        sql = "SELECT id FROM messages INDEXED BY sqlite_autoindex_messages_1 WHERE +seq BETWEEN ? AND ?"
        for (message_id,) in damaged.execute(sql, (first, last)):
            found.append(message_id)  # and keep it, if it breaks off here
    return found
