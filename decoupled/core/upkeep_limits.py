"""Limits of what is done for the years: of retention, backups, audits. What bounds requests and messages stands in
`limits.py`."""

from __future__ import annotations

BLOCK_MESSAGES = 65_536  # numbers of messages in a block of the ledger: a row's block is its number divided by this
