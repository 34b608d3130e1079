"""How backups are called that are named by their time, and which of a directory's files are such. Nothing else is ever
deleted there."""

from __future__ import annotations

import re
import time
from pathlib import Path

_NAME = re.compile(r"decoupled-(\d{8}T\d{6}Z)\.sqlite3")
_TIME = "decoupled-%Y%m%dT%H%M%SZ.sqlite3"


def name_at(now_ms: int) -> str:
    """Of a backup that is begun then."""
    return time.strftime(_TIME, time.gmtime(now_ms / 1000))


def backups_in(place: Path) -> list[Path]:
    """Oldest first. Raises OSError."""
    return sorted(path for path in place.iterdir() if _NAME.fullmatch(path.name) and path.is_file())


def newest(place: Path) -> Path | None:
    """Of them. Raises OSError."""
    found = backups_in(place)
    return found[-1] if found else None


def parts_in(place: Path) -> list[Path]:
    """Those that were begun, and have not got their names: be it that one is being written. Raises OSError."""
    return [path for path in place.iterdir() if path.suffix == ".part" and _NAME.fullmatch(path.stem)]
