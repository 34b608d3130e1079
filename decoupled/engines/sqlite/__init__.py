"""One machine: queue, table and dead letters in one SQLite file. The only room that imports sqlite3."""
