"""Where the messages of a data directory move, as a tool on this machine has that changed: by the server that owns the
directory, at its socket; or in the file, where no server runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

from decoupled.core import limits
from decoupled.core.departure import NotPossible, Told, Wanted, following
from decoupled.core.times import now_ms
from decoupled.core.workload import Unavailable
from decoupled.engines.sqlite import admin, admin_socket
from decoupled.engines.sqlite.data_directory import DataDirectory, DirectoryInUse
from decoupled.engines.sqlite.database import Database
from decoupled.engines.sqlite.departure import CHANGE, LOOK, REMEMBER, Departed, remembered

T = TypeVar("T")


class ToolDeparture:
    """Of a directory: asked of its server where one runs, else of the file itself."""

    def __init__(self, directory: DataDirectory, clock_ms: Callable[[], int] = now_ms) -> None:
        self._directory = directory
        self._clock_ms = clock_ms

    def change(self, wanted: Wanted) -> Told:
        """Have it be so. Nothing is accepted any more, and all that was is in the file, when this returns that. Raises
        Unavailable, DataDirectoryError or NotPossible."""
        told = self._ask(CHANGE, wanted)
        if told.why_not:
            raise NotPossible(told.why_not)
        return told

    def look(self) -> Told:
        """How it is. Raises Unavailable or DataDirectoryError."""
        return self._ask(LOOK, None)

    def _ask(self, call: str, wanted: Wanted | None) -> Told:
        try:
            database = self._directory.own()
        except DirectoryInUse as in_use:
            return _of_server(self._directory, call, wanted, Told, in_use)
        try:
            kept = Departed(database)
            if wanted is not None:
                kept.write(following(kept.read(), wanted, self._clock_ms()))
            return Told(kept.read())
        finally:
            database.close()
            self._directory.unlock()


class ToolMarks:
    """Implements Marks, of a move that leaves a directory: in its file, by whoever owns it."""

    def __init__(self, directory: DataDirectory) -> None:
        self._directory = directory

    def read(self) -> str | None:
        with contextlib.closing(Database(self._directory.file, read_only=True)) as database:
            return remembered(database)

    def write(self, text: str) -> None:
        try:
            database = self._directory.own()
        except DirectoryInUse as in_use:
            _of_server(self._directory, REMEMBER, text, bool, in_use)
            return
        try:
            Departed(database).remember(text)
        finally:
            database.close()
            self._directory.unlock()


def _of_server(directory: DataDirectory, call: str, given: Any, of: type[T], in_use: DirectoryInUse) -> T:
    try:
        with admin_socket.connect(directory.path, limits.ANSWER_S) as server:
            return admin.call(server, call, given, of)
    except OSError as error:
        raise Unavailable(f"{in_use}. It does not answer: {error.strerror or error}") from error
