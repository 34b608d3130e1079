"""Makes a data directory of a replica, as it was at a moment: Litestream fetches the file, and then it is restored as a
backup is, verified before and after it is copied."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from decoupled.core.backups import Holdings, Step
from decoupled.engines.sqlite import litestream
from decoupled.engines.sqlite.database import FILE_NAME
from decoupled.engines.sqlite.restoring import Tell, refuse_a_database, restore


def restore_at(target: str, data: Path, at: int | None, tell: Tell) -> tuple[int, Holdings]:
    """As of when it is, in ms since the epoch, and what it holds; whole or not at all. `at`: see `litestream.fetch`.
    For a moment the file is there twice. Raises DataDirectoryError or OSError."""
    refuse_a_database(data)  # before much is fetched
    data.absolute().parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{data.name}.", dir=data.absolute().parent))  # for its owner's eyes
    try:
        tell(Step("fetching", 0, 0))
        as_of = litestream.fetch(target, beside / FILE_NAME, at)
        holds, _ = restore(beside / FILE_NAME, data, tell)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return as_of, holds
