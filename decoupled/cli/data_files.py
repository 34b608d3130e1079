"""What commands do with the files of a data directory: audit, copy, restore, recover and compact them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decoupled.core.backups import Holdings, Sealed, Step, Told
    from decoupled.engines.sqlite.audit import SqliteAudit
    from decoupled.engines.sqlite.recovery import Recovered


def audit_of(place: Path, quick: bool) -> SqliteAudit:
    """The audit of a data directory, or of a file that is a copy of its. Raises DataDirectoryError."""
    from decoupled.engines.sqlite.audit import SqliteAudit
    from decoupled.engines.sqlite.data_directory import DataDirectory
    from decoupled.engines.sqlite.database import FILE_NAME, Database

    file = place / FILE_NAME if place.is_dir() or not place.exists() else place
    live = file.name == FILE_NAME and DataDirectory(file.parent).server_url() is not None
    still = file.name != FILE_NAME and not Path(f"{file}-wal").exists()
    return SqliteAudit(Database(file, read_only=True, still=still), str(file), live, quick)


def recover_data(data: Path, target: Path) -> Recovered:
    """See `engines/sqlite/recovery.py`. Raises DataDirectoryError."""
    from decoupled.engines.sqlite.data_directory import DataDirectory
    from decoupled.engines.sqlite.database import DataDirectoryError
    from decoupled.engines.sqlite.recovery import recover, recover_history, recover_keys

    source, new = DataDirectory(data), DataDirectory(target)
    if (url := source.server_url()) is not None:
        raise DataDirectoryError(f"the server of {data} still runs, at {url}: stop it first")
    if not source.file.exists():
        raise DataDirectoryError(f"there is no {source.file}")
    if new.file.exists():
        raise DataDirectoryError(f"{new.file} is there already; name a new directory")
    with contextlib.closing(new.own()) as whole:
        recovered = recover(source.file, whole)
    recover_keys(data, target, recovered)
    recover_history(data, target, recovered)
    return recovered


def compact_data(data: Path) -> tuple[int, int]:
    """See `engines/sqlite/compaction.py`; bytes before, and now. Raises DataDirectoryError or Unavailable."""
    from decoupled.engines.sqlite.compaction import compact
    from decoupled.engines.sqlite.data_directory import DataDirectory
    from decoupled.engines.sqlite.database import DataDirectoryError

    if not (directory := DataDirectory(data)).file.exists():
        raise DataDirectoryError(f"there is no {directory.file}")
    before, after = compact(directory)
    return before.file_bytes, after.file_bytes


def back_up(data: Path, to: Path, show: Callable[[Told], None]) -> Sealed:
    """See `engines/sqlite/backup_tool.py`. Raises DataDirectoryError or Unavailable."""
    from decoupled.engines.sqlite.backup_tool import back_up
    from decoupled.engines.sqlite.data_directory import DataDirectory

    return back_up(DataDirectory(data), to, show)


def restore_data(source: Path, data: Path, tell: Callable[[Step], None]) -> tuple[Path, Holdings, list[str]]:
    """See `engines/sqlite/restoring.py`; and which file it was. Raises DataDirectoryError or OSError."""
    from decoupled.engines.sqlite.restoring import restore, source_of

    file = source_of(source)
    return file, *restore(file, data, tell)


def restore_replica(target: str, data: Path, at: int | None, tell: Callable[[Step], None]) -> tuple[int, Holdings]:
    """See `engines/sqlite/point_in_time.py`. Raises DataDirectoryError or OSError."""
    from decoupled.engines.sqlite.point_in_time import restore_at

    return restore_at(target, data, at, tell)
