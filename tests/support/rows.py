"""Rows of a data directory's file, made without a server: many of them fast, or a few that chance makes. For tests
only."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from decoupled.core.identifiers import derived_id
from decoupled.core.search import Sought
from decoupled.engines.sqlite.database import FILE_NAME, Database

T0 = 1_700_000_000_000
WORKLOADS, CALLERS, GROUPS = ("orders", "payments"), ("anonymous", "ada", "bob"), ("", "ada", "shop.example")
ERRORS = (("KeyError", "no product 'Café-{n}'"), ("ValueError", "100% of order_{n} is over"), (None, None))

MILLION = """
INSERT INTO messages (status, visible_at, receive_count, id, workload, accepted_at, caller, result, finished_at)
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :rows)
SELECT 'processed', n, 1, printf('%012x%021x', :t0 + n, n), 'orders', :t0 + n, 'caller-' || (n % 100), '{}', :t0 + n
FROM numbers
"""


def many(directory: Path, rows: int) -> None:
    """So many processed messages, one a millisecond from T0 on."""
    _made(directory)
    with contextlib.closing(sqlite3.connect(directory / FILE_NAME)) as file:
        file.execute("PRAGMA synchronous = OFF")
        file.execute(MILLION, {"rows": rows, "t0": T0})
        file.commit()


def by_chance(directory: Path, random: Random, rows: int) -> list[dict[str, Any]]:
    """Messages as a server may have stored them: in the order of the clock, but with the times of those they come from,
    when they were emitted. The oldest first."""
    made = [_row(random, n) for n in range(1, rows + 1)]
    _made(directory)
    with contextlib.closing(sqlite3.connect(directory / FILE_NAME)) as file:
        columns = ", ".join(made[0])
        values = ", ".join(f":{name}" for name in made[0])
        file.executemany(f"INSERT INTO messages ({columns}) VALUES ({values})", made)  # noqa: S608  the names are ours
        file.commit()
    return made


def _made(directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    Database(directory / FILE_NAME).close()


def _row(random: Random, n: int) -> dict[str, Any]:
    stored_at = T0 + 10 * n
    emitted = random.random() < 0.2
    imported = random.random() < 0.1
    status = "dead" if imported else random.choice(("queued", "processed", "processed", "rejected", "dead"))
    error_type, error = random.choice(ERRORS)
    accepted_at = random.randint(T0, stored_at) if emitted or imported else stored_at
    ended_at = random.randint(accepted_at if imported else stored_at, stored_at + 200)
    return {
        "seq": n + n // 50 * 7,  # with gaps, as a recovery leaves them
        "id": derived_id(str(n)) if emitted else f"{stored_at:012x}{n:021x}",
        "status": status,
        "workload": random.choice(WORKLOADS),
        "caller": random.choice(CALLERS),
        "message_group": random.choice(GROUPS),
        "accepted_at": accepted_at,
        "visible_at": stored_at,
        "finished_at": None if status == "queued" else ended_at,
        "error_type": error_type,
        "error": error and error.format(n=n),
        "reason": "not in Stock" if status == "rejected" else None,
    }


def sought(random: Random, rows: Sequence[dict[str, Any]]) -> Sought:
    """Something to look for."""
    some = random.choice(rows)
    may: dict[str, Any] = {
        "id": some["id"],
        "workload": random.choice((*WORKLOADS, "nothing")),
        "caller": random.choice(CALLERS),
        "group": random.choice(GROUPS),
        "status": random.choice(("queued", "processed", "rejected", "dead")),
        "error": random.choice(("KeyError", "no PRODUCT", "CAFÉ", "100%", "order_", "r_o", "stock", f"{some['seq']}")),
        "accepted_after": some["accepted_at"],
        "accepted_before": random.choice(rows)["accepted_at"],
    }
    return Sought(
        **{name: value for name, value in may.items() if random.random() < 0.25}, limit=random.choice((3, 50))
    )


def expected(asked: Sought, rows: Sequence[dict[str, Any]]) -> list[str]:
    """The ids of all that are meant, in order: by a plain look at each."""
    found = [row for row in rows if _is_meant(asked, row)]
    by_end = asked.status in ("dead", "rejected") and asked.id is None
    found.sort(key=lambda row: (row["finished_at"] if by_end else 0, row["seq"]), reverse=True)
    return [row["id"] for row in found]


def _is_meant(asked: Sought, row: dict[str, Any]) -> bool:
    texts = [(row["error"] or "").casefold(), (row["reason"] or "").casefold()]
    return (
        all(
            wanted is None or row[name] == wanted
            for name, wanted in (
                ("id", asked.id),
                ("workload", asked.workload),
                ("caller", asked.caller),
                ("message_group", asked.group),
                ("status", asked.status),
            )
        )
        and (asked.accepted_after is None or row["accepted_at"] >= asked.accepted_after)
        and (asked.accepted_before is None or row["accepted_at"] <= asked.accepted_before)
        and (
            asked.error is None
            or row["error_type"] == asked.error
            or any(asked.error.casefold() in text for text in texts)
        )
    )
