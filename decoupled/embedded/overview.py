"""Counts the messages of a data directory beside its server, by indexes alone: no row of a large table is read. What
only the server knows, the breakers, it is asked over HTTP."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import msgspec

from decoupled.embedded.database import Database, DataDirectory
from decoupled.embedded.queue import system_clock_ms
from decoupled.overview import Overview

HEALTH_TIMEOUT_S = 2.0


class SqliteOverview:
    """Implements `decoupled.overview.Source`."""

    def __init__(self, directory: DataDirectory, clock_ms: Callable[[], int] = system_clock_ms) -> None:
        self.directory = directory
        self.database = Database(directory.file, create=False)
        self.clock_ms = clock_ms

    def look(self) -> Overview:
        """As in the protocol."""
        now = self.clock_ms()
        self.database.execute("BEGIN")  # all counts are of the same moment
        try:
            total = self._one("SELECT count(*) FROM messages")
            unfinished, visible, oldest = self.database.execute(
                """
                SELECT count(*), coalesce(sum(visible_at <= ?), 0), min(seq)
                FROM messages INDEXED BY messages_queued WHERE status = 'queued'
                """,
                (now,),
            ).fetchone()
            in_flight = self._one(
                """
                SELECT coalesce(sum(in_flight), 0) FROM messages INDEXED BY messages_queued
                WHERE status = 'queued' AND visible_at > ?
                """,
                now,
            )
            since = None if oldest is None else self._one("SELECT accepted_at FROM messages WHERE seq = ?", oldest)
            dead = self._one("SELECT count(*) FROM messages WHERE status = 'dead'")
            rejected = self._one("SELECT count(*) FROM messages WHERE status = 'rejected'")
        finally:
            self.database.roll_back()
        server = self.directory.server_url()
        breakers, notes = _ask(server) if server else (None, [])
        return Overview(
            taken_at=now,
            queued=visible,
            in_flight=in_flight,
            delayed=unfinished - visible - in_flight,
            dead=dead,
            processed=total - unfinished - dead - rejected,
            rejected=rejected,
            oldest_age_s=None if since is None else max(0.0, (now - since) / 1000),
            server=server,
            breakers=breakers,
            notes=notes,
        )

    def _one(self, statement: str, *values: Any) -> int:
        number: int = self.database.execute(statement, values).fetchone()[0]
        return number

    def close(self) -> None:
        """Close the connection."""
        self.database.close()


class _Health(msgspec.Struct):
    breakers: dict[str, dict[str, Any]]
    detail: str | None = None


def _ask(server: str) -> tuple[dict[str, dict[str, Any]] | None, list[str]]:
    """The breakers' states, and what there is to note."""
    try:
        try:
            with urllib.request.urlopen(f"{server}/health", timeout=HEALTH_TIMEOUT_S) as answer:  # noqa: S310  our own server, by http
                body = answer.read()
        except urllib.error.HTTPError as refusal:
            body = refusal.read()  # 503 with the same members: it cannot accept, and says why
        health = msgspec.json.decode(body, type=_Health)
    except (OSError, msgspec.DecodeError) as error:
        return None, [f"the server does not answer GET /health: {error}"]
    return health.breakers, [f"nothing can be accepted: {health.detail}"] if health.detail else []


def effects(database: Database, marker: str) -> dict[str, int]:
    """How many processed records there are for each customer address with this marker in it: what `decoupled spike`
    sent, counted where effects are, whatever the ids."""
    rows = database.execute(
        """
        SELECT json_extract(result, '$.customer.email') AS address, count(*) FROM messages
        WHERE status = 'processed' AND instr(result, ?) > 0 GROUP BY address
        """,
        (marker,),
    )
    return dict(rows.fetchall())
