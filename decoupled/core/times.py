"""Times: milliseconds since the epoch inside, RFC 3339 where people and stores read them. Every time that comes from
outside is read here."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

_MILLISECONDS = re.compile(r"[0-9]{1,14}")  # until the year 5138, which datetime can still tell


def now_ms() -> int:
    """The system's clock, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def parse_ms(text: str) -> int | None:
    """Milliseconds since the epoch from their decimal digits; None for what is no time that can be told."""
    return int(text) if _MILLISECONDS.fullmatch(text) else None


def rfc3339(ms: int) -> str:
    """Milliseconds since the epoch as 2026-11-23T10:15:30.123Z, which sorts as text."""
    instant = datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000, tzinfo=None)
    return instant.isoformat(timespec="milliseconds") + "Z"


def parse_rfc3339(text: str) -> int:
    """The other way round, exactly. Raises ValueError for what is no time."""
    instant = datetime.fromisoformat(text)
    return int(instant.replace(microsecond=0).timestamp()) * 1000 + instant.microsecond // 1000
