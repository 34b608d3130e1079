"""What a server may say of itself to the page (`Live`): well, and with each kind of trouble. For tests of what the page
makes of it."""

from __future__ import annotations

from typing import Any

import msgspec

from decoupled.core.overview import Overview
from decoupled.dashboard.shapes import Access, Box, Latency, Live, WorkloadNow

NOW_MS = 1_780_000_000_000
BOXES = ("clients", "front", "queue", "processor", "table", "dead")


def live(**changes: Any) -> Live:
    """A server that is well and takes a thousand orders a second; or with something that is otherwise."""
    well = Live(
        taken_at=NOW_MS,
        system="data directory /srv/shop/.data",
        engine="sqlite",
        version="0.5.0",
        status="ok",
        detail=None,
        access=Access(see=True, change=False, name="", how=["code"]),
        overview=Overview(
            taken_at=NOW_MS,
            queued=3,
            in_flight=12,
            delayed=0,
            dead=0,
            processed=1_204_331,
            rejected=18,
            oldest_age_s=0.02,
            accepted_per_s=1_012.0,
            processed_per_s=1_009.0,
            server="http://127.0.0.1:8080",
        ),
        rejected_per_s=0.0,
        dead_per_s=0.0,
        retried_per_s=0.0,
        accept=Latency(0.0031, 0.0085),
        waiting=Latency(0.004, 0.019),
        processing=Latency(0.00021, 0.0009),
        commit_messages=38.2,
        commit=Latency(0.0008, 0.0021),
        fronts=1,
        workers=2,
        wal_bytes=4_194_304,
        workloads=[
            WorkloadNow("orders", "closed", unfinished=15, accepted_per_s=1_012.0, processed_per_s=1_009.0, form=True)
        ],
        boxes={name: Box("ok") for name in BOXES},
    )
    return msgspec.structs.replace(well, **changes)


def overview(**changes: Any) -> Overview:
    """That of `live`, with other numbers."""
    return msgspec.structs.replace(live().overview, **changes)


def boxes(**changed: Box) -> dict[str, Box]:
    """All well but these."""
    return live().boxes | changed
