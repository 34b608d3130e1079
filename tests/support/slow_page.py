"""A server whose page is in the middle of a statement for as long as the file is there that its first argument names:
`python -m tests.support.slow_page FILE serve ...`."""

from __future__ import annotations

import sys
from pathlib import Path

from decoupled.cli.main import main
from decoupled.core.overview import Look
from decoupled.engines.sqlite.stats import SqliteStats

HELD = Path(sys.argv.pop(1))
as_ever = SqliteStats.look_at_all


def look_at_all(stats: SqliteStats) -> Look:
    """First a statement that ends when the file is gone: then it is interrupted, and the look is that of every day."""
    connection = stats.database.connection
    connection.set_progress_handler(lambda: not HELD.exists(), 100_000)
    HELD.with_suffix(".busy").touch()
    try:
        connection.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")
    except Exception as error:
        if "interrupted" not in str(error):
            raise
    finally:
        connection.set_progress_handler(None, 0)
    return as_ever(stats)


if __name__ == "__main__":
    SqliteStats.look_at_all = look_at_all  # type: ignore[assignment, method-assign]
    main()
