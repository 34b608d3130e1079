"""`decoupled audit --acknowledge`: a person has looked into what it finds, and says so in the file."""

from __future__ import annotations

from pathlib import Path

from decoupled.cli.person import who
from decoupled.core import acknowledged
from decoupled.core.audit import Acknowledgement, Report
from decoupled.core.times import now_ms
from decoupled.core.upkeep_limits import MAX_ACKNOWLEDGED_CHARS
from decoupled.engines.sqlite import acknowledging
from decoupled.engines.sqlite.data_directory import DataDirectory


def acknowledge_all(data: Path, report: Report, why: str) -> None:
    """Of a data directory, which its server may have; the report says so then. Raises DataDirectoryError, Unavailable,
    or ValueError for too long a text."""
    if len(why) > MAX_ACKNOWLEDGED_CHARS:
        raise ValueError(f"what was found out has {len(why):,} characters; {MAX_ACKNOWLEDGED_CHARS} are kept")
    new = acknowledged.acknowledge(report.faults, Acknowledgement(who(), now_ms(), why.strip()))
    if new:
        acknowledging.keep(DataDirectory(data), new)
        acknowledged.mark(report.alarming, new)
