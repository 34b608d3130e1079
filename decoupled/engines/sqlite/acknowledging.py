"""Which faults of a file somebody has looked into (see `core/acknowledged.py`): they are kept in it, so that a copy
knows of them. A tool has them written by the server that owns the directory, or does it where none runs."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from decoupled.core import limits
from decoupled.core.acknowledged import Acknowledged, added
from decoupled.core.workload import Unavailable
from decoupled.engines.sqlite import admin, admin_socket
from decoupled.engines.sqlite.data_directory import DataDirectory, DirectoryInUse
from decoupled.engines.sqlite.database import Database

MARK = "acknowledged"  # in `marks`
CALL = "audit_acknowledge"


def read(database: Database) -> list[Acknowledged]:
    """Those that there are. Raises StoreUnavailable."""
    with database.refusals:
        row = database.execute("SELECT value FROM marks WHERE name = ?", (MARK,)).fetchone()
    try:
        return msgspec.json.decode(row[0], type=list[Acknowledged]) if row else []
    except (msgspec.DecodeError, TypeError):
        return []  # of another version: all is told again


def write(database: Database, new: Sequence[Acknowledged]) -> list[Acknowledged]:
    """These, too; all that there are then. Inside a transaction, or as one."""
    with database.transaction():
        known = added(read(database), new)
        text = msgspec.json.encode(known).decode()
        database.execute("INSERT OR REPLACE INTO marks (name, value) VALUES (?, ?)", (MARK, text))
    return known


def keep(directory: DataDirectory, new: Sequence[Acknowledged]) -> None:
    """For a tool. Raises DataDirectoryError or Unavailable."""
    try:
        database = directory.own()
    except DirectoryInUse as in_use:
        try:
            with admin_socket.connect(directory.path, limits.ANSWER_S) as server:
                admin.call(server, CALL, list(new), bool)
        except OSError as error:
            raise Unavailable(f"{in_use}. It does not answer: {error.strerror or error}") from error
        return
    try:
        write(database, new)
    finally:
        database.close()
        directory.unlock()
