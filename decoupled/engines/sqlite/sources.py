"""Where the page finds what it shows of a data directory: connections beside its server, opened when they are first
asked for, and again when the directory has another file by now."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator

from decoupled.core import limits
from decoupled.core.overview import Look
from decoupled.engines.protocols import StoreUnavailable
from decoupled.engines.sqlite.data_directory import DataDirectory
from decoupled.engines.sqlite.database import Database, DataDirectoryError
from decoupled.engines.sqlite.history import SqlitePast
from decoupled.engines.sqlite.search import SqliteSearch
from decoupled.engines.sqlite.stats import SqliteStats
from decoupled.engines.sqlite.tool import ToolDeadLetters


class SqliteSources:
    """Implements Sources. Used by one thread."""

    def __init__(self, directory: DataDirectory, workloads: Collection[str] = (), served: bool = False) -> None:
        """`workloads` are those that are known to be served; `served`: by the server that this process is a part of."""
        self._directory = directory
        self._workloads = workloads
        self._served = served
        self._stats: SqliteStats | None = None
        self._search: SqliteSearch | None = None
        self._file: tuple[int, int] | None = None  # that is open
        self.past = SqlitePast(directory.path)

    def look(self) -> Look:
        self._see_file()
        if self._stats is None:
            with _refusals():
                self._stats = SqliteStats(self._directory)
                _keep_little(self._stats.database)
        with _deadline(self._stats.database):
            return self._stats.look_at_all()

    @property
    def search(self) -> SqliteSearch:
        self._see_file()
        if self._search is None:
            with _refusals():
                self._search = SqliteSearch(self._directory, workloads=self._workloads)
                _keep_little(self._search.database)
        return self._search

    def dead_letters(self) -> ToolDeadLetters:
        with _refusals():  # of its own: it may be locked
            return ToolDeadLetters(DataDirectory(self._directory.path), self._served)

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
        for source in (self._stats, self._search):
            if source is not None:
                source.close()
        self._stats, self._search = None, None


def _keep_little(database: Database) -> None:
    """In memory: a front has connections enough, and these look at most of a file once."""
    database.execute(f"PRAGMA cache_size = -{limits.PAGE_CACHE_KIB}")


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """What cannot be opened is not there for now."""
    try:
        yield
    except DataDirectoryError as error:
        raise StoreUnavailable(str(error)) from error


@contextlib.contextmanager
def _deadline(database: Database) -> Iterator[None]:
    """What takes longer is interrupted, and is unavailable."""
    until = time.monotonic() + limits.LIVE_S
    database.connection.set_progress_handler(lambda: time.monotonic() > until, limits.LOOK_STEPS)
    try:
        yield
    finally:
        database.connection.set_progress_handler(None, 0)
