"""Forgetting as a tool on this machine has it done: by the server that owns the directory, at whose socket it is begun
and asked about; or by itself, where no server runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from typing import TypeVar

from decoupled.core import limits
from decoupled.core.forgetting import Asked, Report, Told
from decoupled.core.upkeep_limits import FORGET_LOOK_S
from decoupled.core.workload import Unavailable
from decoupled.engines.sqlite import admin, admin_socket, erasure
from decoupled.engines.sqlite.data_directory import DataDirectory, DirectoryInUse
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.forgetting import Forgetting, ForgettingError, Survey

T = TypeVar("T")

BEGIN, LOOK = "forget", "forget_told"  # calls

Show = Callable[[str, int, int], None]


def survey(directory: DataDirectory, asked: Asked, show: Show) -> tuple[Report, bool]:
    """What there is, beside whoever owns the directory; and whether an earlier run has left something to be proven.
    Raises DataDirectoryError, StoreUnavailable or ValueError."""
    with closing(Database(directory.file, read_only=True)) as database:
        looked = Survey(database, asked, show)
        return looked.report(), erasure.begun(database, looked.whose.value)


def forget(directory: DataDirectory, asked: Asked, show: Show) -> Report:
    """All of it. Raises ForgettingError, which says why not; DataDirectoryError; Unavailable when the server does not
    answer. Interrupted, a server goes on with it, and another call finds it."""
    if not directory.file.exists():
        raise ForgettingError(f"there is no {directory.file}")
    try:
        owned = directory.own()
    except DirectoryInUse as in_use:
        return _come_to(_served(directory, asked, show, str(in_use)))
    try:
        return _come_to(_own(directory, owned, asked, show))
    finally:
        owned.close()
        directory.unlock()


def _served(directory: DataDirectory, asked: Asked, show: Show, in_use: str) -> Told:
    def ask(name: str) -> Told:
        try:
            with admin_socket.connect(directory.path, limits.ANSWER_S) as server:
                return admin.call(server, name, asked, Told)
        except OSError as error:
            raise Unavailable(f"{in_use}. It erases nothing: {error.strerror or error}") from error

    told = ask(BEGIN)
    while not told.ended:
        show(told.what, told.done, told.upto)
        time.sleep(FORGET_LOOK_S)
        told = ask(LOOK)
    return told


class _Own:
    """This process, which owns the directory meanwhile. Implements Owner."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.log = database.tend_log()

    def write(self, operation: Callable[[], T]) -> T:
        with self._database.transaction():
            return operation()

    def between(self, do: Callable[[], T]) -> T:
        return do()


def _own(directory: DataDirectory, database: Database, asked: Asked, show: Show) -> Told:
    owner = _Own(database)
    forgetting = Forgetting(database, owner.log, directory.file, owner, asked, show=show)
    forgetting.run()
    return forgetting.told()


def _come_to(told: Told) -> Report:
    if told.report is None:
        raise ForgettingError(told.error or "it has not come to its end")
    return told.report
