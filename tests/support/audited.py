"""What an audit says of a file to which nothing bad has happened: nothing. For histories of chance, at their ends."""

from __future__ import annotations

from decoupled.core.audit import Report
from decoupled.engines.sqlite.audit import SqliteAudit
from decoupled.engines.sqlite.database import Database


def sound(database: Database) -> Report:
    """Fails with the faults that there are. The database is used by nobody else meanwhile."""
    report = SqliteAudit(database, "", live=False).run()
    database.connection.set_progress_handler(None, 0)
    assert not report.faults, [fault.says for fault in report.faults]
    assert not report.unchecked
    assert report.accepted == sum(report.counts.values()) + sum((report.removed or {}).values())
    return report
