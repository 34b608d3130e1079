"""A backup as a tool on this machine has it made: by the server that owns the directory, as its user, at whose socket
it is begun, asked about and cancelled; or by itself, where no server runs."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from decoupled.core import limits
from decoupled.core.backups import Begin, Sealed, Told
from decoupled.core.workload import Unavailable
from decoupled.engines.sqlite import admin, admin_socket
from decoupled.engines.sqlite.backup import Backup
from decoupled.engines.sqlite.data_directory import DataDirectory, DirectoryInUse
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.live_copy import BackupError

LOOK_S = 0.1  # between two looks at how it goes
BEGIN, LOOK, CANCEL = "backup", "backup_told", "backup_cancel"  # calls

Show = Callable[[Told], None]


def back_up(directory: DataDirectory, to: Path, show: Show) -> Sealed:
    """Make one: `to` a file that is not there, or in a directory. Raises BackupError, which says why there is none;
    DataDirectoryError; Unavailable when the server does not answer. Interrupted, it leaves nothing."""
    place = to.absolute()
    if not directory.file.exists():
        raise BackupError(f"there is no {directory.file}")
    try:
        owned = directory.own()
    except DirectoryInUse as in_use:
        return _Served(directory, str(in_use)).back_up(place, show)
    try:
        return _Own(directory, owned).back_up(place, show)
    finally:
        owned.close()
        directory.unlock()


class _Served:
    """By the server of the directory."""

    def __init__(self, directory: DataDirectory, in_use: str) -> None:
        self._directory = directory
        self._in_use = in_use

    def back_up(self, to: Path, show: Show) -> Sealed:
        told = self._ask(BEGIN, Begin(str(to)))
        mine = told.to
        try:
            while not told.ended:
                show(told)
                time.sleep(LOOK_S)
                told = self._ask(LOOK, Begin(mine))
        except BaseException:
            with contextlib.suppress(Unavailable):
                self._ask(CANCEL, Begin(mine))
            raise
        return _come_to(told)

    def _ask(self, name: str, given: Begin) -> Told:
        try:
            with admin_socket.connect(self._directory.path, limits.ANSWER_S) as server:
                return admin.call(server, name, given, Told)
        except OSError as error:
            raise Unavailable(f"{self._in_use}. It makes no backup: {error.strerror or error}") from error


class _Own:
    """By this process, which owns the directory meanwhile."""

    def __init__(self, directory: DataDirectory, database: Database) -> None:
        self._log = database.tend_log()
        self._data = directory.path
        self._wanted: queue.SimpleQueue[tuple[Callable[[], int], Future[int]]] = queue.SimpleQueue()

    def back_up(self, to: Path, show: Show) -> Sealed:
        backup = Backup(self._data, to, self._log, self._in_owner)
        thread = threading.Thread(target=backup.run, daemon=True)
        thread.start()
        try:
            while not (told := backup.told()).ended:
                show(told)
                self._do_wanted()
                self._log.tend()
        finally:
            backup.cancel()
            thread.join(limits.ANSWER_S)
        return _come_to(told)

    def _in_owner(self, do: Callable[[], int]) -> int:
        done: Future[int] = Future()
        self._wanted.put((do, done))
        return done.result(limits.ANSWER_S)

    def _do_wanted(self) -> None:
        with contextlib.suppress(queue.Empty):
            do, done = self._wanted.get(timeout=LOOK_S)
            try:
                done.set_result(do())
            except Exception as error:  # noqa: BLE001  whoever waits for it is told
                done.set_exception(error)


def _come_to(told: Told) -> Sealed:
    if told.sealed is None:
        raise BackupError(f"there is no backup: {told.error}")
    return told.sealed
