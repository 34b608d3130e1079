"""Limits of what is done for the years: of retention, backups, audits. What bounds requests and messages stands in
`limits.py`."""

from __future__ import annotations

BLOCK_MESSAGES = 65_536  # numbers of messages in a block of the ledger: a row's block is its number divided by this

NOTIFY_EVERY_S = 5.0  # between two times that a service manager is told how it goes, at most
NOTICE_BYTES = 4_096  # that it is told at a time: what systemd reads
STOP_GENTLY_S = 1.0  # for clients to be answered once more, where those that come anew wait for the next server
