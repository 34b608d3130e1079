"""Where the page finds what it shows of a data directory: connections beside its server, opened when they are first
asked for, and again when the directory has another file by now."""

from __future__ import annotations

import contextlib
from typing import Any

from decoupled.core.overview import Look
from decoupled.engines.protocols import StoreUnavailable
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.database import DataDirectoryError
from decoupled.engines.sqlite.stats import SqliteStats
from decoupled.engines.sqlite.tool import ToolDeadLetters


class SqliteSources:
    """Implements Sources. Used by one thread."""

    def __init__(self, directory: DataDirectory) -> None:
        self._directory = directory
        self._stats: SqliteStats | None = None
        self._file: tuple[int, int] | None = None  # that is open

    def look(self) -> Look:
        self._see_file()
        if self._stats is None:
            with _refusals():
                self._stats = SqliteStats(self._directory)
        return self._stats.look_at_all()

    @property
    def search(self) -> Any:
        raise ValueError("Messages cannot be found yet.")

    @property
    def past(self) -> Any:
        raise ValueError("There is no history yet.")

    def dead_letters(self) -> ToolDeadLetters:
        with _refusals():
            return ToolDeadLetters(self._directory)

    def _see_file(self) -> None:
        """Whether it is still the file that is open."""
        try:
            there = self._directory.file.stat()
        except OSError as error:
            self.close()
            raise StoreUnavailable(f"{self._directory.file}: {error.strerror}") from error
        if self._file != (file := (there.st_dev, there.st_ino)):
            self.close()
            self._file = file

    def close(self) -> None:
        if self._stats is not None:
            self._stats.close()
            self._stats = None


class _refusals(contextlib.AbstractContextManager[None]):  # noqa: N801  used as a verb's object
    """What cannot be opened is not there for now."""

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, DataDirectoryError):
            raise StoreUnavailable(str(error)) from error
