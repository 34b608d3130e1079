"""`decoupled restore --at`: which replica and which moment are meant, and what is said of what was restored."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import click

from decoupled.cli.backup import shown
from decoupled.cli.data_files import audit_of, restore_replica
from decoupled.core.replicas import moment
from decoupled.core.replicas import shown as place_of
from decoupled.core.times import now_ms, rfc3339
from decoupled.server.configuration import FILE, from_process


def restore_at(replica: str | None, when: str, data: Path) -> None:
    """Ends the command with status 1 if the audit finds something. Raises ValueError, DataDirectoryError or OSError."""
    target = replica or from_process().replica
    if target is None:
        raise ValueError(f"which replica? Name it with --replica URL|DIR, or as `replica` in {FILE}")
    at = moment(when, now_ms())
    with shown() as show:
        as_of, holds = restore_replica(target, data, at, show)
    click.echo(f"restored {place_of(target)} to {data}, as of {rfc3339(as_of).removesuffix('.000Z')}Z: {holds.says()}")
    found = audit_of(data, quick=True)  # SQLite's own check was made while it was restored
    with contextlib.closing(found.database):
        report = found.run(lambda _what, _done, _of: None, ())
    click.echo(f"audited: {report.balance}")
    for fault in report.faults:
        click.echo(fault.says)
    if report.faults:
        sys.exit(1)
