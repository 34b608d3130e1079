"""The directory that a server keeps its own backups in: which is the last good one, and which are too many. A file
there counts that has such a name, and says of itself that it is of this data directory; no other one is touched."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from decoupled.core.backups import Sealed
from decoupled.engines.sqlite.backup import sealed_of
from decoupled.engines.sqlite.backup_names import backups_in, parts_in
from decoupled.engines.sqlite.live_copy import BackupError


class BackupPlace:
    """Used by one thread at a time."""

    def __init__(self, directory: Path, data: Path) -> None:
        self._directory = directory
        self._data = str(data.resolve())

    def last(self) -> tuple[Path, Sealed] | None:
        """The newest. Raises OSError."""
        return next(self._ours(), None)

    def times(self) -> list[int]:
        """As of when each of them is, newest first; in ms since the epoch. Raises OSError."""
        return [sealed.at for _, sealed in self._ours()]

    def rotate(self, keep: int) -> list[Path]:
        """Delete those beyond so many of the newest, oldest first, and what was begun and given up by a server that was
        killed; those that are gone. Raises OSError."""
        gone = [path for path, _ in self._ours()][keep:][::-1]
        gone += [part for part in parts_in(self._directory) if _is_nobodys(part)]
        for path in gone:
            path.unlink(missing_ok=True)
        return gone

    def _ours(self) -> Iterator[tuple[Path, Sealed]]:
        """Newest first."""
        for path in reversed(backups_in(self._directory)):
            with contextlib.suppress(BackupError):  # no backup, or a damaged one: somebody may want to look at that
                if (sealed := sealed_of(path)) is not None and sealed.of == self._data:
                    yield path, sealed


def _is_nobodys(part: Path) -> bool:
    """Whether nobody is writing it."""
    try:
        descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
